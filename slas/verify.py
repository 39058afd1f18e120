"""`python -m slas.verify FILE`: recomputes an evidence bundle offline, with the pure engine and no database.

Prints one JSON object a vector, and on standard error what is known of the signature. Exit codes: 2 bad input or a
signature that does not fit (one clear line), else 1 where a figure differs from its `expect`, else 3 signed but the
package `cryptography` is missing, else 0.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from slas.bundle import BundleError, Vector, read_vectors
from slas.envelope import Opened, open_bundle
from slas.recomputing import computed

OK, DIFFERS, BAD, UNCHECKED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the file that is named; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m slas.verify", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--key", default="", help="the SHA-256 of the key that must have signed it, in hex")
    options = parser.parse_args(arguments)
    try:
        opened = open_bundle(options.file.read_bytes(), key_id=options.key)
        vectors = read_vectors(opened.value)
    except BundleError as error:
        return _bad(str(error))
    except OSError as error:
        return _bad(f"{options.file}: {error.strerror}")
    differ = [vector for vector in vectors if not _shown(vector)]
    _tell(opened, len(vectors), [vector.name for vector in differ])
    if differ:
        return DIFFERS
    return UNCHECKED if opened.signature == "unchecked" else OK


def _shown(vector: Vector) -> bool:
    """Print a vector's figures; whether they are as expected."""
    answer = computed(vector)
    differs = _differences(answer, vector.expect or {})
    line: dict[str, Any] = {"name": vector.name, **answer}
    if vector.expect is not None:
        line["ok"] = not differs
    if differs:
        line["differs"] = differs
    sys.stdout.write(json.dumps(line, default=float, ensure_ascii=False) + "\n")
    return not differs


def _differences(answer: Mapping[str, Any], expect: Mapping[str, Any]) -> list[str]:
    return [name for name, wanted in expect.items() if not _same(answer.get(name), wanted)]


def _same(found: Any, wanted: Any) -> bool:
    numbers = (int, Decimal)
    if isinstance(found, numbers) and isinstance(wanted, numbers) and not isinstance(wanted, bool):
        return Decimal(found) == Decimal(wanted)
    return type(found) is type(wanted) and bool(found == wanted)


def _tell(opened: Opened, count: int, differ: Sequence[str]) -> None:
    words = opened.signature if opened.signature == "none" else f"{opened.signature}, key sha256:{opened.key_id}"
    _say(f"signature: {words}")
    if opened.signature == "unchecked":
        _say("the package `cryptography` is missing: install it to check the signature")
    if differ:
        _say(f"{len(differ)} of {count} differ: {', '.join(differ[:5])}")


def _bad(reason: str) -> int:
    _say(reason)
    return BAD


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    raise SystemExit(main())
