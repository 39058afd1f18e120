"""Whether the collected static files are those of this checkout: hashing and compressing them takes a while."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.stack.state import ROOT

COLLECTED = ROOT / "staticfiles"
STAMP = COLLECTED / ".collected-from"
# What the packages bring changes with their versions.
SOURCES = (ROOT / "constraints.txt", ROOT / "fleet" / "kit" / "static.py", ROOT / "fleet" / "settings.py")


@contextmanager
def collecting() -> Iterator[bool]:
    """Tell whether static files must be collected; when the block ends well, they count as collected."""
    wanted = _fingerprint()
    try:
        current = STAMP.read_text() == wanted
    except OSError:
        current = False
    yield not current
    if not current:
        STAMP.write_text(wanted)


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted([*SOURCES, *_files(ROOT / "static")]):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
