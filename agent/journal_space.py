"""What a journal drops to stay within its bound, in which order, and the gap entries that say so."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from agent.journal_file import Draft, Head, JournalFile
from agent.protocol.entries import ENTRY_KINDS, EntryKind, Gap, read_entry

KEPT: Final = timedelta(days=30)
FIRST_TO_GO: Final[tuple[EntryKind, ...]] = ("sample", "alive")
_BATCH: Final = 500


@dataclass(slots=True)
class _Loss:
    """What one site loses in one go."""

    first: int
    last: int
    lost: Counter[EntryKind] = field(default_factory=Counter)


def is_short(file: JournalFile, bound_bytes: int) -> bool:
    """Whether it is time to make room: less than an eighth of the bound is left."""
    return file.used_bytes() > bound_bytes * 7 // 8


def forget_acknowledged(file: JournalFile, heads: dict[UUID, Head], bound_bytes: int, now: datetime) -> None:
    """Within a transaction: delete acknowledged entries that are old, and more while over half the bound is used.

    The last entry of a site stays. Raises sqlite3.Error.
    """
    cutoff_ms = int((now - KEPT).timestamp() * 1_000)
    for head in heads.values():
        young = file.db.execute(
            "SELECT seq FROM entry WHERE site = ? AND at_ms >= ? ORDER BY seq LIMIT 1", (head.row, cutoff_ms)
        ).fetchone()
        first_kept = min(head.seq, head.acked + 1, young[0] if young else head.seq)
        file.db.execute("DELETE FROM entry WHERE site = ? AND seq < ?", (head.row, first_kept))
    while file.used_bytes() > bound_bytes // 2:
        done = file.db.execute(
            "DELETE FROM entry WHERE id IN (SELECT entry.id FROM entry CROSS JOIN site ON site.id = entry.site"
            " WHERE entry.seq <= site.acked AND entry.seq < site.seq ORDER BY entry.id LIMIT ?)",
            (_BATCH,),
        )
        if not done.rowcount:
            return


def drop_unacknowledged(file: JournalFile, heads: dict[UUID, Head], bound_bytes: int) -> dict[UUID, Head]:
    """Within a transaction: drop entries until a quarter of the bound is free, and write for each site what went.

    The oldest samples go first, then the oldest signs of life, then the oldest of all. Returns the new heads of the
    sites that lost some. Raises sqlite3.Error or OSError.
    """
    losses: dict[int, _Loss] = {}
    for kinds in ((FIRST_TO_GO[0],), (FIRST_TO_GO[1],), ENTRY_KINDS):
        while file.used_bytes() > bound_bytes * 3 // 4:
            if not _drop_oldest(file, kinds, losses):
                break
    sites = {head.row: site for site, head in heads.items()}
    drafts = [_gap(file, sites[row], row, loss) for row, loss in sorted(losses.items())]
    return file.append(heads, drafts) if drafts else {}


def _drop_oldest(file: JournalFile, kinds: tuple[EntryKind, ...], losses: dict[int, _Loss]) -> bool:
    """Drop one batch of the oldest entries of these kinds, heads apart. False when there are none."""
    codes = [ENTRY_KINDS.index(kind) for kind in kinds]
    marks = ", ".join("?" * len(codes))
    rows = file.db.execute(
        "SELECT entry.id, entry.site, entry.seq, entry.kind, entry.bytes"  # noqa: S608  # only question marks are put in
        " FROM entry CROSS JOIN site ON site.id = entry.site"
        f" WHERE entry.kind IN ({marks}) AND entry.seq < site.seq ORDER BY entry.id LIMIT ?",
        (*codes, _BATCH),
    ).fetchall()
    file.db.executemany("DELETE FROM entry WHERE id = ?", [(row[0],) for row in rows])
    for _, site, seq, code, raw in rows:
        loss = losses.setdefault(site, _Loss(seq, seq))
        kind = ENTRY_KINDS[code]
        first, last = seq, seq
        loss.lost[kind] += 1
        if kind == "gap":  # what it said must still be said
            body = read_entry(raw).body
            assert isinstance(body, Gap)
            loss.lost.update(body.lost)
            if body.to_seq >= body.from_seq:
                first, last = body.from_seq, max(seq, body.to_seq)
        loss.first, loss.last = min(loss.first, first), max(loss.last, last)
    return bool(rows)


def _gap(file: JournalFile, site: UUID, row: int, loss: _Loss) -> Draft:
    """The gap entry; its moment is that of the site's entry before, the last that is known here."""
    query = "SELECT bytes FROM entry WHERE site = ? ORDER BY seq DESC LIMIT 1"
    (raw,) = file.db.execute(query, (row,)).fetchone()
    before = read_entry(raw)
    gap = Gap(loss.first, loss.last, dict(loss.lost), "bound")
    return Draft(site, gap, before.boot, before.mono_ms, before.at)
