"""One connection to an agent: requests are read, bounded and answered here. A backend knows nothing of connections."""

import asyncio
import logging
from base64 import urlsafe_b64decode
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast
from uuid import UUID

import httptools
import msgspec

from agent.apply.blobs import read_range
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
from agent.routes import (
    ACK_ROUTE,
    BLOBS_ROUTE,
    DESIRED_ROUTE,
    IDENTITY_ROUTE,
    MAX_REQUEST_BYTES,
    MAX_TARGET_BYTES,
    RANGE_HEADER,
    ROUTE,
    body_bytes,
    methods_of,
    number_in,
    parse_target,
    split_target,
)

if TYPE_CHECKING:
    from agent.server import AgentServer

_STATUS: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    409: b"Conflict",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
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


class Connection(asyncio.Protocol):
    """One connection of a poller. The site is the one whose address was dialled."""

    __slots__ = (
        *("_body", "_bound_bytes", "_is_busy", "_parser", "_pending_bytes", "_range", "_target"),
        *("backend", "server", "tick", "transport", "waiting"),
    )

    def __init__(self, server: "AgentServer") -> None:
        """`waiting` is true while the peer owes us the rest of a request, or the reading of an answer."""
        self.server = server
        self.tick = server.tick
        self.waiting = True
        self.transport: asyncio.Transport | None = None
        self.backend: Backend | None = None
        self._target = self._body = b""
        self._range: str | None = None
        self._is_busy = False
        self._pending_bytes, self._bound_bytes = 0, MAX_REQUEST_BYTES
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
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refuse(400, "bad_request", "not an HTTP/1.1 request")
            return
        if self._pending_bytes > self._bound_bytes:
            self._refuse_large()

    def on_message_begin(self) -> None:
        """Parser: a request begins."""
        self.waiting = True
        self._target, self._body, self._range = b"", b"", None
        self._bound_bytes = MAX_REQUEST_BYTES

    def on_url(self, target: bytes) -> None:
        """Parser: a piece of the request target, which decides how much may follow."""
        self._target += target
        self._bound_bytes = MAX_REQUEST_BYTES + body_bytes(self._target)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: a header line; one is asked for."""
        if len(name) == len(RANGE_HEADER) and name.lower() == RANGE_HEADER:
            self._range = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        """Parser: a piece of the body; the bound on the whole request bounds it too."""
        self._body += piece

    def on_message_complete(self) -> None:
        """Parser: a request is complete."""
        is_large = self._pending_bytes > self._bound_bytes
        self._pending_bytes = 0
        self.waiting = False
        if self.transport is None or self._parser is None or self.transport.is_closing():
            return
        if is_large:
            self._refuse_large()
            return
        if self._is_busy:
            self.refuse(400, "bad_request", "one request at a time")
            return
        try:
            path, digest = parse_target(self._target) if len(self._target) <= MAX_TARGET_BYTES else ("", None)
        except ValueError:
            self.refuse(400, "bad_request", "not a request target")
            return
        is_blob = path.startswith(BLOBS_ROUTE)
        methods, method = methods_of(path), self._parser.get_method()
        if methods is None:
            self.refuse(404, "not_found", "no such path")
        elif method not in methods:
            allowed = b", ".join(methods)
            self.refuse(405, "method_not_allowed", f"only {allowed.decode()} is served here", allow=allowed)
        elif path == ROUTE:
            self.answer(digest)
        elif path == IDENTITY_ROUTE:
            self.answer_identity(is_put=method == b"PUT")
        elif is_blob or path == DESIRED_ROUTE:
            self.answer_desired(path.removeprefix(BLOBS_ROUTE) if is_blob else None, is_put=method == b"PUT")
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
                after, limit = number_in(query, "after", 0), number_in(query, "limit", MAX_PAGE_ENTRIES)
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
        """Answer once they are on the disk."""
        assert self.backend is not None
        work = partial(renewals.take, self.backend.site, certificates)
        self._later(work, "the certificates could not be kept", keep_alive=keep_alive)

    def answer_desired(self, digest: str | None, *, is_put: bool) -> None:
        """Take a document or a piece of the blob `digest`, once it is on the disk; or say how far the document is."""
        desk = self.server.desk
        assert self.backend is not None
        assert self._parser is not None
        if desk is None:
            self.refuse(404, "no_desired", "this agent takes no desired state")
            return
        keep_alive, site, body = self._parser.should_keep_alive(), self.backend.site, self._body
        if not is_put:
            self.send(200, msgspec.json.encode(desk.status(site)), keep_alive=keep_alive)
            return
        try:
            work: Callable[[], object] = partial(desk.put, site, body)
            if digest is not None:
                work = partial(desk.put_blob, digest, read_range(self._range, len(body)), body)
        except ValueError as error:
            self.refuse(400, "bad_request", str(error))
            return
        self._later(work, "it could not be taken", keep_alive=keep_alive)

    def _later(self, work: Callable[[], object], failed: str, *, keep_alive: bool) -> None:
        """Answer with what the work returns; the loop goes on meanwhile, and this peer has to wait."""
        self._is_busy = True
        done = asyncio.get_running_loop().run_in_executor(self.server.workers, work)
        done.add_done_callback(partial(self._answer_done, failed=failed, keep_alive=keep_alive))

    def _answer_done(self, done: "asyncio.Future[object]", *, failed: str, keep_alive: bool) -> None:
        self._is_busy = False
        if done.cancelled() or self.transport is None or self.transport.is_closing():
            return
        error = done.exception()
        if error is not None:
            log.error("%s: %s", failed, error, exc_info=error)
            self.refuse(503, "unavailable", failed)
            return
        self.send(200, encode_identity(done.result()), keep_alive=keep_alive)

    def _refuse_large(self) -> None:
        self.refuse(431, "request_too_large", f"such a request is at most {self._bound_bytes // 1_000} kB")

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
