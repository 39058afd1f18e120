"""The updater's unix socket: one line of JSON asks, one answers, and only the agent's user is heard."""

import contextlib
import logging
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import msgspec

from agent.updater.messages import MAX_REQUEST_BYTES, Answer, Request

REQUEST_S: Final = 10.0
IDLE_S: Final = 60.0
_FIRST_SOCKET: Final = 3
_decoder: Final = msgspec.json.Decoder(Request)
log = logging.getLogger("updater")


class ServingError(Exception):
    """There is no socket to serve; the message says why in one line."""


def inherited_socket() -> socket.socket:
    """The listening socket that systemd gave us (sd_listen_fds). Raises ServingError."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise ServingError("systemd's archipelago-updater.socket must start this")
    os.set_inheritable(_FIRST_SOCKET, False)
    return socket.socket(fileno=_FIRST_SOCKET)


class Server:
    """Answers on a listening unix socket, one request a connection and one at a time, to one user alone."""

    def __init__(self, listening: socket.socket, user: int, answer: Callable[[Request], Answer]) -> None:
        self._listening, self._user, self._answer = listening, user, answer
        self._is_ending = False

    def serve(self, idle_s: float = IDLE_S) -> None:
        """Until nobody has asked for `idle_s`, or SIGTERM has come; the step under way is done first."""
        with self._ended_by_signal() as woken, selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._is_ending and (ready := selector.select(idle_s)):
                if any(key.fileobj is self._listening for key, _ in ready):
                    connection, _ = self._listening.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(REQUEST_S)
                        self._serve_one(connection)

    def _serve_one(self, connection: socket.socket) -> None:
        size = struct.calcsize("3i")
        _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if user != self._user:
            log.warning("user %d is not heard", user)
            answer = Answer(error="only the agent's own user may ask")
        else:
            answer = self._answered(_read_line(connection))
        connection.settimeout(REQUEST_S)
        connection.sendall(msgspec.json.encode(answer) + b"\n")

    def _answered(self, line: bytes) -> Answer:
        try:
            request = _decoder.decode(line)
        except (ValueError, RecursionError) as error:
            return Answer(error=f"not a request: {error}"[:300])
        try:
            return self._answer(request)
        except Exception as error:  # the top of a request: one that breaks must not end the service
            log.exception("%s failed", request.command)
            return Answer(error=f"{type(error).__name__}: {error}"[:300])

    @contextlib.contextmanager
    def _ended_by_signal(self) -> Iterator[socket.socket]:
        """A socket that becomes readable at SIGTERM, so that no moment is missed."""
        reader, writer = socket.socketpair()
        with reader, writer:
            for end in (reader, writer):
                end.setblocking(False)

            def end_soon(number: int, frame: FrameType | None) -> None:
                self._is_ending = True

            before = signal.signal(signal.SIGTERM, end_soon)
            woken = signal.set_wakeup_fd(writer.fileno())
            try:
                yield reader
            finally:
                signal.set_wakeup_fd(woken)
                signal.signal(signal.SIGTERM, before)


def _read_line(connection: socket.socket) -> bytes:
    """Up to the first line feed. Raises OSError for one that is too slow; one that is too long is cut."""
    until, line = time.monotonic() + REQUEST_S, bytearray()
    while b"\n" not in line and len(line) <= MAX_REQUEST_BYTES:
        connection.settimeout(max(0.01, until - time.monotonic()))
        piece = connection.recv(65_536)
        if not piece:
            break
        line += piece
    return bytes(line[: MAX_REQUEST_BYTES + 1])
