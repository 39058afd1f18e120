"""One GET request over TCP, TLS or a unix socket: no redirects, no proxies, a bounded answer.

The whole exchange is under the caller's deadline: asyncio.timeout() ends it wherever it is.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Final

import httptools

from agent import __version__

MAX_HEAD_BYTES: Final = 65_536


class GetError(Exception):
    """There was no HTTP answer; the message says why in a few words."""


@dataclass(slots=True)
class Response:
    """Status and the first bytes of the body."""

    status: int = 0
    body: bytes = b""


@dataclass(slots=True)
class Where:
    """Whom to connect to: a unix socket, or host and port, with TLS where there is a context."""

    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    unix: str | None = None


@dataclass(slots=True)
class _Reading:
    """What the parser calls."""

    most_bytes: int
    response: Response = field(default_factory=Response)
    parser: httptools.HttpResponseParser = field(init=False)
    done: bool = False
    has_head: bool = False

    def on_headers_complete(self) -> None:
        self.response.status = self.parser.get_status_code()
        self.has_head = self.response.status >= 200  # before it come interim answers

    def on_body(self, piece: bytes) -> None:
        self.response.body += piece[: self.most_bytes - len(self.response.body)]
        self.done = self.done or len(self.response.body) >= self.most_bytes

    def on_message_complete(self) -> None:
        self.done = self.done or self.has_head


async def get(where: Where, target: str, *, host: str, most_bytes: int) -> Response:
    """The answer to `GET target`, at most `most_bytes` of its body; with 0 the body is not read.

    Raises GetError, OSError, ssl.SSLError. Does not end by itself: give it a timeout.
    """
    if where.unix is not None:
        reader, writer = await asyncio.open_unix_connection(where.unix)
    else:
        reader, writer = await asyncio.open_connection(where.host, where.port, ssl=where.tls)
    try:
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: archipelago-agent/{__version__}\r\n"
            "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        await writer.drain()
        return await _read(reader, most_bytes)
    finally:
        transport = writer.transport
        transport.abort()


async def _read(reader: asyncio.StreamReader, most_bytes: int) -> Response:
    reading = _Reading(most_bytes)
    reading.parser = httptools.HttpResponseParser(reading)
    received = 0
    while not reading.done and not (reading.has_head and most_bytes == 0):
        piece = await reader.read(65_536)
        if not piece:
            if not reading.has_head:
                raise GetError("it closed the connection without an answer")
            break
        received += len(piece)
        if not reading.has_head and received > MAX_HEAD_BYTES:
            raise GetError("its answer has too many headers")
        try:
            reading.parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise GetError("its answer is not HTTP") from None
    return reading.response
