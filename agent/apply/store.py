"""Where desired state is kept between runs: in a folder for one site, in one SQLite file for many.

What put() has returned from survives a power loss; what it has not is there whole or not at all.
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from agent.apply.record import SLOTS, Slot

FOLDER: Final = "desired"
FILE: Final = "desired.sqlite"
log = logging.getLogger("agent")


class StoreError(Exception):
    """Nothing was kept; the message says why in one line."""


class Write(NamedTuple):
    """What is to be kept of a site, in place of what was there."""

    site: UUID
    slot: Slot
    packed: bytes


class Store(Protocol):
    """Keeps bytes by site and slot. For any thread."""

    def load(self, sites: Iterable[UUID]) -> dict[tuple[UUID, Slot], bytes]:
        """All that is kept of these sites. Raises StoreError."""
        ...

    def put(self, writes: Sequence[Write]) -> None:
        """Keep; of one site, in the order given. Raises StoreError."""
        ...

    def set_aside(self, site: UUID, slot: Slot) -> None:
        """What is kept there is damaged: let it not be found again, but by people. Raises StoreError."""
        ...


class FileStore:
    """One site's, a file a slot: written beside, synced, renamed over the old one, and the folder synced."""

    def __init__(self, folder: Path, site: UUID) -> None:
        """Raises StoreError."""
        self._folder, self._site = folder, site
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be used: {error.strerror}") from None

    def load(self, sites: Iterable[UUID]) -> dict[tuple[UUID, Slot], bytes]:
        """See Store."""
        found: dict[tuple[UUID, Slot], bytes] = {}
        if self._site in set(sites):
            for slot in SLOTS:
                try:
                    found[self._site, slot] = self._path(slot).read_bytes()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise StoreError(f"{self._path(slot)} cannot be read: {error}") from None
        return found

    def put(self, writes: Sequence[Write]) -> None:
        """See Store."""
        with self._lock:
            for write in writes:
                if write.site != self._site:
                    raise StoreError(f"{self._folder} is for site {self._site}")
                try:
                    replace_file(self._path(write.slot), write.packed)
                except OSError as error:
                    raise StoreError(f"{self._path(write.slot)} cannot be written: {error.strerror}") from None

    def set_aside(self, site: UUID, slot: Slot) -> None:
        """See Store; of each slot the latest is left aside."""
        path = self._path(slot)
        try:
            path.replace(path.with_name(f"{path.name}.aside"))
        except OSError as error:
            raise StoreError(f"{path} cannot be set aside: {error.strerror}") from None

    def _path(self, slot: Slot) -> Path:
        return self._folder / f"{slot}.json"


class SharedStore:
    """Many sites' in one SQLite file. All that wait while a commit is under way share the next one."""

    def __init__(self, path: Path) -> None:
        """A file that is damaged is set aside, and the sites begin anew. Raises StoreError."""
        self._path = path
        self._lock = threading.Lock()
        self._commit = threading.Lock()
        self._waiting: list[_Ticket] = []
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                aside = path.with_name(f"{path.name}.aside-{int(time.time())}")
                log.error("%s is damaged and set aside as %s: %s", path, aside.name, error)
                path.replace(aside)
                for suffix in ("-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path} cannot be used: {error}") from None

    def load(self, sites: Iterable[UUID]) -> dict[tuple[UUID, Slot], bytes]:
        """See Store."""
        wanted = {site.bytes: site for site in sites}
        with self._commit:
            try:
                rows = self._db.execute("SELECT site, slot, packed FROM kept").fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path} cannot be read: {error}") from None
        return {(wanted[site], slot): packed for site, slot, packed in rows if site in wanted}

    def put(self, writes: Sequence[Write]) -> None:
        """See Store."""
        ticket = _Ticket(writes)
        with self._lock:
            self._waiting.append(ticket)
        with self._commit:
            if not ticket.is_done:  # else whoever had the lock before has written it too
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._write(batch)
        if ticket.error is not None:
            raise StoreError(f"{self._path} cannot be written: {ticket.error}")

    def set_aside(self, site: UUID, slot: Slot) -> None:
        """See Store; what was damaged here is deleted, for nobody would look for it among many."""
        self._run(lambda: self._db.execute("DELETE FROM kept WHERE site = ? AND slot = ?", (site.bytes, slot)))

    def close(self) -> None:
        """Let the file go."""
        with self._commit:
            self._db.close()

    def _run(self, work: Callable[[], object]) -> None:
        with self._commit:
            try:
                work()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path} cannot be written: {error}") from None

    def _write(self, batch: "list[_Ticket]") -> None:
        rows = [(w.site.bytes, w.slot, w.packed) for ticket in batch for w in ticket.writes]
        error: sqlite3.Error | None = None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as failed:
            error = failed
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
        for ticket in batch:
            ticket.is_done, ticket.error = True, error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(
                "CREATE TABLE IF NOT EXISTS kept (site BLOB NOT NULL, slot TEXT NOT NULL, packed BLOB NOT NULL,"
                " PRIMARY KEY (site, slot)) WITHOUT ROWID"
            )
            (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
        except BaseException:
            db.close()
            raise
        return db


class _Ticket:
    """What one caller of put() waits for."""

    __slots__ = ("error", "is_done", "writes")

    def __init__(self, writes: Sequence[Write]) -> None:
        self.writes = writes
        self.is_done = False
        self.error: sqlite3.Error | None = None


def replace_file(path: Path, data: bytes) -> None:
    """Put these bytes in place of the file: whole, or what was there stays. Returns when a power loss keeps them.

    Raises OSError.
    """
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power loss. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
