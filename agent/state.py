"""What lies in the agent's state folder, and who may write there: one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.protocol import ProtocolError
from agent.protocol.identity import Join, read_join

IDENTITIES: Final = "identities.sqlite"
JOURNAL: Final = "journal.sqlite"
JOIN: Final = "join"
LOCK: Final = "agent.lock"
PROBES: Final = "probes.json"
SOCKET: Final = "agent.sock"


class StateError(Exception):
    """The state folder cannot be used; the message says why in one line."""


class LockedError(StateError):
    """Another agent, or another enrolment, uses the state folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the state folder, made if need be with mode 0700, so that nobody else writes keys there meanwhile.

    The kernel lets the lock go when this process ends, however it ends. Raises LockedError or StateError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{folder} cannot be used: {why(error)}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise LockedError(f"another archipelago-agent (process {holder}) uses {folder}") from None
        with suppress(OSError):  # a full disk: the lock holds without the number
            os.truncate(file, 0)
            os.pwrite(file, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(file)


def keep_join(folder: Path, text: str) -> None:
    """Keep a join string, for this user only, until the site has been accepted. Raises StateError."""
    try:
        file = os.open(folder / JOIN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w") as writer:
            writer.write(text + "\n")
            writer.flush()
            os.fsync(file)
    except OSError as error:
        raise StateError(f"{folder / JOIN} cannot be written: {why(error)}") from None


def kept_join(folder: Path) -> Join | None:
    """The join string that an enrolment left here, if it can be read."""
    try:
        return read_join((folder / JOIN).read_text())
    except (OSError, ValueError, ProtocolError):
        return None


def forget_join(folder: Path) -> None:
    """Remove the join string: it has been used."""
    with suppress(OSError):
        (folder / JOIN).unlink(missing_ok=True)


def become_owner(folder: Path) -> None:
    """Where root has called, go on as the user whose state folder it is, so that no file there becomes root's.

    Raises StateError.
    """
    try:
        owner = folder.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.setgroups([owner.st_gid])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
    except FileNotFoundError:
        return  # it will be made
    except OSError as error:
        raise StateError(f"{folder} cannot be used: {why(error)}") from None


def why(error: Exception) -> str:
    """An error of the operating system in a few words, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()
