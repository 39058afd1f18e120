"""The HTTP/1.1 server an agent listens with, over TLS 1.3 with certificates on both sides, kept alive.

The transport is behind this one seam: backends make report bodies and know nothing of connections.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import msgspec

from agent.backends.base import Backend
from agent.identity import HANDSHAKE_S, SiteTls, names_of
from agent.journal import AheadError, JournalError
from agent.listening import BACKLOG
from agent.memory import Memory
from agent.protocol import ProtocolError
from agent.protocol.journal import MAX_PAGE_ENTRIES, decode_ack, encode_ack

MAX_REQUEST_BYTES: Final = 16_384
MAX_TARGET_BYTES: Final = 2_048
REQUEST_TIMEOUT_S: Final = 10.0
IDLE_TIMEOUT_S: Final = 900.0
ROUTE: Final = "/v1/report"
JOURNAL_ROUTE: Final = "/v1/journal"
ACK_ROUTE: Final = "/v1/journal/ack"
_SWEEP_S: Final = 5.0
_NAMES_S: Final = 1.0
_STATUS: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

_METHODS: Final = {ROUTE: b"GET", JOURNAL_ROUTE: b"GET", ACK_ROUTE: b"POST"}
T = TypeVar("T")
log = logging.getLogger("agent")


class AtAnyAddress(Mapping[str, T]):
    """One and the same thing, whatever address of this machine is dialled; nothing while it is None."""

    def __init__(self, thing: T | None = None) -> None:
        self.thing = thing

    def __getitem__(self, address: str) -> T:
        if self.thing is None:
            raise KeyError(address)
        return self.thing

    def __iter__(self) -> Iterator[str]:
        return iter(() if self.thing is None else ("",))

    def __len__(self) -> int:
        return int(self.thing is not None)


@lru_cache(maxsize=1_024)
def parse_target(target: bytes) -> tuple[str, str | None]:
    """Path and `components` digest of a request target. Raises ValueError when it is no URL."""
    path, query = split_target(target)
    return path, query.get("components")


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """Path and query of a request target; of a name that comes twice, the first. Raises ValueError."""
    parts = urlsplit(target.decode("ascii"))
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=8).items()}


class Connection(asyncio.Protocol):
    """One connection of a poller. The site is the one whose address was dialled."""

    __slots__ = ("_body", "_parser", "_pending_bytes", "_target", "backend", "server", "tick", "transport", "waiting")

    def __init__(self, server: "AgentServer") -> None:
        """`waiting` is true while the peer owes us the rest of a request, or the reading of an answer."""
        self.server = server
        self.tick = server.tick
        self.waiting = True
        self.transport: asyncio.Transport | None = None
        self.backend: Backend | None = None
        self._target = self._body = b""
        self._pending_bytes = 0
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it: no such site, not the centre who calls, or one too many."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance, but by shape
        self.transport = transport
        local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        self.backend = self.server.backends.get(local[0]) if local else None
        full = len(self.server.connections) >= self.server.max_connections
        if self.backend is None or full or not peer or not self.server.admits(local[0], transport):
            transport.abort()
            return
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and break the cycle with its parser, so that no collector is needed."""
        self.server.connections.discard(self)
        self.transport = self._parser = None

    def pause_writing(self) -> None:
        """The peer does not read: take no more requests until it does."""
        self.waiting = True
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self.waiting = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Parse what came; each complete request is answered from within."""
        self.tick = self.server.tick
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_REQUEST_BYTES:
            self.refuse(431, "request_too_large", "a request is at most 16 kB")
            return
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refuse(400, "bad_request", "not an HTTP/1.1 request")

    def on_message_begin(self) -> None:
        """Parser: a request begins."""
        self.waiting = True
        self._target = self._body = b""

    def on_url(self, target: bytes) -> None:
        """Parser: a piece of the request target."""
        self._target += target

    def on_body(self, piece: bytes) -> None:
        """Parser: a piece of the body; the bound on the whole request bounds it too."""
        self._body += piece

    def on_message_complete(self) -> None:
        """Parser: a request is complete."""
        self._pending_bytes = 0
        self.waiting = False
        if self.transport is None or self._parser is None or self.transport.is_closing():
            return
        try:
            path, digest = parse_target(self._target) if len(self._target) <= MAX_TARGET_BYTES else ("", None)
        except ValueError:
            self.refuse(400, "bad_request", "not a request target")
            return
        method = _METHODS.get(path)
        if method is None:
            self.refuse(404, "not_found", "no such path")
        elif self._parser.get_method() != method:
            self.refuse(405, "method_not_allowed", f"only {method.decode()} is served here", allow=method)
        elif path == ROUTE:
            self.answer(digest)
        else:
            self.answer_journal(path)

    def answer(self, digest: str | None) -> None:
        """Answer one poll with a report."""
        assert self.backend is not None
        assert self._parser is not None
        try:
            body = self.backend.report(digest)
        except Exception:  # the top of a request: a host that cannot be read must not stop the agent
            log.exception("the report of site %s could not be made", self.backend.site)
            self.refuse(500, "report_failed", "the report could not be made")
            return
        self.server.reports += 1
        if self.server.memory is not None:
            self.server.memory.polled(self.backend.site)
        self.send(200, body, keep_alive=self._parser.should_keep_alive())

    def answer_journal(self, path: str) -> None:
        """Answer for the journal: a page of it, or to an acknowledgement."""
        memory = self.server.memory
        assert self.backend is not None
        assert self._parser is not None
        if memory is None:
            self.refuse(404, "no_journal", "this agent keeps no journal")
            return
        try:
            if path == ACK_ROUTE:
                body = encode_ack(memory.ack(self.backend.site, decode_ack(self._body)))
            else:
                _, query = split_target(self._target)
                after, limit = _number(query, "after", 0), _number(query, "limit", MAX_PAGE_ENTRIES)
                body = memory.page(self.backend.site, after, limit)
        except (ValueError, ProtocolError) as error:
            self.refuse(400, "bad_request", str(error)[:200])
        except AheadError:
            self.refuse(409, "ahead", "no entry of that number was ever written")
        except JournalError as error:
            self.refuse(503, "journal", str(error)[:200])
        else:
            self.send(200, body, keep_alive=self._parser.should_keep_alive())

    def send(self, status: int, body: bytes, *, keep_alive: bool, extra: bytes = b"") -> None:
        """Write one JSON response; `extra` are further header lines."""
        assert self.transport is not None
        reason = _STATUS.get(status, b"OK")
        close = b"" if keep_alive else b"Connection: close\r\n"
        self.transport.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n%b"
            % (status, reason, len(body), close, extra, body)
        )
        if not keep_alive:
            self.transport.close()

    def refuse(self, status: int, code: str, message: str, *, allow: bytes = b"") -> None:
        """Answer with an error and close."""
        body = msgspec.json.encode({"error": {"code": code, "message": message, "details": {}}})
        self.send(status, body, keep_alive=False, extra=b"Allow: %b\r\n" % allow if allow else b"")


class AgentServer:
    """Listens for one site or many: which one is asked is told by the local address of the connection."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        max_connections: int,
        tls: Mapping[str, SiteTls] | None,
        memory: Memory | None = None,
        connection: type[Connection] = Connection,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """`backends` and `tls` map the address that is dialled to its site, and to what that shows and admits.

        `tls` may grow while we serve: a site that has not enrolled yet answers nobody. None, plaintext, is for tests.
        """
        self.backends = backends
        self.tls = tls
        self.memory = memory
        self.max_connections = max_connections
        self.connections: set[Connection] = set()
        self.reports = 0
        self.tick = 0
        self._connection = connection
        self._sweep_s = min(_SWEEP_S, request_timeout_s / 2)
        self._idle_ticks = idle_timeout_s / self._sweep_s
        self._request_ticks = request_timeout_s / self._sweep_s
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    def new_connection(self) -> Connection:
        """The protocol of one more connection."""
        return self._connection(self)

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets, which the server then owns, until `close`."""
        loop = asyncio.get_running_loop()
        context = None if self.tls is None else self._door(self.tls)
        for sock in sockets:
            server = await loop.create_server(
                self.new_connection,
                sock=sock,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S if context else None,
            )
            self._servers.append(server)
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    def admits(self, address: str, transport: asyncio.Transport) -> bool:
        """Whether it is the centre who calls, and the site of this address whom it calls by name.

        What comes through a link has passed the gateway, whom the site itself has called and recognised.
        """
        if transport.get_extra_info("linked"):
            return True
        if self.tls is None:
            return True
        site = self.tls.get(address)
        connection = transport.get_extra_info("ssl_object")
        if site is not None and site.admits(connection):
            return True
        # Whoever comes so far was certified by the fleet's root: it is worth a line.
        names = ", ".join(names_of(connection.getpeercert()))
        log.warning("refused %s, who is not the dashboard, or dialled another site than that of %s", names, address)
        return False

    def _door(self, tls: Mapping[str, SiteTls]) -> ssl.SSLContext:
        """The context of all handshakes: the name that is asked for chooses the site's own."""
        door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        door.minimum_version = ssl.TLSVersion.TLSv1_3
        door.verify_mode = ssl.CERT_REQUIRED
        door.verify_flags |= ssl.VERIFY_X509_STRICT
        door.num_tickets = 0
        by_name: dict[str, SiteTls] = {}
        read_at = -_NAMES_S
        read_len = -1

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            nonlocal read_at, read_len
            found = by_name.get(name or "")
            now = time.monotonic()
            # Enrolled since, or renamed; but whoever asks for names that there are not must not make us read all.
            if (found is None or name not in found.names) and (len(tls) != read_len or now - read_at >= _NAMES_S):
                read_at, read_len = now, len(tls)
                by_name.clear()
                by_name.update((own, site) for site in tls.values() for own in site.names)
                found = by_name.get(name or "")
            if found is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = found.context
            return None

        door.sni_callback = choose
        return door

    async def _sweep(self) -> None:
        """Close what is idle or slow. One coarse clock for all is cheaper than a timer a connection."""
        while True:
            await asyncio.sleep(self._sweep_s)
            self.tick += 1
            for connection in list(self.connections):
                age = self.tick - connection.tick
                limit = self._request_ticks if connection.waiting else self._idle_ticks
                if age > limit and connection.transport is not None:
                    connection.transport.abort()


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of the query. Raises ValueError."""
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 19:
        raise ValueError(f"{name} is not a number")
    return int(text)
