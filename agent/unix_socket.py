"""Unix sockets of mode 0600 that one process of a user makes and others of the same user ask."""

import os
import socket
import stat
from pathlib import Path


class UnixSocketError(Exception):
    """The socket cannot be made or asked; the message says why in one line."""


def bind_private(path: Path, owner: str) -> socket.socket:
    """A bound socket of mode 0600. A stale file is replaced, a live one is left alone; `owner` names who makes it.

    Raises UnixSocketError.
    """
    _remove_stale(path, owner)
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # the file must never exist with a wider mode, not even for a moment
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise UnixSocketError(f"cannot make socket {path}: {(error.strerror or str(error)).lower()}") from None
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path, owner: str) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise UnixSocketError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise UnixSocketError(f"cannot use socket {path}: {(error.strerror or str(error)).lower()}") from None
        else:
            raise UnixSocketError(f"another {owner} already listens at {path}")
