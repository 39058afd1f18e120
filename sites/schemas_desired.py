"""What the API takes and gives about what sites are told to run."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema

from sites.models import Blob, DesiredDocument, DesiredReceipt, SiteDesired


class DocumentOut(Schema):
    """A version of what a site runs. `version` is `epoch.version`; `refused` says why the signer does not sign it."""

    version: str
    prev_sha256: str
    hold: bool
    issued_at: datetime
    expires_at: datetime
    reason: str
    made_by: str
    made_at: datetime
    sha256: str
    signed_at: datetime | None
    refused: str


class DocumentDetailOut(DocumentOut):
    """The same with what people decided: workloads, agent, os, standard, policy, rollout."""

    content: dict[str, Any]


class DocumentPage(Schema):
    """A page of documents, newest first; `next` is the cursor of the next one, or null."""

    items: list[DocumentOut]
    next: str | None


class AnswerOut(Schema):
    """What a site said when it was handed its newest document."""

    state: Literal["accepted", "refused"]
    reason: str
    detail: str
    at: datetime


class ReportedOut(Schema):
    """What a site says of the document it has; `done` of `total` steps."""

    version: str
    state: str
    detail: str
    done: int
    total: int
    at: datetime | None


class DesiredOut(Schema):
    """Where a site stands with what it was told. All but `recover...` and `reported` speak of the newest `document`.

    `version` is the number of the newest (0: none), as `expect` takes it. While it is `recovering` after a restore,
    `recovery_problem` says why the counters that it told are not believed; empty where it told none yet.
    """

    version: int
    document: DocumentDetailOut | None
    hold: bool
    answer: AnswerOut | None
    reported: ReportedOut | None
    recovering: bool
    recovery_problem: str


class ReceiptOut(Schema):
    """What a site signed about a document; `at` is by its own clock. `document_known`: whether that is in here."""

    id: int
    version: str
    state: str
    detail: str
    at: datetime
    boot: str
    changed: list[str]
    document_sha256: str
    document_known: bool
    sha256: str
    received_at: datetime


class ReceiptPage(Schema):
    """A page of receipts, newest first."""

    items: list[ReceiptOut]
    next: str | None


class ApplyIn(Schema):
    """The next version. Members of `content` that are left out are empty; `expect` is the newest that was seen."""

    content: dict[str, Any]
    reason: Annotated[str, Field(max_length=1000)]
    expect: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None


class BlobOut(Schema):
    """A blob without its bytes."""

    digest: str
    kind: Literal["config", "wheel"]
    size: int


class BlobPage(Schema):
    """A page of blobs in the order of their digests."""

    items: list[BlobOut]
    next: str | None


class PutOut(Schema):
    """The name of a blob that is kept."""

    digest: str


def document_out(row: DesiredDocument) -> dict[str, Any]:
    """A document as lists show it."""
    fields = {name: getattr(row, name) for name in DocumentOut.model_fields if name != "version"}
    return fields | {"version": f"{row.epoch}.{row.version}"}


def document_detail_out(row: DesiredDocument) -> dict[str, Any]:
    """The same with its content."""
    return document_out(row) | {"content": row.content}


def receipt_out(row: DesiredReceipt) -> dict[str, Any]:
    """A receipt as the API shows it."""
    names = ("id", "state", "detail", "at", "boot", "changed", "document_sha256", "received_at")
    return {name: getattr(row, name) for name in names} | {
        "version": f"{row.epoch}.{row.version}",
        "document_known": row.document_id is not None,
        "sha256": row.digest,
    }


def desired_out(row: SiteDesired | None) -> dict[str, Any]:
    """Where a site stands, as the API shows it; None is a site that was never told anything."""
    if row is None:
        nothing = {"document": None, "answer": None, "reported": None}
        return nothing | {"version": 0, "hold": False, "recovering": False, "recovery_problem": ""}
    answer = {"state": row.answer, "reason": row.answer_reason, "detail": row.answer_detail, "at": row.answered_at}
    reported = {
        "version": f"{row.reported_epoch}.{row.reported_version}",
        "state": row.reported_state,
        "detail": row.reported_detail,
        "done": row.done,
        "total": row.total,
        "at": row.reported_at,
    }
    return {
        "version": row.version,
        "document": document_detail_out(row.document) if row.document else None,
        "hold": row.document.hold if row.document else False,
        "answer": answer if row.answer and not row.recovery_problem else None,
        "reported": reported if row.reported_state else None,
        "recovering": row.recovering,
        "recovery_problem": row.recovery_problem,
    }


def blob_out(row: Blob) -> dict[str, Any]:
    """A blob as the API shows it."""
    return {"digest": row.digest, "kind": row.kind, "size": row.size}
