"""Asks the signer for certificates, and makes TLS contexts of them. No private key of the centre is read here.

All calls block, for at most TIMEOUT_S; an event loop asks through a thread.
"""

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings
from msgspec import Meta, Struct

from agent.protocol.kinds import settle
from fleet.kit.errors import DomainError, Unavailable

T = TypeVar("T")
Service = Literal["dashboard", "gateway"]
MAX_BATCH: Final = 500
TIMEOUT_S: Final = 12.0  # the signer itself gives up after 10
_MAX_ANSWER_BYTES: Final = 4 << 20


class SignerAway(Unavailable):
    """The signer does not answer; trying again may help."""


class SignerRefused(DomainError):
    """The signer answered, and will not sign. `code` says why, e.g. `busy`, `key`, `not_found`, `conflict`."""

    code: ClassVar[str] = "refused"
    status = 409

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # the one error whose code somebody else gives


class Roots(Struct, frozen=True):
    """Whom to trust: PEM of the roots, the fleet's name, and SHA-256 in hex of the root that join strings pin.

    `documents` are certificates, by the root, of the keys that sign what sites run.
    """

    roots: tuple[str, ...]
    fleet: str
    root_sha256: str
    documents: tuple[str, ...] = ()


class Issued(Struct, frozen=True):
    """A certificate: `chain_pem`, leaf first; `serial` and `sha256` (of the leaf's DER) in hex; `name` its only one."""

    chain_pem: Annotated[tuple[str, ...], Meta(min_length=1)]
    serial: str
    not_before: datetime
    not_after: datetime
    sha256: str
    name: str

    @property
    def half_life(self) -> datetime:
        """When to ask for the next one."""
        return self.not_before + (self.not_after - self.not_before) / 2


@dataclass(frozen=True)
class ServiceIdentity:
    """A process's TLS context, and the certificate in it. At `issued.half_life` the caller asks for another."""

    context: ssl.SSLContext
    issued: Issued


class Signed(Struct, frozen=True):
    """A signature over a document's payload: `key` is the raw public one, `sha256` of the payload in hex."""

    signature: bytes
    key: bytes
    sha256: str


class ReportKeys(Struct, frozen=True):
    """Whom to trust for reports: PEM of the root and of the certificates by it; `bundle_key` is raw, of Ed25519."""

    root: str
    bundle: str
    pdf: str
    bundle_key: bytes


class SignedReport(Struct, frozen=True):
    """A signature over a report's file, and the PEM of the certificate of the key that made it."""

    signature: bytes
    certificate: str
    sha256: str


class _Reason(Struct, frozen=True):
    code: str
    message: str


class _Failure(Struct, frozen=True):
    error: _Reason


class _Results(Struct, frozen=True):
    results: list[dict[str, Any]]


def roots() -> Roots:
    """The fleet's name and its roots. Raises SignerAway, SignerRefused."""
    return _ask({"op": "roots"}, Roots)


def issue_site(identity_id: int) -> Issued:
    """Certify the site of a row of SiteIdentity; the signer reads the row itself. Raises SignerAway, SignerRefused."""
    return _ask({"op": "issue_site", "identity_id": identity_id}, Issued)


def issue_sites(identity_ids: Sequence[int]) -> list[Issued | SignerRefused]:
    """The same for many, in batches of MAX_BATCH: a result or a refusal for each, in their order.

    Raises SignerAway or SignerRefused when a whole batch is refused (`busy`).
    """
    return _ask_many("issue_site", "identity_ids", identity_ids, Issued)


def sign_documents(document_ids: Sequence[int]) -> list[Signed | SignerRefused]:
    """Sign the documents of these rows, which the signer reads itself: a signature or a refusal for each, in order.

    A version that the signer's ledger knows of as signed with other bytes, or as overtaken, is refused (`overtaken`).
    Raises SignerAway or SignerRefused when a whole batch is refused (`busy`).
    """
    return _ask_many("sign_documents", "document_ids", document_ids, Signed)


def report_keys() -> ReportKeys:
    """The keys that sign reports, as certificates. Raises SignerAway, SignerRefused."""
    return _ask({"op": "report_keys"}, ReportKeys)


def sign_report(file_id: int) -> SignedReport:
    """Sign what this row of a report's files has to be signed; the signer reads it itself.

    Raises SignerAway, SignerRefused.
    """
    return _ask({"op": "sign_report", "file_id": file_id}, SignedReport)


def issue_service(service: Service, tls_key_der: bytes) -> Issued:
    """Certify a process of ours; the key is DER, SubjectPublicKeyInfo. Raises SignerAway, SignerRefused."""
    return _ask({"op": "issue_service", "service": service, "tls_key": tls_key_der}, Issued)


def service_context(service: Service, into: ssl.SSLContext | None = None) -> ServiceIdentity:
    """A TLS 1.3 context with a fresh key, certified for `service`. The key never leaves this process's memory.

    `dashboard` calls agents: it demands their certificate, by the fleet's root and by name. `gateway` is called: it
    asks for a client's certificate, goes on without one, and refuses a wrong one. With `into`, an earlier context gets
    the new certificate, for handshakes from then on. Raises SignerAway, SignerRefused.
    """
    trusted = roots()
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue_service(service, key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    context = into or _context(service, trusted)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _load(context, pem + "".join(issued.chain_pem).encode())
    return ServiceIdentity(context, issued)


def _context(service: Service, trusted: Roots) -> ssl.SSLContext:
    if service == "dashboard":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # demands a certificate, and checks the name
        context.hostname_checks_common_name = False
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.num_tickets = 0  # a resumed connection would not look at the certificate again
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata="".join(trusted.roots))
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Python's ssl reads keys from files alone: this one lies in memory and has no name."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _ask_many(operation: str, name: str, ids: Sequence[int], kind: type[T]) -> list[T | SignerRefused]:
    """One operation on many rows, in batches of MAX_BATCH: an answer or a refusal for each, in their order."""
    answers: list[T | SignerRefused] = []
    for begin in range(0, len(ids), MAX_BATCH):
        batch = list(ids[begin : begin + MAX_BATCH])
        results = _ask({"op": operation, name: batch}, _Results).results
        if len(results) != len(batch):
            raise SignerAway("the signer's answer is not whole")
        answers += [_one(result, kind) for result in results]
    return answers


def _ask(question: dict[str, Any], kind: type[T]) -> T:
    """One question, one connection."""
    path = settings.SIGNER_SOCKET
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            with suppress(BrokenPipeError):  # closed already: then it has said why
                connection.sendall(msgspec.json.encode(question) + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline(_MAX_ANSWER_BYTES)
    except OSError as error:
        raise SignerAway(f"no signer answers at {path}: {(error.strerror or str(error)).lower()}") from None
    return _read(line, kind)


def _read(line: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except ValueError:
        pass
    try:
        reason = msgspec.json.decode(line, type=_Failure).error
    except ValueError:
        raise SignerAway("the signer ended before it answered, or speaks another language") from None
    raise SignerRefused(reason.code, reason.message)


def _one(result: dict[str, Any], kind: type[T]) -> T | SignerRefused:
    if "error" in result:
        reason = msgspec.convert(result, _Failure).error
        return SignerRefused(reason.code, reason.message)
    return msgspec.convert(result, kind)


settle(__name__)
