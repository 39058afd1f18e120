"""The mark beside a journal, which outlives it.

It is a small file `NAME.mark` with two numbers. `reserved` is raised in steps before a number above it is used, so
whatever becomes of the journal, no number is given twice. `commits` follows each commit, so a journal that was
replaced by an older copy of itself is noticed.
"""

import os
from pathlib import Path

import msgspec

from agent.protocol.kinds import settle


class Mark(msgspec.Struct, frozen=True):
    """What the journal is known to have used; see the module."""

    reserved: int
    commits: int


def read_mark(path: Path) -> tuple[Mark | None, bool]:
    """The mark, and whether that is all there is to know: a mark that is there but unreadable is (None, False)."""
    try:
        return msgspec.json.decode(_mark_path(path).read_bytes(), type=Mark), True
    except FileNotFoundError:
        return None, True
    except ValueError:
        return None, False


def write_mark(path: Path, mark: Mark) -> None:
    """Replace the mark of the journal at `path`, durably. Raises OSError."""
    target = _mark_path(path)
    fresh = target.with_name(target.name + ".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(mark))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _mark_path(path: Path) -> Path:
    return path.with_name(path.name + ".mark")


settle(__name__)
