"""The journal of a site, or of many that share one file: append, read, acknowledge, and keep within a bound.

An entry is on disk, whole, before its number is told to anybody, and no number is ever used for two entries. What
cannot be written now (no room, a failing disk) waits in memory, bounded, and what is lost there is written as a gap
as soon as something can be written again. A file that is missing, truncated, edited, corrupt or an older copy is set
aside and a new one begins above every number that may have been used; its first entry is a gap that says why.

Nothing here is safe to call from two threads at once; one thread after the other is fine. Writing blocks for as long
as the disk takes to sync.
"""

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from agent.journal_check import DAMAGE
from agent.journal_file import Draft, Head, InUseError, JournalFile, is_damage, is_full, open_file
from agent.journal_pages import digest_at, fitting_entries
from agent.journal_space import FIRST_TO_GO, drop_unacknowledged, forget_acknowledged, is_short
from agent.protocol import ProtocolError
from agent.protocol.entries import (
    GENESIS,
    Body,
    Entry,
    EntryKind,
    Gap,
    decode_entry,
    digest_of,
    encode_entry,
    kind_of,
)
from agent.protocol.journal import (
    MAX_PAGE_ENTRIES,
    AckAnswer,
    AckRequest,
    Excerpt,
    holes_between,
)

T = TypeVar("T")
MIN_BOUND_BYTES: Final = 4 << 20
HELD: Final = 1_000
_TRIAL: Final = 2**63 - 1

log = logging.getLogger("agent")


class JournalError(Exception):
    """The journal cannot do that now; the message says why in one line."""


class AheadError(JournalError):
    """Asked for what comes after a number that was never written."""


class Journal:
    """See the module. `renewals` counts the files that had to be begun anew since open() was called."""

    def __init__(
        self, path: Path, *, bound_bytes: int, tail: int | None, held_limit: int, now_s: Callable[[], float]
    ) -> None:
        """For open()."""
        self._path, self._bound_bytes, self._tail = path, bound_bytes, tail
        self._held_limit, self._now_s = held_limit, now_s
        self._file: JournalFile | None = None
        self._heads: dict[UUID, Head] = {}
        self._held: list[tuple[Draft, int]] = []  # with the bytes each takes
        self._lost: dict[UUID, Counter[EntryKind]] = {}
        self._complained = self._condemned = False
        self.ended_cleanly: bool | None = None
        self.renewals = 0

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        bound_bytes: int,
        tail: int | None = None,
        held_limit: int = HELD,
        now_s: Callable[[], float] = time.time,
    ) -> "Journal":
        """Open or make the journal at `path`, whose folder must be there.

        The file is at most `bound_bytes`, at least 4 MiB; the log beside it is some 4 MiB more. At the start the last
        `tail` entries of each site are checked, None means everything. `ended_cleanly` says whether close() came
        last, None if this journal is new. Raises InUseError when another process has it; anything else is healed, or
        waited for.
        """
        if bound_bytes < MIN_BOUND_BYTES:
            raise ValueError(f"a journal is bounded at {MIN_BOUND_BYTES} bytes or more")
        journal = cls(path, bound_bytes=bound_bytes, tail=tail, held_limit=held_limit, now_s=now_s)
        try:
            journal._ready()
        except (sqlite3.Error, OSError) as error:
            journal._fail(error)
        return journal

    @property
    def held(self) -> int:
        """How many entries wait in memory for room on the disk."""
        return len(self._held)

    def append(self, site: UUID, body: Body, *, boot: str, mono_ms: int, at: datetime) -> tuple[int, str | None]:
        """Write one entry of the kind its body is of, and return head(). Raises ProtocolError as append_many() does."""
        self.append_many([Draft(site, body, boot, mono_ms, at)])
        return self.head(site)

    def append_many(self, drafts: Sequence[Draft]) -> None:
        """Write entries after those that still wait, in one commit unless they are very many.

        What cannot be written now waits in memory.

        Raises ProtocolError, and does nothing, if one of them would break the bounds of the protocol.
        """
        self._held.extend([(draft, _check_draft(draft)) for draft in drafts])
        while self._held and self._flush():
            pass

    def head(self, site: UUID) -> tuple[int, str | None]:
        """Number and digest of the site's last entry on disk; (0, None) if there is none."""
        head = self._heads.get(site)
        return (0, None) if head is None else (head.seq, head.digest)

    def usage(self, site: UUID) -> tuple[int | None, int | None]:
        """The site's last acknowledged number and the bytes in use; None for what cannot be told now."""
        head = self._heads.get(site)
        try:
            used_bytes = self._file.used_bytes() if self._file is not None else None
        except sqlite3.Error:
            used_bytes = None
        return (0 if head is None else head.acked), used_bytes

    def page(self, site: UUID, after: int, limit: int = MAX_PAGE_ENTRIES) -> Excerpt:
        """The entries after number `after`, oldest first, one at least, as many as a page and `limit` allow.

        Raises AheadError if no entry `after` was ever written, JournalError if the file cannot be read.
        """
        head = self._heads.get(site)
        last, digest = (0, GENESIS) if head is None else (head.seq, head.digest)
        if after > last:
            raise AheadError(f"asked for what comes after {after}, but the last entry is {last}")
        if head is None or after == last:
            return Excerpt(after, after, digest, (), ())
        limit = min(max(limit, 1), MAX_PAGE_ENTRIES)
        rows = self._guarded(lambda file: list(fitting_entries(file, head, after, limit)))
        numbers, entries = [seq for seq, _ in rows], tuple(raw for _, raw in rows)
        return Excerpt(after, numbers[-1], digest_of(entries[-1]), tuple(holes_between(after, numbers)), entries)

    def ack(self, site: UUID, request: AckRequest) -> AckAnswer:
        """Note that the centre has stored the site's entries up to `upto`; see AckAnswer. Raises JournalError."""
        base = self._guarded(lambda file: file.base)
        head = self._heads.get(site)
        if head is None:
            return AckAnswer("refused", 0, "ahead" if request.upto > base else "dropped")
        if request.upto > head.seq:
            return AckAnswer("refused", head.acked, "ahead")
        held = self._guarded(lambda file: digest_at(file, head, request.upto))
        if held != request.head:
            return AckAnswer("refused", head.acked, "dropped" if held is None else "other_head")
        if request.upto <= head.acked:
            return AckAnswer("unchanged", head.acked)
        self._guarded(lambda file: _set_acked(file, head, request.upto))
        return AckAnswer("accepted", head.acked)

    def prune(self, now: datetime) -> None:
        """Delete what is acknowledged and 30 days old, or too much; drop the rest only where the bound demands it."""
        try:
            self._make_room(self._ready(), now)
        except (sqlite3.Error, OSError, InUseError) as error:
            self._fail(error)

    def close(self) -> None:
        """End cleanly. What still waits in memory is tried once more, and lost if there is no room."""
        while self._held and self._flush():
            pass
        if self._file is not None:
            self._file.close(clean=not self._held)
        self._file, self._heads = None, {}

    def _ready(self) -> JournalFile:
        """The open file. Raises InUseError, sqlite3.Error, OSError."""
        if self._file is None:
            self._file = open_file(
                self._path,
                bound_bytes=self._bound_bytes,
                tail=self._tail,
                condemned=self._condemned,
                now_s=self._now_s,
            )
            self._condemned = False
            self._heads = self._file.heads()
            self.ended_cleanly = self._file.ended_cleanly
            if self._file.reason is not None and not self._heads:
                self.renewals += 1
                log.warning("the journal begins anew above number %d: %s", self._file.base, self._file.reason)
        return self._file

    def _flush(self) -> bool:
        """Write what waits, or as much of it as leaves room to make room; False if that cannot be done now."""
        for _ in range(2):  # a second time where the first has mended what was in the way
            piece = self._piece()
            try:
                file = self._ready()
                with file.transaction():
                    moved = file.append(self._heads, self._with_gaps(file, piece))
            except (sqlite3.Error, OSError, InUseError) as error:
                if not self._fail(error):
                    break
            else:
                self._heads.update(moved)
                for site in moved:
                    self._lost.pop(site, None)
                del self._held[: len(piece)]
                self._complained = False
                self._keep_bound(file, piece[-1].at)
                return True
        self._trim()
        return False

    def _keep_bound(self, file: JournalFile, now: datetime) -> None:
        try:
            if is_short(file, self._bound_bytes):
                self._make_room(file, now)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def _make_room(self, file: JournalFile, now: datetime) -> None:
        """Prune in one commit. Raises sqlite3.Error, OSError."""
        moved: dict[UUID, Head] = {}
        with file.transaction():
            forget_acknowledged(file, self._heads, self._bound_bytes, now)
            if is_short(file, self._bound_bytes):
                moved = drop_unacknowledged(file, self._heads, self._bound_bytes)
        self._heads.update(moved)

    def _fail(self, error: Exception) -> bool:
        """Mend what went wrong, if that can be done; True if it is worth another try."""
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self._condemn()
            return True
        if is_full(error) and self._file is not None and self._held:
            try:
                if is_short(self._file, self._bound_bytes):  # else it is the disk that is full, not the bound reached
                    self._make_room(self._file, self._held[-1][0].at)
                    return True
            except (sqlite3.Error, OSError) as second:
                error = second
        if not self._complained:  # once, until something could be written
            self._complained = True
            log.error("the journal cannot be written now: %s", error)
        return False

    def _condemn(self) -> None:
        """Let a damaged file go; the next use begins a new one."""
        if self._file is not None:
            self._file.close(clean=False)
        self._file, self._heads, self._condemned = None, {}, True

    def _guarded(self, work: Callable[[JournalFile], T]) -> T:
        """Do what needs the file. Raises JournalError."""
        try:
            return work(self._ready())
        except (sqlite3.Error, *DAMAGE) as error:
            if not isinstance(error, sqlite3.Error) or is_damage(error):
                self._condemn()
                raise JournalError("the journal was damaged and begins anew") from error
            raise JournalError(f"the journal cannot be used now: {error}") from None
        except (OSError, InUseError) as error:
            raise JournalError(f"the journal cannot be used now: {error}") from None

    def _piece(self) -> list[Draft]:
        """The first of what waits: a sixteenth of the bound at most, for is_short() keeps an eighth free."""
        left_bytes = self._bound_bytes // 16
        piece: list[Draft] = []
        for draft, size in self._held:
            left_bytes -= size
            if left_bytes < 0 and piece:
                break
            piece.append(draft)
        return piece

    def _with_gaps(self, file: JournalFile, piece: list[Draft]) -> Iterator[Draft]:
        """What is to be written, and before each site's first entry what the site lost while it waited."""
        told: set[UUID] = set()
        for draft in piece:
            if draft.site in self._lost and draft.site not in told:
                told.add(draft.site)
                head = self._heads.get(draft.site)
                number = head.seq + 1 if head is not None else file.first_number
                gap = Gap(number, number - 1, dict(self._lost[draft.site]), "disk_full")
                yield msgspec.structs.replace(draft, body=gap)
            yield draft

    def _trim(self) -> None:
        """Keep what waits within its limit: the oldest samples go first, then the oldest signs of life."""
        excess = len(self._held) - self._held_limit
        if excess <= 0:
            return
        ranks = {kind: rank for rank, kind in enumerate(FIRST_TO_GO)}
        kinds = [kind_of(draft.body) for draft, _ in self._held]
        order = sorted(range(len(kinds)), key=lambda i: (ranks.get(kinds[i], len(ranks)), i))
        gone = set(order[:excess])
        for i in gone:
            self._lost.setdefault(self._held[i][0].site, Counter())[kinds[i]] += 1
        self._held = [held for i, held in enumerate(self._held) if i not in gone]


def fits(draft: Draft) -> bool:
    """Whether append_many() takes this draft."""
    try:
        _check_draft(draft)
    except ProtocolError as error:
        log.error("an entry of site %s breaks the bounds of the protocol: %s", draft.site, error)
        return False
    return True


def _check_draft(draft: Draft) -> int:
    """How many bytes the entry takes, at most.

    Raises ProtocolError for what our own decoder, and so the centre's, would refuse as an entry.
    """
    entry = Entry(_TRIAL, GENESIS, draft.boot, draft.mono_ms, draft.at, kind_of(draft.body), draft.body)
    try:
        raw = encode_entry(entry)
    except (ValueError, OverflowError) as error:  # a lone surrogate, a number beyond 64 bits
        raise ProtocolError(str(error)) from None
    decode_entry(raw)
    return len(raw)


def _set_acked(file: JournalFile, head: Head, seq: int) -> None:
    with file.transaction():
        file.db.execute("UPDATE site SET acked = ? WHERE id = ?", (seq, head.row))
    head.acked = seq
