"""API operations on disputes."""

from typing import Any

from django.http import HttpResponse
from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.schemas import incidents as schemas
from slas.selectors.disputes import disputes_in, files_of, get_dispute, get_file
from slas.selectors.incidents import get_incident
from slas.services import deciding, disputes

router = Router()


@router.get("/disputes", response=schemas.DisputePage, summary="List disputes")
def list_disputes(
    request: ScopedRequest, state: str = "", provider: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first; of a state or a provider where one is named."""
    found = disputes_in(request.who)
    wanted = {"state": state, "provider__slug": provider}
    found = found.filter(**{name: value for name, value in wanted.items() if value})
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.dispute_out)


@router.post("/outages/{outage}/disputes", response={201: schemas.DisputeDetailOut}, summary="Dispute an outage")
@idempotent
def file_dispute(request: ScopedRequest, outage: int, body: schemas.DisputeIn) -> Status[dict[str, Any]]:
    """Claim another cause, for the provider whose outage it was. Heeds Idempotency-Key."""
    row = get_incident(scope=request.who, pk=outage)
    made = disputes.file_dispute(actor=request.who, rights=request.rights, incident=row, **body.dict())
    return Status(201, _detail(request, made.pk))


@router.get("/disputes/{dispute}", response=schemas.DisputeDetailOut, summary="One dispute")
def one_dispute(request: ScopedRequest, dispute: int) -> dict[str, Any]:
    """A dispute with its trail, its files and what was granted."""
    return _detail(request, dispute)


@router.post("/disputes/{dispute}/decide", response=schemas.DisputeDetailOut, summary="Decide on a dispute")
@dangerous("dispute.decide")
def decide_dispute(request: ScopedRequest, dispute: int, body: schemas.DecisionIn) -> dict[str, Any]:
    """Accept, adjust or reject it, once, and say why; somebody else than who filed it."""
    row = get_dispute(scope=request.who, pk=dispute)
    deciding.decide_dispute(actor=request.who, rights=request.rights, dispute=row, **body.dict())
    return _detail(request, dispute)


@router.post("/disputes/{dispute}/withdraw", response=schemas.DisputeDetailOut, summary="Withdraw a dispute")
def withdraw_dispute(request: ScopedRequest, dispute: int, body: schemas.WithdrawIn) -> dict[str, Any]:
    """Take it back, for the provider; its trail stays."""
    row = get_dispute(scope=request.who, pk=dispute)
    disputes.withdraw_dispute(actor=request.who, rights=request.rights, dispute=row, reason=body.reason)
    return _detail(request, dispute)


@router.post("/disputes/{dispute}/files", response={201: schemas.FileOut}, summary="Attach a file to a dispute")
@idempotent
def attach_dispute_file(request: ScopedRequest, dispute: int, name: str = "evidence") -> Status[dict[str, Any]]:
    """The body is the file itself: PDF, PNG, JPEG or plain text, at most 2 MiB. Heeds Idempotency-Key."""
    row = get_dispute(scope=request.who, pk=dispute)
    made = disputes.attach_file(
        actor=request.who, rights=request.rights, dispute=row, name=name[:500], body=request.body
    )
    return Status(201, schemas.file_out(made))


@router.get("/disputes/{dispute}/files/{file}", summary="A file of a dispute")
def dispute_file(request: ScopedRequest, dispute: int, file: int) -> HttpResponse:
    """Its bytes, to be saved."""
    row = get_file(get_dispute(scope=request.who, pk=dispute), file)
    response = HttpResponse(bytes(row.body), content_type="application/octet-stream")
    response["Content-Disposition"] = "attachment"
    response["Cache-Control"] = "private, no-store"
    return response


def _detail(request: ScopedRequest, dispute: int) -> dict[str, Any]:
    row = get_dispute(scope=request.who, pk=dispute)
    steps, granted = list(row.steps.all()), list(row.adjustments.all())
    return schemas.dispute_detail_out(row, steps, list(files_of(row)), granted)
