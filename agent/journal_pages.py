"""What of a journal goes into a page, checked as it is read: the centre would refuse a broken chain for ever."""

from collections.abc import Iterator
from typing import Final

from agent.journal_check import DamagedError, read_link
from agent.journal_file import Head, JournalFile
from agent.protocol.entries import digest_of
from agent.protocol.journal import MAX_PAGE_BYTES

_FRAME_BYTES: Final = 400  # the members of a page around its entries, at most
_HOLE_BYTES: Final = 48


def fitting_entries(file: JournalFile, head: Head, after: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """The entries of a page, each checked against the next. Raises DamagedError, ValueError."""
    rows = file.db.execute(
        "SELECT seq, bytes FROM entry WHERE site = ? AND seq > ? ORDER BY seq LIMIT ?", (head.row, after, limit + 1)
    )
    left_bytes = MAX_PAGE_BYTES - _FRAME_BYTES
    last, digest, count = after, "", 0
    for seq, raw in rows:
        link = read_link(raw)
        follows = seq == last + 1
        if link.seq != seq or (follows and digest and link.prev != digest):
            raise DamagedError(f"entry {last}")
        left_bytes -= len(raw) + 1 + (0 if follows else _HOLE_BYTES)
        if count == limit or (left_bytes < 0 and count):
            return
        yield seq, raw
        last, digest, count = seq, digest_of(raw), count + 1
    if (last, digest) != (head.seq, head.digest):
        raise DamagedError("the head is another")


def digest_at(file: JournalFile, head: Head, seq: int) -> str | None:
    """The digest of an entry, from itself or from the one after it; None when both are gone."""
    query = "SELECT bytes FROM entry WHERE site = ? AND seq = ?"
    row = file.db.execute(query, (head.row, seq)).fetchone()
    if row is not None:
        return digest_of(row[0])
    row = file.db.execute(query, (head.row, seq + 1)).fetchone()
    return None if row is None else read_link(row[0]).prev
