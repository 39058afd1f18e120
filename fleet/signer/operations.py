"""What the signer does, and nothing else: `roots`, `issue_site`, `issue_service`, `sign_documents`, `report_keys`,
`sign_report`.

One line of JSON in, one out.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from threading import Lock
from typing import Annotated, Any, Final, Protocol
from uuid import UUID

import msgspec
from django.db import Error as DatabaseFailed
from msgspec import Meta, Struct

from agent.protocol import ProtocolError
from agent.protocol.desired import Document, sign_document
from fleet.kit.errors import DomainError
from fleet.signer import authority
from fleet.signer.authority import Issued, Service, SignerError
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger, Version
from fleet.signer.reports import ReportToSign, SignedReport, report_keys, sign_report

MAX_BATCH: Final = 500
REPORTS_PER_S: Final = 20
REPORTS_BURST: Final = 500
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]

log = logging.getLogger("fleet.signer")


class Signable(Protocol):
    """What the signer reads of a site before it certifies it; `tls_key` is DER, SubjectPublicKeyInfo."""

    @property
    def uuid(self) -> UUID: ...  # noqa: D102
    @property
    def provider_id(self) -> int: ...  # noqa: D102
    @property
    def tls_key(self) -> bytes: ...  # noqa: D102


# Raises DomainError when that identity may not be certified.
Read = Callable[[int], Signable]
# Of each id the document, or why it may not be signed.
ReadDocuments = Callable[[Sequence[int]], Mapping[int, Document | DomainError]]
# Raises DomainError for a file of a report that may not be signed.
ReadReport = Callable[[int], ReportToSign]


class RootsAsked(Struct, tag_field="op", tag="roots", forbid_unknown_fields=True):
    """Ask whom to trust."""


class SiteAsked(Struct, tag_field="op", tag="issue_site", forbid_unknown_fields=True):
    """Certify the sites of these rows. A request names rows only: names and keys come from the database."""

    identity_id: Id | None = None
    identity_ids: Annotated[list[Id], Meta(min_length=1, max_length=MAX_BATCH)] | None = None


class ServiceAsked(Struct, tag_field="op", tag="issue_service", forbid_unknown_fields=True):
    """Certify a process of the centre; `tls_key` is DER in base64."""

    service: Service
    tls_key: Annotated[bytes, Meta(max_length=256)]


class DocumentsAsked(Struct, tag_field="op", tag="sign_documents", forbid_unknown_fields=True):
    """Sign the documents of these rows. What they say comes from the database, and is checked against the ledger."""

    document_ids: Annotated[list[Id], Meta(min_length=1, max_length=MAX_BATCH)]


class ReportKeysAsked(Struct, tag_field="op", tag="report_keys", forbid_unknown_fields=True):
    """Ask whom to trust for reports."""


class ReportAsked(Struct, tag_field="op", tag="sign_report", forbid_unknown_fields=True):
    """Sign the report's file of this row."""

    file_id: Id


@dataclass(frozen=True)
class Signed:
    """A signature over a document: `key` is the raw public one, `sha256` of the payload in hex; bytes go as base64."""

    signature: bytes
    key: bytes
    sha256: str


_decoder = msgspec.json.Decoder(RootsAsked | SiteAsked | ServiceAsked | DocumentsAsked | ReportKeysAsked | ReportAsked)


class TokenBucket:
    """Allows `burst` at once and `per_s` a second in the long run. Safe among threads."""

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._lock = Lock()
        self._left = burst
        self._at = clock()

    def take(self, number: int) -> bool:
        """Take `number` tokens, or none: whether they were there."""
        with self._lock:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now
            if number > self._left:
                return False
            self._left -= number
            return True


@dataclass(frozen=True)
class Limits:
    """The signer's own rates: whoever reaches its socket still cannot certify without end."""

    sites: TokenBucket
    services: TokenBucket
    documents: TokenBucket
    reports: TokenBucket = field(default_factory=lambda: TokenBucket(REPORTS_PER_S, REPORTS_BURST))


def _utc_now() -> datetime:
    return datetime.now(tz=UTC)


class Signer:
    """Answers requests. `read` gives what is certified; `reading` is entered around the reads of one request."""

    def __init__(
        self,
        store: KeyStore,
        fleet: str,
        read: Read,
        limits: Limits,
        *,
        ledger: Ledger,
        read_documents: ReadDocuments,
        read_report: ReadReport | None = None,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._read = read
        self._limits = limits
        self._ledger = ledger
        self._read_documents = read_documents
        self._read_report = read_report
        self._reading = reading
        self._now = now

    def answer(self, line: bytes, deadline: float) -> bytes:
        """The answer to one line, whatever it holds, with its newline. `deadline` is by time.monotonic()."""
        try:
            answer = self._carry_out(line, deadline)
        except SignerError as error:
            answer = error_answer(error.code, error.message)
        except DomainError as error:
            answer = error_answer(error.code, error.message)
        except DatabaseFailed as error:
            log.error("the database failed: %s", error)
            answer = error_answer("unavailable", "the database is away")
        except Exception:  # the top of a request: one that fails must not end the others
            log.exception("a request failed")
            answer = error_answer("internal", "the signer failed; its log says why")
        return msgspec.json.encode(answer) + b"\n"

    def _carry_out(self, line: bytes, deadline: float) -> dict[str, Any] | Issued | SignedReport:
        try:
            asked = _decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise SignerError("malformed", str(error)) from None
        if isinstance(asked, SiteAsked):
            return self._issue_site(asked, deadline)
        if isinstance(asked, ServiceAsked):
            return self._issue_service(asked)
        if isinstance(asked, DocumentsAsked):
            return {"results": self._sign_documents(asked.document_ids, deadline)}
        if isinstance(asked, ReportAsked):
            return self._sign_report(asked.file_id)
        if isinstance(asked, ReportKeysAsked):
            return report_keys(self._store)
        return {
            "roots": [self._store.root.pem],
            "fleet": self._fleet,
            "root_sha256": self._store.root_sha256,
            "documents": [self._store.documents_pem],
        }

    def _issue_service(self, asked: ServiceAsked) -> Issued:
        _take(self._limits.services, 1)
        issuer, now = self._store.services(), self._now()
        return _logged(
            authority.certify_service(issuer, fleet=self._fleet, service=asked.service, tls_key=asked.tls_key, now=now)
        )

    def _issue_site(self, asked: SiteAsked, deadline: float) -> dict[str, Any] | Issued:
        if (asked.identity_id is None) == (asked.identity_ids is None):
            raise SignerError("malformed", "either identity_id or identity_ids, please")
        if asked.identity_id is not None:
            _take(self._limits.sites, 1)
            with self._reading():
                found = self._read(asked.identity_id)
            return self._certify(found)
        identity_ids = asked.identity_ids or []
        _take(self._limits.sites, len(identity_ids))
        return {"results": self._issue_batch(identity_ids, deadline)}

    def _issue_batch(self, identity_ids: list[int], deadline: float) -> list[Issued | dict[str, Any]]:
        """A result an id, in their order. One that may not be certified does not keep the others from it."""
        found: list[Signable | dict[str, Any]] = []
        with self._reading():
            for identity_id in identity_ids:
                _check(deadline)
                with _refusals(found):
                    found.append(self._read(identity_id))
        results: list[Issued | dict[str, Any]] = []
        for one in found:
            _check(deadline)
            if isinstance(one, dict):
                results.append(one)
                continue
            with _refusals(results):
                results.append(self._certify(one))
        return results

    def _sign_documents(self, document_ids: list[int], deadline: float) -> list[Signed | dict[str, Any]]:
        """A signature an id, in their order. Each is in the ledger, on the disk, before it is handed out."""
        _take(self._limits.documents, len(document_ids))
        with self._reading():
            read = self._read_documents(document_ids)
        _check(deadline)
        found = [read[document_id] for document_id in document_ids]
        results = [
            self._sign(one) if isinstance(one, Document) else error_answer(one.code, one.message) for one in found
        ]
        versions = {
            index: Version(one.site, one.epoch, one.version, signed.sha256)
            for index, (one, signed) in enumerate(zip(found, results, strict=True))
            if isinstance(one, Document) and isinstance(signed, Signed)
        }
        refused = self._ledger.enter(versions.values())
        for index, version in versions.items():
            if version.site in refused:
                log.error("refused to sign: %s", refused[version.site], extra={"site": str(version.site)})
                results[index] = error_answer("overtaken", refused[version.site])
        log.info("signed", extra={"documents": sum(isinstance(one, Signed) for one in results)})
        return results

    def _sign(self, document: Document) -> Signed | dict[str, Any]:
        if document.fleet != self._fleet:
            return error_answer("fleet", "the document is for another fleet")
        try:
            payload, signature = sign_document(document, self._store.documents)
        except ProtocolError as error:
            return error_answer("document", error.reason)
        key = self._store.documents.public_key().public_bytes_raw()
        return Signed(signature, key, sha256(payload).hexdigest())

    def _sign_report(self, file_id: int) -> SignedReport:
        _take(self._limits.reports, 1)
        if self._read_report is None:
            raise SignerError("report", "this signer signs no reports")
        with self._reading():
            found = self._read_report(file_id)
        signed = sign_report(self._store, found)
        log.info("signed a report", extra={"file": file_id, "kind": found.kind, "sha256": signed.sha256})
        return signed

    def _certify(self, found: Signable) -> Issued:
        return _logged(
            authority.certify_site(
                self._store.provider(found.provider_id),
                fleet=self._fleet,
                provider_id=found.provider_id,
                site=found.uuid,
                tls_key=found.tls_key,
                now=self._now(),
            )
        )


def error_answer(code: str, message: str) -> dict[str, Any]:
    """The form of every refusal."""
    return {"error": {"code": code, "message": message}}


@contextmanager
def _refusals(results: list[Any]) -> Iterator[None]:
    """Put a refusal where the result would have stood."""
    try:
        yield
    except (SignerError, DomainError) as error:
        results.append(error_answer(error.code, error.message))


def _logged(issued: Issued) -> Issued:
    log.info("issued", extra={"certificate": issued.name, "serial": issued.serial})
    return issued


def _take(bucket: TokenBucket, number: int) -> None:
    if not bucket.take(number):
        raise SignerError("busy", "the signer has reached its rate; try again later")


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SignerError("deadline", "the request took too long")
