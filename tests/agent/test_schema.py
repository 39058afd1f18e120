"""The published schema is that of the code."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "protocol_schema.py"))


def test_the_published_schema_is_that_of_the_code():
    published = (ROOT / "docs" / "agent-protocol.schema.json").read_text()
    assert published == SCRIPT["text"](), "run: python scripts/protocol_schema.py"


def test_every_reference_leads_somewhere():
    document = SCRIPT["schema"]()
    names = {part.split('"')[0] for part in json.dumps(document).split('"#/$defs/')[1:]}
    assert names <= document["$defs"].keys()
    assert {"Report", "EnrolRequest", "AckRequest", "Gap"} <= document["$defs"].keys()
