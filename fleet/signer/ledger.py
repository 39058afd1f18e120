"""What was signed for whom: the signer's own memory, beside its keys, so that no version of a site is signed twice.

The database may be restored from an older backup, or be in other hands; what was signed once stays known here.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import UUID

from fleet.signer.authority import SignerError

FILE: Final = "ledger.sqlite"


@dataclass(frozen=True, slots=True)
class Version:
    """One document: `sha256` is that of its payload."""

    site: UUID
    epoch: int
    version: int
    sha256: str


class Ledger:
    """The newest version that was signed for each site. Safe among threads. Raises SignerError when it is unusable."""

    def __init__(self, folder: Path) -> None:
        self._lock = Lock()
        path = folder / FILE
        try:
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, timeout=10, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            with self._database:
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS signed (site TEXT PRIMARY KEY, epoch INTEGER NOT NULL,"
                    " version INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            raise SignerError("keys", f"{path} cannot be used: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def enter(self, versions: Iterable[Version]) -> dict[UUID, str]:
        """Note versions as signed; returns, by site, why one may not be signed. On the disk when it returns.

        A version must be newer than the one before, or the very same document again. Raises SignerError.
        """
        refused: dict[UUID, str] = {}
        with self._lock:
            try:
                with self._database, closing(self._database.cursor()) as cursor:
                    for one in versions:
                        reason = self._enter(cursor, one)
                        if reason:
                            refused[one.site] = reason
            except sqlite3.Error as error:
                raise SignerError("ledger", f"what was signed cannot be noted: {error}") from None
        return refused

    @staticmethod
    def _enter(cursor: sqlite3.Cursor, one: Version) -> str:
        key = str(one.site)
        row = cursor.execute("SELECT epoch, version, sha256 FROM signed WHERE site = ?", [key]).fetchone()
        if row is not None:
            newest, sha256 = (row[0], row[1]), row[2]
            if (one.epoch, one.version) == newest and sha256 == one.sha256:
                return ""
            if (one.epoch, one.version) <= newest:
                return f"version {one.epoch}.{one.version} is not newer than {row[0]}.{row[1]}, which was signed before"
        cursor.execute("REPLACE INTO signed VALUES (?, ?, ?, ?)", [key, one.epoch, one.version, one.sha256])
        return ""
