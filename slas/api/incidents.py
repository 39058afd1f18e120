"""API operations on outages."""

from typing import Any

from ninja import Router
from ninja.responses import Status
from pydantic import AwareDatetime

from fleet.kit.api import page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.present.incidents import timeline_of
from slas.schemas import incidents as schemas
from slas.selectors.disputes import disputes_of, granted_of
from slas.selectors.incidents import get_incident, outage_of
from slas.selectors.outages import Asked, outages_in
from slas.selectors.proofs import evidence_of
from slas.services import incidents

router = Router()


@router.get("/outages", response=schemas.PartPage, summary="List outages")
def list_outages(
    request: ScopedRequest,
    state: str = "",
    kind: str = "",
    provider: str = "",
    cause: str = "",
    charged_to: str = "",
    site: str = "",
    unowned: bool = False,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Parts of outages, one for each provider that had the site meanwhile. `state` is open or over; `site` a slug or a
    part of a name; `unowned` those that nobody has taken; `since` and `until` bound the time that they touch."""
    asked = Asked(
        state=state if state in ("open", "over") else "",
        kind=kind,
        provider=provider,
        cause=cause,
        charged=charged_to,
        site=site,
        unowned=unowned,
        begin=since,
        end=until,
    )
    return page_of(outages_in(request.who, asked), key="-id", limit=limit, cursor=cursor, out=schemas.part_out)


@router.get("/outages/{outage}", response=schemas.OutageOut, summary="One outage")
def one_outage(request: ScopedRequest, outage: int) -> dict[str, Any]:
    """An outage with everything that was said of it, and everything that proves it."""
    return _detail(request, outage)


@router.post("/outages/{outage}/acknowledge", response={201: schemas.OutageOut}, summary="Take an outage")
@idempotent
def acknowledge_outage(request: ScopedRequest, outage: int, body: schemas.TakeIn) -> Status[dict[str, Any]]:
    """Own it from now on, with its site's trouble; 409 for one that is over. Heeds Idempotency-Key."""
    row = get_incident(scope=request.who, pk=outage)
    incidents.acknowledge_incident(actor=request.who, rights=request.rights, incident=row, text=body.text)
    return Status(201, _detail(request, outage))


@router.post("/outages/{outage}/comments", response={201: schemas.OutageOut}, summary="Comment on an outage")
@idempotent
def comment_outage(request: ScopedRequest, outage: int, body: schemas.CommentIn) -> Status[dict[str, Any]]:
    """Say something, for both sides to read. Heeds Idempotency-Key."""
    row = get_incident(scope=request.who, pk=outage)
    incidents.comment_incident(actor=request.who, rights=request.rights, incident=row, text=body.text)
    return Status(201, _detail(request, outage))


@router.post("/outages/{outage}/cause", response={201: schemas.OutageOut}, summary="Correct an outage's cause")
@dangerous("incident.correct")
@idempotent
def correct_outage(request: ScopedRequest, outage: int, body: schemas.CauseIn) -> Status[dict[str, Any]]:
    """Say why it was, over every rule; figures and reports follow. Heeds Idempotency-Key."""
    row = get_incident(scope=request.who, pk=outage)
    incidents.correct_cause(actor=request.who, rights=request.rights, incident=row, **body.dict())
    return Status(201, _detail(request, outage))


def _detail(request: ScopedRequest, outage: int) -> dict[str, Any]:
    incident = get_incident(scope=request.who, pk=outage)
    found = outage_of(request.who, incident)
    disputes = list(disputes_of([incident.pk]))
    evidence, granted = evidence_of(request.who, incident), granted_of(incident.pk)
    lines = timeline_of(evidence, found.findings, found.notes, disputes, granted)
    return schemas.outage_out(found, lines, [row.pk for row in disputes])
