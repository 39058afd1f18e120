"""The signer's door: a unix socket, one JSON request a line, for our own user and few others; everything is bounded."""

import contextlib
import logging
import os
import signal
import socket
import socketserver
import stat
import struct
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from fleet.signer.authority import SignerError
from fleet.signer.operations import error_answer

MAX_LINE_BYTES: Final = 16 * 1024
MAX_CONNECTIONS: Final = 64
REQUEST_S: Final = 10.0
DRAIN_S: Final = 3.0
POLL_S: Final = 0.5  # how soon it sees that it is to end
ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid

log = logging.getLogger("fleet.signer")


class Answers(Protocol):
    """What stands behind the door: fleet.signer.operations.Signer."""

    def answer(self, line: bytes, deadline: float) -> bytes: ...  # noqa: D102


class SignerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at `path`; a thread a connection, at most `most` at a time, each request within `request_s` seconds.

    Only root, our own user and `uids` are answered. A stale socket file is replaced. Raises SignerError when the socket
    cannot be made, or another signer listens there.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        path: Path,
        signer: Answers,
        *,
        mode: int = 0o600,
        uids: Collection[int] = (),
        most: int = MAX_CONNECTIONS,
        request_s: float = REQUEST_S,
    ) -> None:
        self.signer = signer
        self.request_s = request_s
        self._path = path
        self._mode = mode
        self._uids = frozenset({0, os.geteuid(), *uids})
        self._most = most
        self._slots = threading.BoundedSemaphore(most)
        self._open: set[socket.socket] = set()
        _remove_stale(path)
        try:
            super().__init__(str(path), _Connection)
        except OSError as error:
            raise SignerError("socket", f"cannot make the socket {path}: {error.strerror or error}") from None
        self._inode = path.stat().st_ino

    def server_bind(self) -> None:
        """Bind with the file's final mode: it must never exist with a wider one, not even for a moment."""
        before = os.umask(0o777 & ~self._mode)
        try:
            super().server_bind()
        finally:
            os.umask(before)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the kernel says that the caller is one of those who may ask."""
        told = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(told)
        if uid in self._uids:
            return True
        log.warning("refused a caller", extra={"uid": uid, "pid": pid})
        _send_last(request, "forbidden", "this user may not ask the signer")
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or the answer `busy`."""
        if not self._slots.acquire(blocking=False):
            _send_last(request, "busy", "too many connections; try again later")
            self.shutdown_request(request)
            return
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The life of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what no connection should do to us."""
        log.exception("a connection failed")

    def close(self) -> None:
        """Take no more requests, let those in hand be answered within DRAIN_S, and remove our socket file."""
        self.server_close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        until = time.monotonic() + DRAIN_S
        for _ in range(self._most):
            if not self._slots.acquire(timeout=max(0.0, until - time.monotonic())):
                log.warning("a request was cut off")
                return

    def _forget(self, request: socket.socket) -> None:
        self._open.discard(request)
        self._slots.release()


class _Connection(socketserver.BaseRequestHandler):
    """Answers line after line; the next one must be whole within the deadline, so an idle caller loses its place."""

    server: SignerServer
    request: socket.socket

    def handle(self) -> None:
        rest = b""
        # A caller that goes away, or takes no answer in time, is its own loss.
        with contextlib.suppress(OSError):
            while True:
                deadline = time.monotonic() + self.server.request_s
                try:
                    line, rest = self._line(rest, deadline)
                except SignerError as error:
                    _send_last(self.request, error.code, error.message)
                    return
                if line is None:
                    return
                answer = self.server.signer.answer(line, deadline)
                self.request.settimeout(max(0.1, deadline - time.monotonic()))
                self.request.sendall(answer)

    def _line(self, rest: bytes, deadline: float) -> tuple[bytes | None, bytes]:
        """The next line, and what came after it; None at the end. Raises SignerError when it is too long or slow."""
        got = bytearray(rest)
        while (end := got.find(b"\n")) < 0:
            if len(got) > MAX_LINE_BYTES:
                break
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self.request.settimeout(left)
                piece = self.request.recv(MAX_LINE_BYTES)
            except TimeoutError:
                raise SignerError("deadline", "no whole line came in time") from None
            if not piece:
                return None, b""
            got += piece
        if end < 0 or end > MAX_LINE_BYTES:
            raise SignerError("too_long", f"a request is one line of at most {MAX_LINE_BYTES} bytes")
        return bytes(got[:end]), bytes(got[end + 1 :])


def serve(server: SignerServer, ready: Callable[[], None] = lambda: None) -> None:
    """Answer until SIGTERM or SIGINT, then end cleanly, and end the process: both signals stay blocked.

    Call it before other threads start. A thread of ours waits for the signals: what a handler raises is lost when
    Python is in a finaliser just then, and the signer would never end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)

    def stop() -> None:
        signal.sigwait(ENDS)
        log.info("stopping")
        server.shutdown()

    try:
        threading.Thread(target=stop, name="signals", daemon=True).start()
        ready()
        server.serve_forever(poll_interval=POLL_S)
    finally:
        server.close()


def _send_last(connection: socket.socket, code: str, message: str) -> None:
    """Say why, as far as the caller takes it, before the connection is closed."""
    with contextlib.suppress(OSError):
        connection.settimeout(0.1)
        connection.sendall(msgspec.json.encode(error_answer(code, message)) + b"\n")


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise SignerError("socket", f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise SignerError("socket", f"cannot use the socket {path}: {error.strerror or error}") from None
        else:
            raise SignerError("socket", f"another signer already listens at {path}")
