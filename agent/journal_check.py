"""Whether the entries in a journal file are what was written: each in its place, each chained to the one before."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

import msgspec

from agent.protocol import ProtocolError
from agent.protocol.entries import ENTRY_KINDS, EntryKind, Gap, GapReason, digest_of, read_entry

_MANY: Final = 2**62


class DamagedError(Exception):
    """The file does not hold what was written to it."""


# What reading rows of another shape than ours may raise.
DAMAGE: Final = (DamagedError, ProtocolError, LookupError, TypeError, ValueError)


class Link(msgspec.Struct, gc=False):
    """What chains an entry."""

    seq: int
    prev: str
    kind: EntryKind


_decoder: Final = msgspec.json.Decoder(Link)


def read_link(raw: bytes) -> Link:
    """The link of an entry from its bytes. Raises ValueError."""
    return _decoder.decode(raw)


def read_meta(db: sqlite3.Connection) -> tuple[int, GapReason | None, int, bool | None]:
    """The first number less one, why the file was begun anew, its commits, and whether it was closed.

    Raises sqlite3.Error or ValueError.
    """
    row = db.execute("SELECT base, reason, commits, clean FROM meta").fetchone()
    base, reason, commits, clean = msgspec.convert(row, tuple[int, GapReason | None, int, int | None])
    return base, reason, commits, None if clean is None else bool(clean)


def check_entries(db: sqlite3.Connection, tail: int | None) -> None:
    """Check the last `tail` entries of each site, or with None every page of the file and every entry.

    Where numbers are missing a gap entry must say so, unless they had been acknowledged. Raises DamagedError,
    ValueError or sqlite3.Error.
    """
    if tail is None and db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise DamagedError("pages")
    strangers = "SELECT count(*) FROM entry WHERE site NOT IN (SELECT id FROM site)"
    if tail is None and db.execute(strangers).fetchone() != (0,):
        raise DamagedError("entries of no site")
    for uuid, *numbers in db.execute("SELECT uuid, id, seq, acked, digest FROM site").fetchall():
        UUID(bytes=uuid)
        site, seq, acked, digest = msgspec.convert(numbers, tuple[int, int, int, str])
        after = seq - (_MANY if tail is None else tail)
        rows = db.execute("SELECT seq, kind, bytes FROM entry WHERE site = ? AND seq > ? ORDER BY seq", (site, after))
        _check_site(rows, seq, digest, acked if tail is None else None)


def _check_site(rows: Iterable[tuple[int, int, bytes]], last: int, head: str, acked: int | None) -> None:
    """Check the rows of a site in order, the last of which must be the head; `acked` None: they need not be all."""
    expected, digest = 0, ""
    holes: list[tuple[int, int]] = []
    gaps: list[tuple[int, int]] = []
    for seq, kind, raw in rows:
        link = read_link(raw)
        if link.seq != seq or ENTRY_KINDS[kind] != link.kind:
            raise DamagedError(f"entry {seq} in another's place")
        if not expected:
            expected = seq if acked is None else min(seq, acked + 1)
        if seq != expected:
            holes.append((expected, seq - 1))
        elif digest and link.prev != digest:
            raise DamagedError(f"entry {seq} does not follow the one before")
        expected, digest = seq + 1, digest_of(raw)
        if link.kind == "gap":
            body = read_entry(raw).body
            assert isinstance(body, Gap)
            gaps.append((body.from_seq, body.to_seq))
    if expected != last + 1 or digest != head:
        raise DamagedError("the head is another")
    if acked is not None and any(True for _ in _unexplained(holes, sorted(gaps))):
        raise DamagedError("entries are missing")


def _unexplained(holes: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The holes that gaps, sorted by where they begin, do not cover."""
    for first, last in holes:
        reached = first
        for begin, end in gaps:
            if begin > reached:
                break
            reached = max(reached, end + 1)
        if reached <= last:
            yield first, last
