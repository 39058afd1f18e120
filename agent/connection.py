"""One connection to an agent: requests are read, bounded and answered here. A backend knows nothing of connections."""

import asyncio
import logging
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httptools
import msgspec

from agent.backends.base import Backend
from agent.identity import IdentityError
from agent.journal import AheadError, JournalError
from agent.protocol import ProtocolError
from agent.protocol.identity import (
    MAX_NONCE_BYTES,
    MIN_NONCE_BYTES,
    Certificates,
    RenewRequest,
    TakenAnswer,
    decode_identity,
    encode_identity,
)
from agent.protocol.journal import MAX_PAGE_ENTRIES, decode_ack, encode_ack

if TYPE_CHECKING:
    from agent.server import AgentServer

MAX_REQUEST_BYTES: Final = 16_384
MAX_TARGET_BYTES: Final = 2_048
ROUTE: Final = "/v1/report"
JOURNAL_ROUTE: Final = "/v1/journal"
ACK_ROUTE: Final = "/v1/journal/ack"
IDENTITY_ROUTE: Final = "/v1/identity"
_STATUS: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_METHODS: Final = {
    ROUTE: (b"GET",),
    JOURNAL_ROUTE: (b"GET",),
    ACK_ROUTE: (b"POST",),
    IDENTITY_ROUTE: (b"GET", b"PUT"),
}
log = logging.getLogger("agent")


class Renewals(Protocol):
    """What a connection asks of the keeper of identities, when the centre renews from its side."""

    def renewal(self, site: UUID, nonce: bytes) -> RenewRequest:
        """The site's request to have its key certified. Raises IdentityError."""
        ...

    def take(self, site: UUID, certificates: Certificates) -> TakenAnswer:
        """Keep and use certificates that the centre has sent. Blocks until they are on the disk."""
        ...


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

    __slots__ = (
        "_body",
        "_parser",
        "_pending_bytes",
        "_taking",
        "_target",
        "backend",
        "server",
        "tick",
        "transport",
        "waiting",
    )

    def __init__(self, server: "AgentServer") -> None:
        """`waiting` is true while the peer owes us the rest of a request, or the reading of an answer."""
        self.server = server
        self.tick = server.tick
        self.waiting = True
        self.transport: asyncio.Transport | None = None
        self.backend: Backend | None = None
        self._target = self._body = b""
        self._pending_bytes = 0
        self._taking = False
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
        if self._taking:
            self.refuse(400, "bad_request", "one request at a time")
            return
        try:
            path, digest = parse_target(self._target) if len(self._target) <= MAX_TARGET_BYTES else ("", None)
        except ValueError:
            self.refuse(400, "bad_request", "not a request target")
            return
        methods, method = _METHODS.get(path), self._parser.get_method()
        if methods is None:
            self.refuse(404, "not_found", "no such path")
        elif method not in methods:
            allowed = b", ".join(methods)
            self.refuse(405, "method_not_allowed", f"only {allowed.decode()} is served here", allow=allowed)
        elif path == ROUTE:
            self.answer(digest)
        elif path == IDENTITY_ROUTE:
            self.answer_identity(is_put=method == b"PUT")
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

    def answer_identity(self, *, is_put: bool) -> None:
        """Renewal from the centre's side: the site's request, or taking the certificates that were made of it."""
        renewals = self.server.renewals
        assert self.backend is not None
        assert self._parser is not None
        if renewals is None:
            self.refuse(404, "no_identity", "this agent keeps no identity")
            return
        keep_alive = self._parser.should_keep_alive()
        try:
            if is_put:
                self._take(renewals, decode_identity(self._body, Certificates), keep_alive=keep_alive)
                return
            _, query = split_target(self._target)
            nonce = urlsafe_b64decode(query.get("nonce", ""))
            if not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES:
                raise ValueError(f"a nonce has {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes")
            body = encode_identity(renewals.renewal(self.backend.site, nonce))
        except (ValueError, ProtocolError) as error:
            self.refuse(400, "bad_request", str(error)[:200])
        except IdentityError as error:
            self.refuse(503, "identity", str(error)[:200])
        else:
            self.send(200, body, keep_alive=keep_alive)

    def _take(self, renewals: Renewals, certificates: Certificates, *, keep_alive: bool) -> None:
        """Answer once they are on the disk; the loop goes on meanwhile, and this peer has to wait."""
        assert self.backend is not None
        assert self.transport is not None
        self._taking = True
        work = partial(renewals.take, self.backend.site, certificates)
        done = asyncio.get_running_loop().run_in_executor(None, work)
        done.add_done_callback(partial(self._taken, keep_alive=keep_alive))

    def _taken(self, done: "asyncio.Future[TakenAnswer]", *, keep_alive: bool) -> None:
        self._taking = False
        if self.transport is None or self.transport.is_closing():
            return
        error = done.exception()
        if error is not None:
            log.error("certificates of the centre were not kept: %s", error)
            self.refuse(503, "identity", "the certificates could not be kept")
            return
        self.send(200, encode_identity(done.result()), keep_alive=keep_alive)

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


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of the query. Raises ValueError."""
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 19:
        raise ValueError(f"{name} is not a number")
    return int(text)
