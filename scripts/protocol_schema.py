"""Writes docs/agent-protocol.schema.json: the JSON Schema of all that agents and the centre say, from the code.

Usage: python scripts/protocol_schema.py. A test holds the file against the code.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "agent-protocol.schema.json"


def schema() -> dict[str, Any]:
    """One document; the messages are in `$defs`, by name."""
    sys.path.insert(0, str(ROOT))
    from agent.protocol import Report, desired, entries, identity, journal

    bodies = (entries.Alive, entries.Start, entries.Components, entries.Receipt, entries.Access, entries.Gap)
    messages = (
        *(Report, identity.Join, identity.EnrolRequest, identity.EnrolAnswer, identity.Certificates),
        *(identity.NonceAnswer, identity.RenewRequest, identity.RootsAnswer, identity.Refusal, identity.TakenAnswer),
        *(journal.AckRequest, journal.AckAnswer, *bodies),
        *(desired.Document, desired.WorkloadConfig, desired.PutDesired, desired.PutBlob, desired.DesiredStatus),
    )
    _, components = msgspec.json.schema_components(messages, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Archipelago agent protocol 1",
        "description": "Messages by name. Rules that no schema carries are in agent.md.",
        "$defs": dict(sorted(components.items())),
    }


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
