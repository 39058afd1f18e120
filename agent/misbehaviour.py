"""How a failing site answers on the wire."""

import asyncio
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from itertools import repeat
from typing import Final
from uuid import uuid5

from agent.backends.simulated import with_fields
from agent.connection import Connection
from agent.protocol.desired import PutDesired
from agent.virtual_site import Mode, VirtualSite

HEADERS: Final = 1_000_000
BOMB_BYTES: Final = 256 << 20
GIGABYTE: Final = 1 << 30
FUTURE: Final = timedelta(days=730)
_PIECE_BYTES: Final = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset at once


class SimulatedConnection(Connection):
    """A connection to a site that may misbehave. Once `seized` by a failure it answers no further request."""

    __slots__ = ("_gap_s", "_next_piece", "_pieces", "seized")

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # handed on as they came
        self.seized = False
        self._pieces: Iterator[bytes] = iter(())
        self._gap_s = 0.0
        self._next_piece: asyncio.Handle | None = None

    @property
    def virtual_site(self) -> VirtualSite:
        """The site that was dialled."""
        assert isinstance(self.backend, VirtualSite)
        return self.backend

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A dark site resets the connection: from one shared port that is as near to "refused" as it gets."""
        super().connection_made(transport)
        if self.backend is not None and self.virtual_site.mode in {"dark", "off"}:
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is being sent."""
        super().connection_lost(exc)
        self.seized = True
        if self._next_piece is not None:
            self._next_piece.cancel()

    def data_received(self, data: bytes) -> None:
        """Requests on a seized connection go nowhere; those of before do not reach a site that has gone dark since."""
        if self.backend is not None and self.virtual_site.mode in {"dark", "off"}:
            self.reset()
        elif not self.seized:
            super().data_received(data)

    def answer(self, digest: str | None) -> None:
        """Answer one poll, as the site's mode has it."""
        mode = self.virtual_site.mode
        misbehave = _MISBEHAVIOURS.get(mode) if mode is not None else None
        if misbehave is None:
            super().answer(digest)
        else:
            misbehave(self, digest)

    def _answer_done(self, done: "asyncio.Future[object]", *, failed: str, keep_alive: bool) -> None:
        """The answer to a document may be lost, once it was taken."""
        if (
            self.backend is not None
            and self.virtual_site.apply_fault == "lost"
            and isinstance(done.result(), PutDesired)
        ):
            self.reset()
        else:
            super()._answer_done(done, failed=failed, keep_alive=keep_alive)

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        if self.transport is not None and not self.transport.is_closing():
            own = self.transport.get_extra_info("socket")
            if own is not None:  # one that comes through a link has none
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def stream(self, pieces: Iterator[bytes], gap_s: float = 0.0) -> None:
        """Seize the connection and send the pieces, as fast as the peer reads or one each `gap_s`; then close."""
        self.seized = True
        self._pieces, self._gap_s = pieces, gap_s
        self._send_piece()

    def resume_writing(self) -> None:
        """The peer reads again: go on."""
        super().resume_writing()
        if self.seized and self._next_piece is None:
            self._send_piece()

    def _send_piece(self) -> None:
        self._next_piece = None
        if self.waiting or self.transport is None or self.transport.is_closing():
            return
        piece = next(self._pieces, None)
        if piece is None:
            self.transport.close()
            return
        # Through the loop each time: one greedy reader must not starve ten thousand sites.
        self._next_piece = asyncio.get_running_loop().call_later(self._gap_s, self._send_piece)
        self.transport.write(piece)


def _head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Type: application/json", *lines, b"", b""))


def _dark(connection: SimulatedConnection, digest: str | None) -> None:
    connection.reset()


def _hang(connection: SimulatedConnection, digest: str | None) -> None:
    connection.seized = True


def _loris(connection: SimulatedConnection, digest: str | None) -> None:
    """A byte a second: in turn from the status line on, and from the body on."""
    body = connection.virtual_site.report(digest)
    head = _head(b"Content-Length: %d" % len(body))
    at_once = b"" if connection.virtual_site.next_turn() % 2 == 0 else head
    slowly = (head + body)[len(at_once) :]
    assert connection.transport is not None
    connection.transport.write(at_once)
    connection.stream((slowly[i : i + 1] for i in range(len(slowly))), gap_s=1.0)


def _big(connection: SimulatedConnection, digest: str | None) -> None:
    """In turn chunks without end, and a gigabyte as announced."""

    def chunks() -> Iterator[bytes]:
        yield _head(b"Transfer-Encoding: chunked") + b'10\r\n{"protocol":1,"x\r\n'
        yield from repeat(b"%x\r\n%b\r\n" % (_PIECE_BYTES, b"x" * _PIECE_BYTES))

    def gigabyte() -> Iterator[bytes]:
        yield _head(b"Content-Length: %d" % GIGABYTE)
        yield from repeat(b"[" * _PIECE_BYTES, GIGABYTE // _PIECE_BYTES)

    connection.stream(chunks() if connection.virtual_site.next_turn() % 2 == 0 else gigabyte())


def _bomb(connection: SimulatedConnection, digest: str | None) -> None:
    connection.send(200, gzip_bomb(), keep_alive=True, extra=b"Content-Encoding: gzip\r\n")


def _headers(connection: SimulatedConnection, digest: str | None) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        for first in range(0, HEADERS, 1_000):
            yield b"".join(b"X-%d: a\r\n" % i for i in range(first, first + 1_000))
        yield b"Content-Length: 2\r\n\r\n{}"

    connection.stream(pieces())


def _liar(connection: SimulatedConnection, digest: str | None) -> None:
    """Content-Length in turn: a gigabyte and then silence; twice the truth; half of it; two at once; negative."""
    body = connection.virtual_site.report(digest)
    size = len(body)
    heads = (
        _head(b"Content-Length: %d" % GIGABYTE),
        _head(b"Content-Length: %d" % (2 * size)),
        _head(b"Content-Length: %d" % (size // 2)),
        _head(b"Content-Length: %d" % size, b"Content-Length: %d" % (size + 1)),
        _head(b"Content-Length: -%d" % size),
    )
    turn = connection.virtual_site.next_turn() % len(heads)
    assert connection.transport is not None
    connection.seized = True
    connection.transport.write(heads[turn] + body)
    if turn == 1:
        connection.transport.close()


_CPU_RATIO = re.compile(rb'"cpu_ratio":[0-9.e-]+')


def _with_cpu_ratio(value: bytes) -> Callable[[bytes], bytes]:
    return lambda body: _CPU_RATIO.sub(b'"cpu_ratio":' + value, body, count=1)


def _with_boot(value: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(b'"boot":"', b'"boot":"' + value, 1)


GARBAGE: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda body: body[: len(body) // 2],
    lambda body: b"[" * 100_000,
    lambda body: body[:-1] + b',"x":' + b'{"a":' * 100 + b"1" + b"}" * 101,
    _with_cpu_ratio(b"NaN"),
    _with_cpu_ratio(b"1e999"),
    _with_cpu_ratio(b"-1"),
    _with_cpu_ratio(b"7" * 5_000),
    _with_cpu_ratio(b'"high"'),
    _with_boot(b"\\u0000"),
    _with_boot(b"\x00"),
    _with_boot(b"\\ud800"),
    _with_boot(b"\xed\xa0\x80"),
    lambda body: b"",
    lambda body: b"{}",
    lambda body: b"[]",
    lambda body: bytes(range(256)) * 8,
)


def _garbage(connection: SimulatedConnection, digest: str | None) -> None:
    """Malformed bodies in turn, and after them one answer that is not even HTTP."""
    turn = connection.virtual_site.next_turn() % (len(GARBAGE) + 1)
    if turn < len(GARBAGE):
        connection.send(200, GARBAGE[turn](connection.virtual_site.report(None)), keep_alive=True)
    else:
        connection.stream(iter((bytes(range(256)),)))


def _wrong_site(connection: SimulatedConnection, digest: str | None) -> None:
    site = connection.virtual_site
    _send_lie(connection, digest, site=uuid5(site.site, "another"))


def _wrong_protocol(connection: SimulatedConnection, digest: str | None) -> None:
    _send_lie(connection, digest, protocol=2)


def _future_clock(connection: SimulatedConnection, digest: str | None) -> None:
    report = connection.virtual_site.make_now()
    _send_lie(connection, digest, at=report.at + FUTURE)


def _send_lie(connection: SimulatedConnection, digest: str | None, **fields: object) -> None:
    report = connection.virtual_site.make_now(digest)
    connection.send(200, with_fields(report, **fields), keep_alive=True)


@cache
def gzip_bomb() -> bytes:
    """A quarter of a megabyte of gzip that unpacks to BOMB_BYTES of blanks. The first call takes about 0.2 s."""
    block = b" " * (1 << 20)
    count = BOMB_BYTES // len(block)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # stands for itself, so it can be repeated
    checksum = 0
    for _ in range(count):
        checksum = zlib.crc32(block, checksum)
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    return head + packed * count + b"\x03\x00" + struct.pack("<II", checksum, BOMB_BYTES & 0xFFFFFFFF)


_MISBEHAVIOURS: Final[dict[Mode, Callable[[SimulatedConnection, str | None], None]]] = {
    "dark": _dark,
    "off": _dark,
    "hang": _hang,
    "loris": _loris,
    "garbage": _garbage,
    "big": _big,
    "bomb": _bomb,
    "liar": _liar,
    "headers": _headers,
    "wrong_site": _wrong_site,
    "wrong_protocol": _wrong_protocol,
    "future_clock": _future_clock,
}
