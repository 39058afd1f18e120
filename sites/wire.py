"""The transport seam: kept-alive HTTP/1.1 to agents on one event loop, every dimension of an answer bounded.

Why not a general HTTP client: at thousands of polls a second its CPU is most of a poll, and none of them closes the
least recently used connection, bounds header bytes or refuses content encodings (docs/adr/0003). Reading HTTP is
llhttp's work (httptools); nothing here parses by itself.
"""

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from agent.protocol import MAX_BODY_BYTES
from sites.states import Failure

MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
CONNECT_TIMEOUT_S = 3.0
TOTAL_TIMEOUT_S = 10.0
SWEEP_S = 0.25
SPARE_FILES = 500


class WireError(Exception):
    """A request brought no usable answer; `failure` is the class that the site's row will show."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail[:300]


class NoAnswerYet(WireError):
    """A kept-alive connection ended before one byte of the answer: the agent closed it while it was idle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of one response."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection to one agent, at most one request at a time.

    `deadline` is the loop time at which the request under way fails, or 0 while idle; meanwhile it is in `busy`.
    `lost` is told when the connection has ended.
    """

    def __init__(self, lost: Callable[["Connection"], None], busy: set["Connection"]) -> None:
        self.key: object = None
        self.transport: asyncio.Transport | None = None
        self.deadline = 0.0
        self.usable = True
        self._lost = lost
        self._busy = busy
        self._waiter: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._error: WireError | None = None
        self._start()

    def _start(self) -> None:
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._headers = 0
        self._headers_done = False

    def request(self, message: bytes, deadline: float, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[Answer]":
        """Send one request; the future brings the Answer or raises WireError."""
        self._start()
        self.deadline = deadline
        self._busy.add(self)
        self._waiter = loop.create_future()
        assert self.transport is not None
        self.transport.write(message)
        return self._waiter

    def fail(self, failure: Failure, detail: str) -> None:
        """End the request under way, and the connection with it."""
        self._finish_error(WireError(failure, detail))

    def close(self) -> None:
        """Close without waiting."""
        self.usable = False
        if self.transport is not None:
            self.transport.abort()

    # asyncio's callbacks ------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # a stream transport, as asyncio.Protocol promises

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what nobody asked for ends the connection."""
        if self._waiter is None or self._parser is None:
            self.close()
            return
        if not self._headers_done:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._finish_error(self._error or WireError(Failure.PROTOCOL_ERROR, f"not HTTP/1.1: {error}"))
            return
        if not self._headers_done and self._header_bytes > MAX_HEADER_BYTES:
            self.fail(Failure.PROTOCOL_ERROR, f"more than {MAX_HEADER_BYTES} bytes of headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side closed; a request under way failed."""
        self.usable = False
        self._lost(self)
        self.transport = self._parser = None  # breaks the cycles: a poller freezes what it keeps, so none is collected
        if self._waiter is None:
            return
        if self._header_bytes == 0:
            self._finish_error(NoAnswerYet(Failure.UNREACHABLE, "connection closed before an answer"))
        else:
            self._finish_error(WireError(Failure.PROTOCOL_ERROR, "connection closed in the middle of an answer"))

    # llhttp's callbacks -------------------------------------------------------------------------------
    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse what must not come: too many headers, encodings, lengths above the bound."""
        self._headers += 1
        lower = name.lower()
        if self._headers > MAX_HEADERS:
            self._refuse(f"more than {MAX_HEADERS} headers")
        if lower == b"content-encoding" and value.strip().lower() != b"identity":
            self._refuse("content encodings are refused")
        if lower == b"content-length" and (not value.isdigit() or len(value) > 9 or int(value) > MAX_BODY_BYTES):
            self._refuse(f"a body of more than {MAX_BODY_BYTES} bytes was announced")

    def on_headers_complete(self) -> None:
        """From here on bytes count as body."""
        self._headers_done = True

    def on_body(self, chunk: bytes) -> None:
        """Collect the body up to its bound."""
        self._body_bytes += len(chunk)
        if self._body_bytes > MAX_BODY_BYTES:
            self._body.clear()
            self._refuse(f"a body of more than {MAX_BODY_BYTES} bytes")
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            self._refuse("an interim response that nobody asked for")
        if not self._parser.should_keep_alive():
            self.usable = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        waiter = self._done()
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(status, body))
        if not self.usable:
            self.close()

    # --------------------------------------------------------------------------------------------------
    def _refuse(self, detail: str) -> None:
        self._error = WireError(Failure.PROTOCOL_ERROR, detail)
        raise self._error

    def _done(self) -> "asyncio.Future[Answer] | None":
        """The request under way is over; who waited for it."""
        waiter, self._waiter, self.deadline = self._waiter, None, 0.0
        self._busy.discard(self)
        self._body = []
        return waiter

    def _finish_error(self, error: WireError) -> None:
        waiter = self._done()
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


def file_limit() -> int:
    """Connections that this process may hold: its file limit less SPARE_FILES."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, soft - SPARE_FILES)


class Wire:
    """All connections of one poller. Use it from its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit: int | None = None) -> None:
        self.loop = loop
        self.limit = limit or file_limit()
        self.evicted = 0
        self.opened = 0
        self._kept: OrderedDict[object, Connection] = OrderedDict()
        self._busy: set[Connection] = set()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def __len__(self) -> int:
        return len(self._kept)

    def kept(self, key: object) -> Connection | None:
        """The open, idle connection kept under `key`, now the most recently used."""
        found = self._kept.get(key)
        if found is None:
            return None
        if not found.usable or found.deadline:
            return None
        self._kept.move_to_end(key)
        return found

    async def dial(self, key: object, ip: str, port: int) -> Connection:
        """Open a connection to a vetted address and keep it under `key`. Raises WireError."""
        self._make_room()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self.loop.create_connection(self._new_connection, ip, port)
        except TimeoutError:
            raise WireError(Failure.TIMEOUT, f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise WireError(Failure.UNREACHABLE, error.strerror or str(error)) from None
        self.opened += 1
        connection.key = key
        self._kept[key] = connection
        return connection

    def get(self, connection: Connection, message: bytes, *, started: float) -> "asyncio.Future[Answer]":
        """One request on an open connection, done within TOTAL_TIMEOUT_S of `started`; awaiting it raises WireError."""
        return connection.request(message, started + TOTAL_TIMEOUT_S, self.loop)

    def close(self) -> None:
        """Close everything."""
        self._sweeper.cancel()
        for connection in list(self._kept.values()):
            connection.close()

    def _make_room(self) -> None:
        """Close the least recently used idle connections beyond the limit."""
        while len(self._kept) >= self.limit:
            idle = next((key for key, connection in self._kept.items() if not connection.deadline), None)
            if idle is None:
                return
            self._kept[idle].close()
            del self._kept[idle]
            self.evicted += 1

    def _new_connection(self) -> Connection:
        return Connection(self._forget, self._busy)

    def _forget(self, connection: Connection) -> None:
        """A connection has ended; another may be kept under its key by now."""
        if self._kept.get(connection.key) is connection:
            del self._kept[connection.key]

    def _sweep(self) -> None:
        """Fail requests past their deadline. One timer for all is cheaper than a timer a request."""
        now = self.loop.time()
        for connection in [busy for busy in self._busy if 0 < busy.deadline < now]:
            connection.fail(Failure.TIMEOUT, f"no whole answer within {TOTAL_TIMEOUT_S:g} s")
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
