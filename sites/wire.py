"""The transport seam: kept-alive HTTP/1.1 to agents on one event loop, every dimension of an answer bounded.

Why not a general HTTP client: at thousands of polls a second its CPU is most of a poll, and none of them closes the
least recently used connection, bounds header bytes or refuses content encodings (docs/adr/0003). Reading HTTP is
llhttp's work (httptools); nothing here parses by itself.
"""

import asyncio
import hashlib
import resource
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import httptools
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.protocol import MAX_BODY_BYTES
from sites.states import Failure

MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 100
CONNECT_TIMEOUT_S = 3.0
TOTAL_TIMEOUT_S = 10.0
SWEEP_S = 0.25
SPARE_FILES = 500
# Connections that are being opened at once, most of them waiting for a far side; and of these, handshakes, which cost
# CPU here: when a whole fleet comes back, hundreds side by side would each take longer than it may, and be begun again.
OPENING = 256
HANDSHAKES = 32
# A kept connection is dialled anew once a day, so that it never outlives its certificate by much.
MAX_AGE_S = 24 * 3600.0


class WireError(Exception):
    """A request brought no usable answer; `failure` is the class that the site's row will show."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail[:300]


class NoAnswerYet(WireError):
    """A kept-alive connection ended before one byte of the answer: the agent closed it while it was idle."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a connection leads to: an address as it is written, the name in the certificate, the key that it certifies.

    `pin` is agent.protocol.identity.tls_pin() of that key. A site that has called in is reached through `gateway`,
    which has seen that certificate; its address is then of no use.
    """

    address: str
    name: str
    pin: str
    gateway: str = ""


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
        self.peer: Peer | None = None
        self.opened_at = 0.0
        self.answered = False
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

    @property
    def under_way(self) -> "asyncio.Future[Answer]":
        """The answer to the request under way; only while `deadline` is set."""
        assert self._waiter is not None
        return self._waiter

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
        fresh = not self.answered and self.transport is not None and self.transport.get_extra_info("sslcontext")
        self.transport = self._parser = None  # breaks the cycles: a poller freezes what it keeps, so none is collected
        if self._waiter is None:
            return
        if isinstance(exc, ssl.SSLError):
            self._finish_error(WireError(Failure.CERTIFICATE, f"the site refuses us: {exc.reason or exc}"))
        elif self._header_bytes == 0:
            # TLS 1.3 has us ready before the site has looked at our certificate, and its alert may get lost.
            why = ", as by a site that refuses our certificate" if fresh else ""
            self._finish_error(NoAnswerYet(Failure.UNREACHABLE, f"connection closed before an answer{why}"))
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
        self.answered = True
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

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, tls: ssl.SSLContext | None, limit: int | None = None
    ) -> None:
        """`tls` shows our certificate and trusts the fleet's root. None, plaintext, is for tests of the transport."""
        self.loop = loop
        self.tls = tls
        self._opening = asyncio.Semaphore(OPENING)
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self.limit = limit or file_limit()
        self.evicted = 0
        self.opened = 0
        self._kept: OrderedDict[object, Connection] = OrderedDict()
        self._busy: set[Connection] = set()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    def __len__(self) -> int:
        return len(self._kept)

    def kept(self, key: object, peer: Peer) -> Connection | None:
        """The open, idle connection kept under `key`, now the most recently used; one to another peer is closed."""
        found = self._kept.get(key)
        if found is None or found.deadline:
            return None
        if found.peer != peer or self.loop.time() - found.opened_at > MAX_AGE_S:
            found.close()
        if not found.usable:
            return None
        self._kept.move_to_end(key)
        return found

    async def idle(self, key: object) -> None:
        """Wait until the connection kept under `key` has no request under way: a poll and a journal share it."""
        while (found := self._kept.get(key)) is not None and found.deadline:
            await asyncio.wait([found.under_way])

    async def dial(self, key: object, ip: str, port: int, peer: Peer) -> Connection:
        """Open a connection to a vetted address, make sure that `peer` answers, and keep it under `key`.

        Raises WireError, with the reason of a refused certificate.
        """
        self._make_room()
        async with self._opening:
            raw = await self._connect(ip, port)
            async with self._handshakes:
                transport, connection = await self._shake_hands(raw, peer)
        self.opened += 1
        if self.tls is not None:
            _check_pin(transport, connection, peer)
        connection.key, connection.peer, connection.opened_at = key, peer, self.loop.time()
        self._kept[key] = connection
        return connection

    async def _connect(self, ip: str, port: int) -> socket.socket:
        """A TCP connection. Raises WireError."""
        raw = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self.loop.sock_connect(raw, (ip, port))
        except TimeoutError:
            raw.close()
            raise WireError(Failure.TIMEOUT, f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raw.close()
            raise WireError(Failure.UNREACHABLE, error.strerror or str(error)) from None
        except BaseException:
            raw.close()
            raise
        return raw

    async def _shake_hands(self, raw: socket.socket, peer: Peer) -> tuple[asyncio.BaseTransport, Connection]:
        """TLS on it. Raises WireError, with the reason of a refused certificate; the socket is then closed."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self.loop.create_connection(
                    self._new_connection, sock=raw, ssl=self.tls, server_hostname=peer.name if self.tls else None
                )
        except TimeoutError:
            raise WireError(Failure.TIMEOUT, f"no handshake within {CONNECT_TIMEOUT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise _refused(error) from None
        except ssl.SSLError as error:
            raise WireError(Failure.CERTIFICATE, f"no TLS with it: {error.reason or error}") from None
        except OSError as error:
            detail = error.strerror or str(error) or "connection closed during the handshake"
            raise WireError(Failure.UNREACHABLE, detail) from None

    async def dial_gateway(self, key: object, path: str, peer: Peer) -> Connection:
        """The same through a gateway on this machine, whose unix socket is for us alone. Raises WireError."""
        self._make_room()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, connection = await self.loop.create_unix_connection(self._new_connection, path)
        except (OSError, TimeoutError) as error:
            raise WireError(Failure.UNREACHABLE, f"no gateway {peer.gateway} here: {error}") from None
        transport.write(peer.name.encode() + b"\n")
        self.opened += 1
        connection.key, connection.peer, connection.opened_at = key, peer, self.loop.time()
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


_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _refused(error: ssl.SSLCertVerificationError) -> WireError:
    """Another site's certificate is another failure than a bad one."""
    if error.verify_code in _OTHER_NAME:
        return WireError(Failure.IDENTITY_MISMATCH, "the certificate is another site's")
    return WireError(Failure.CERTIFICATE, error.verify_message)


def _check_pin(transport: asyncio.BaseTransport, connection: Connection, peer: Peer) -> None:
    """The certified key must be the one that was accepted: a certificate of a revoked key is still signed by our CA."""
    der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    key = x509.load_der_x509_certificate(der).public_key()
    shown = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    if shown != peer.pin:
        connection.close()
        raise WireError(Failure.IDENTITY_MISMATCH, "it shows a key that is not, or no longer, the site's accepted one")
