"""How a site calls the centre's gateway: it trusts a root by the hash in its join string, and nothing else."""

import hashlib
import http.client
import socket
import ssl
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from agent.identity import Identity, load_chain
from agent.protocol import ProtocolError
from agent.protocol.identity import (
    MAX_IDENTITY_BYTES,
    Certificates,
    EnrolAnswer,
    Join,
    NonceAnswer,
    Refusal,
    RootsAnswer,
    decode_identity,
    encode_identity,
    service_name,
)

TIMEOUT_S: Final = 10.0
T = TypeVar("T")


class CallError(Exception):
    """The gateway could not be asked, or refused; `code` is its reason in one word, empty when it was not reached."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises CallError."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise CallError(f"{endpoint!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def fetch_roots(join: Join) -> tuple[str, ...]:
    """The root that the join string names, alone, as the gateway gives it. Raises CallError.

    The connection proves nothing, the hash does: whoever is in between could send further roots with the true one, or
    behind it in the same text. So nothing is trusted but the very bytes that were hashed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with Gateway(join.gateway, join.fleet, context) as gateway:
        roots = gateway.roots()
    try:
        root = ssl.PEM_cert_to_DER_cert(roots[0])
    except ValueError:
        raise CallError("the gateway sent a root that cannot be read", "root") from None
    if hashlib.sha256(root).digest() != join.root_sha256:
        raise CallError("the gateway shows another root than the join string names: somebody is in between", "root")
    return (ssl.DER_cert_to_PEM_cert(root),)


def trusted(roots: tuple[str, ...], identity: Identity | None = None) -> ssl.SSLContext:
    """A context that meets only the centre's gateway; with an identity it shows the site's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata="\n".join(roots))
    except ssl.SSLError as error:
        raise CallError(f"the centre's root cannot be read: {error.reason}") from None
    if identity is not None:
        load_chain(context, identity)
    return context


class Gateway:
    """One kept-alive connection to the gateway; a context manager. Blocking: use it in a thread.

    `date` is the gateway's clock as its last answer tells it (RFC 9110's Date), None if it did not.
    """

    def __init__(self, endpoint: str, fleet: str, context: ssl.SSLContext) -> None:
        self._host, self._port = split_endpoint(endpoint)
        self._name = service_name(fleet, "gateway")
        self._context = context
        self._http: http.client.HTTPConnection | None = None
        self.date: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close; the next call opens another."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def roots(self) -> tuple[str, ...]:
        """The fleet's root certificates, PEM. Raises CallError."""
        return self._call("GET", "/agent/v1/roots", None, RootsAnswer).roots

    def enrol(self, identity: Identity, secret: bytes, *, host: str) -> EnrolAnswer:
        """Present the site's keys. Raises CallError."""
        return self._call("POST", "/agent/v1/enrol", identity.enrol_request(secret, host=host), EnrolAnswer)

    def renew(self, identity: Identity) -> Certificates:
        """A new certificate for the site's key. Raises CallError."""
        nonce = self._call("GET", "/agent/v1/nonce", None, NonceAnswer).nonce
        return self._call("POST", "/agent/v1/renew", identity.renew_request(nonce), Certificates)

    def _call(self, method: str, path: str, message: Any, kind: type[T]) -> T:
        """One request, once more on a fresh connection when a kept one had been closed."""
        body = encode_identity(message) if message is not None else None
        was_open = self._http is not None
        try:
            status, answer = self._exchange(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not was_open:
                raise _unreached(error) from None
            try:
                status, answer = self._exchange(method, path, body)
            except (OSError, http.client.HTTPException) as again:
                self.close()
                raise _unreached(again) from None
        try:
            if status == 200:
                return decode_identity(answer, kind)
            refusal = decode_identity(answer, Refusal).error
        except ProtocolError as error:
            raise CallError(f"the gateway's answer (status {status}) cannot be read: {error.reason}") from None
        raise CallError(refusal.message, refusal.code)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        if self._http is None:
            self._http = self._connect()
        self._http.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = self._http.getresponse()
        answer = response.read(MAX_IDENTITY_BYTES + 1)
        self.date = response.headers.get("Date")
        if len(answer) > MAX_IDENTITY_BYTES or response.will_close:
            self.close()
        return response.status, answer

    def _connect(self) -> http.client.HTTPConnection:
        raw = socket.create_connection((self._host, self._port), TIMEOUT_S)
        try:
            sock = self._context.wrap_socket(raw, server_hostname=self._name)
        except BaseException:
            raw.close()
            raise
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        connection.sock = sock
        return connection


def _unreached(error: Exception) -> CallError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CallError(f"the gateway's certificate is refused: {error.verify_message}", "certificate")
    if isinstance(error, TimeoutError):
        return CallError("the gateway does not answer in time")
    return CallError(f"the gateway cannot be reached: {getattr(error, 'strerror', None) or error}")
