"""What the updater keeps in its root-owned folder: who the site is, the documents it took, the work under way.

Each is a file that is replaced whole and synced before anything is done that it speaks of.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from agent.apply.part import ApplyError
from agent.protocol.kinds import settle

FOLDER: Final = Path("/var/lib/archipelago-updater")
PINS: Final = "pins.json"
Which = Literal["newest.json", "kept.json"]
NEWEST: Final[Which] = "newest.json"
KEPT: Final[Which] = "kept.json"
WORK: Final = "work.json"
LOG: Final = "steps.log"
MAX_LOG_BYTES: Final = 1 << 20
_PACKAGES: Final = "packages"


class PinsError(Exception):
    """Nobody has told the updater which site this is; the message says what to do."""


class Pins(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who this site is, and the roots (PEM) that vouch for whoever signs its documents: by root's own hand."""

    fleet: str
    provider: int
    site: UUID
    roots: tuple[str, ...]


class Held(Struct, frozen=True, kw_only=True):
    """An envelope that was verified, and the raw key that has signed it."""

    envelope: bytes
    key: bytes


class Item(Struct, frozen=True, kw_only=True):
    """A package that the work touches. `before` is empty for a new one; `old` and `new` name files in `packages/`.

    `old` is empty where there is nothing to go back to: for a new package, and where the site allows that.
    """

    name: str
    before: str
    after: str
    new: str
    old: str = ""


class Work(Struct, frozen=True, kw_only=True):
    """The packages and kernel that a document wants (`key`), and how far they are. `boot` is the one of switching."""

    key: str
    kernel: str
    items: tuple[Item, ...]
    phase: Literal["staged", "switching", "switched", "restoring"]
    boot: str = ""


class Folder:
    """See the module. All but lock() is for whoever holds the lock. Raises ApplyError where the disk does not allow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.packages = path / _PACKAGES
        try:
            self.packages.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ApplyError(f"{path} cannot be used: {error.strerror}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One step at a time, whatever process does it. Raises ApplyError, transient."""
        file = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ApplyError("another step of the updater is under way", transient=True) from None
            yield
        finally:
            os.close(file)

    def pins(self) -> Pins:
        """Raises PinsError where there are none, or where they cannot be read."""
        try:
            return msgspec.json.decode((self._path / PINS).read_bytes(), type=Pins)
        except FileNotFoundError:
            raise PinsError("the updater was not told which site this is: run `archipelago-updater pin`") from None
        except (OSError, ValueError) as error:
            raise PinsError(f"{self._path / PINS} cannot be read: {error}") from None

    def put_pins(self, pins: Pins) -> None:
        """Keep them, in place of others."""
        self._put(PINS, msgspec.json.encode(pins))

    def held(self, which: Which) -> Held | None:
        """The document that was taken last, or the one whose state was kept last."""
        found = self._get(which)
        try:
            return None if found is None else msgspec.json.decode(found, type=Held)
        except ValueError as error:
            raise ApplyError(f"{self._path / which} cannot be read, so a person must look: {error}") from None

    def put_held(self, which: Which, held: Held) -> None:
        """Keep it, in place of the one before."""
        self._put(which, msgspec.json.encode(held))

    def work(self) -> Work | None:
        """What is under way. Raises ApplyError where that cannot be read: then a person must look."""
        found = self._get(WORK)
        try:
            return None if found is None else msgspec.json.decode(found, type=Work)
        except ValueError as error:
            raise ApplyError(f"{self._path / WORK} cannot be read, so a person must look: {error}") from None

    def put_work(self, work: Work) -> None:
        """Keep it, in place of what was there."""
        self._put(WORK, msgspec.json.encode(work))

    def end_work(self, stay: frozenset[str]) -> None:
        """Nothing is under way any more; of the packages' files, only these stay."""
        (self._path / WORK).unlink(missing_ok=True)
        _sync(self._path)
        for path in self.packages.iterdir():
            if path.name not in stay:
                path.unlink(missing_ok=True)

    def note(self, **what: object) -> None:
        """A line in steps.log, for people; when it is long, it begins anew and the old one is kept beside."""
        path = self._path / LOG
        line = msgspec.json.encode({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **what}) + b"\n"
        if path.exists() and path.stat().st_size + len(line) > MAX_LOG_BYTES:
            path.replace(path.with_name(f"{LOG}.1"))
        with open(path, "ab", opener=_private) as file:
            file.write(line)

    def _get(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ApplyError(f"{self._path / name} cannot be read: {error.strerror}") from None

    def _put(self, name: str, data: bytes) -> None:
        path = self._path / name
        beside = path.with_name(f"{name}.new")
        try:
            with open(beside, "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            _sync(self._path)
        except OSError as error:
            raise ApplyError(f"{path} cannot be written: {error.strerror}") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


settle(__name__)
