"""The file of a journal: its tables, and how it is opened, checked and, if need be, begun anew.

All entries are written with `synchronous=FULL`, `alive` and `sample` too: their numbers are told to the centre in the
next report, and a number that a power loss takes back would be given to another entry.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from agent.journal_check import DAMAGE, check_entries, read_meta
from agent.journal_mark import Mark, read_mark, write_mark
from agent.protocol.entries import (
    ENTRY_KINDS,
    GENESIS,
    Body,
    Entry,
    Gap,
    GapReason,
    digest_of,
    encode_entry,
    kind_of,
)

PAGE_BYTES: Final = 4_096
RESERVE_STEP: Final = 1_000
_FORM: Final = 1
_KEPT_ASIDE: Final = 2
_WAL_BYTES: Final = 4 << 20
# The primary result codes that speak of the surroundings, not of the file: PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR,
# FULL, CANTOPEN, PROTOCOL.
_SURROUNDINGS: Final = frozenset({3, 5, 6, 7, 8, 10, 13, 14, 15})
_TABLES: Final = (
    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), base INTEGER NOT NULL, reason TEXT,"
    " commits INTEGER NOT NULL, clean INTEGER)",
    "CREATE TABLE site (id INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, seq INTEGER NOT NULL, digest TEXT NOT NULL,"
    " acked INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, site INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " at_ms INTEGER NOT NULL, bytes BLOB NOT NULL, UNIQUE (site, seq))",
    "CREATE INDEX entry_kind ON entry (kind)",
)


class InUseError(Exception):
    """Another process has this journal open."""


@dataclass(slots=True)
class Head:
    """Where a site's journal is; `row` is None until it has an entry in this file."""

    row: int | None
    seq: int
    digest: str
    acked: int


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An entry that has no number yet."""

    site: UUID
    body: Body
    boot: str
    mono_ms: int
    at: datetime


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is bad; otherwise its surroundings are (no room, no permission, a failing device)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)  # misuse of the module has none
    return code is not None and (code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in _SURROUNDINGS)


def is_full(error: Exception) -> bool:
    """Whether a write failed for want of room, be it the disk's or that of the bound."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


class JournalFile:
    """An open journal file. Holds an exclusive lock on it until close()."""

    def __init__(self, db: sqlite3.Connection, path: Path, mark: Mark | None) -> None:
        """For open_file()."""
        self.path = path
        self.db = db
        self.base, self.reason, self.commits, self.ended_cleanly = read_meta(db)
        self._mark = mark or Mark(0, 0)

    @property
    def first_number(self) -> int:
        """The number of the first entry of a site that has none yet; the gap that comes first there is not counted."""
        return self.base + (1 if self.reason is None else 2)

    def heads(self) -> dict[UUID, Head]:
        """Where each site is that has entries."""
        rows = self.db.execute("SELECT uuid, id, seq, digest, acked FROM site")
        return {UUID(bytes=uuid): Head(*rest) for uuid, *rest in rows}

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Whole or absent. Raises sqlite3.Error or OSError, and then nothing was changed."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("UPDATE meta SET commits = ?, clean = 0", (self.commits + 1,))
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        self.commits += 1
        with contextlib.suppress(OSError):  # the mark may lag behind, and only ever does
            self._write_mark(self._mark.reserved)

    def append(self, heads: dict[UUID, Head], drafts: Iterable[Draft]) -> dict[UUID, Head]:
        """Number, chain and insert drafts, within a transaction; returns their sites' new heads, `heads` untouched.

        The first entry of a site in a file that was begun anew is a gap. Raises sqlite3.Error or OSError.
        """
        after: dict[UUID, Head] = {}
        entries = []
        for draft in drafts:
            head = after.get(draft.site) or self._copy(heads.get(draft.site))
            after[draft.site] = head
            if head.row is None:
                head.row = self._add_site(draft.site, head)
                if self.reason is not None:
                    gap = msgspec.structs.replace(draft, body=Gap(1, self.base, {}, self.reason))
                    entries.append(_chain(head, gap))
            entries.append(_chain(head, draft))
        self._reserve(max((head.seq for head in after.values()), default=0))
        self.db.executemany("INSERT INTO entry (site, seq, kind, at_ms, bytes) VALUES (?, ?, ?, ?, ?)", entries)
        moved = [(head.seq, head.digest, head.row) for head in after.values()]
        self.db.executemany("UPDATE site SET seq = ?, digest = ? WHERE id = ?", moved)
        return after

    def used_bytes(self) -> int:
        """Size of the pages in use, the log of the last commits apart."""
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        return int((pages - free) * PAGE_BYTES)

    def close(self, *, clean: bool) -> None:
        """Let the file go; `clean` is remembered for the next start."""
        with contextlib.suppress(sqlite3.Error):
            if clean:
                self.db.execute("UPDATE meta SET clean = 1")
        self.db.close()

    def _copy(self, head: Head | None) -> Head:
        return Head(None, self.base, GENESIS, 0) if head is None else replace(head)

    def _add_site(self, site: UUID, head: Head) -> int | None:
        done = self.db.execute("INSERT INTO site (uuid, seq, digest) VALUES (?, ?, ?)", (site.bytes, 0, head.digest))
        return done.lastrowid

    def _reserve(self, seq: int) -> None:
        """Before a number is used: make sure that it will never be used again."""
        if seq > self._mark.reserved:
            self._write_mark(seq + RESERVE_STEP)

    def _write_mark(self, reserved: int) -> None:
        mark = Mark(reserved, self.commits)
        write_mark(self.path, mark)
        self._mark = mark


def _chain(head: Head, draft: Draft) -> tuple[int | None, int, int, int, bytes]:
    """The row of a draft as the entry after `head`, which moves on."""
    kind = kind_of(draft.body)
    raw = encode_entry(Entry(head.seq + 1, head.digest, draft.boot, draft.mono_ms, draft.at, kind, draft.body))
    head.seq, head.digest = head.seq + 1, digest_of(raw)
    return head.row, head.seq, ENTRY_KINDS.index(kind), int(draft.at.timestamp() * 1_000), raw


def open_file(
    path: Path,
    *,
    bound_bytes: int,
    tail: int | None = None,
    condemned: bool = False,
    now_s: Callable[[], float] = time.time,
) -> JournalFile:
    """Open the journal, or make it; one that is missing, damaged or rolled back is set aside and begun anew.

    `tail` is how many entries of each site are checked, None for all of them and the file's pages too; `condemned`
    says that the file is known to be damaged. Raises InUseError; sqlite3.OperationalError or OSError when the
    surroundings do not allow it now.
    """
    mark, known = read_mark(path)
    reason: GapReason | None = None
    if path.exists():
        reason = "damaged" if condemned else _examine(path, mark, bound_bytes, tail, new=mark is None and known)
    elif mark is not None or not known:
        reason = "missing"
    if reason is not None:
        _set_aside(path, now_s())
    db = _connect(path, bound_bytes)
    try:
        if not _has_tables(db):
            # One number is left out, so that there is always a hole before what begins anew. Where no mark can be read,
            # the seconds since 1970 are more than the entries that any journal ever had.
            last = mark.reserved if mark is not None else int(now_s())
            _create(db, 0 if reason is None else last + 1, reason, mark.commits if mark is not None else 0)
        return JournalFile(db, path, mark)
    except BaseException:
        db.close()
        raise


def _examine(path: Path, mark: Mark | None, bound_bytes: int, tail: int | None, *, new: bool) -> GapReason | None:
    """What is wrong with the file, None if nothing is. Raises as open_file() does."""
    db = None
    try:
        db = _connect(path, bound_bytes)
        if not _has_tables(db):  # made, but never used: as good as new
            return None if new else "damaged"
        if db.execute("PRAGMA user_version").fetchone() != (_FORM,):
            return "damaged"
        if mark is not None and read_meta(db)[2] < mark.commits:
            return "rolled_back"
        check_entries(db, tail)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return "damaged"
    except DAMAGE:
        return "damaged"
    finally:
        if db is not None:
            db.close()
    return None


def _connect(path: Path, bound_bytes: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        db.execute(f"PRAGMA max_page_count = {bound_bytes // PAGE_BYTES}")
        db.execute("BEGIN IMMEDIATE")  # takes the lock, which EXCLUSIVE keeps
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        db.close()
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise InUseError(f"{path} is in use by another process") from None
        raise
    except BaseException:
        db.close()
        raise
    return db


def _has_tables(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def _create(db: sqlite3.Connection, base: int, reason: GapReason | None, commits: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        db.execute(table)
    db.execute("INSERT INTO meta VALUES (1, ?, ?, ?, NULL)", (base, reason, commits))
    db.execute(f"PRAGMA user_version = {_FORM}")
    db.execute("COMMIT")


def _set_aside(path: Path, now_s: float) -> None:
    """Rename the file and its log, and forget all that were set aside but the latest. Raises OSError."""
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    for suffix in ("-wal", "-shm", ""):  # the file itself last: until it is gone, a new start does the rest
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(path.with_name(f"{path.name}.aside-{stamp}{suffix}"))
    aside = sorted(p for p in path.parent.glob(f"{path.name}.aside-*") if not p.name.endswith(("-wal", "-shm")))
    for old in aside[:-_KEPT_ASIDE]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
