"""API operations on maintenance."""

from dataclasses import asdict
from typing import Any

from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.models import Window
from slas.schemas import upkeep as schemas
from slas.selectors.upkeep import get_window, sites_of, windows_in
from slas.selectors.upkeep_effects import effects_of
from slas.services import upkeep

router = Router()


@router.get("/maintenance", response=schemas.WindowPage, summary="List maintenance")
def list_maintenance(
    request: ScopedRequest, state: str = "", provider: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Windows, those asked for last first; of a state or a provider where one is named."""
    found = windows_in(request.who).prefetch_related(None)
    if state:
        found = found.filter(state=state)
    if provider:
        found = found.filter(provider__slug=provider)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.window_out)


@router.post("/maintenance", response={201: schemas.WindowDetailOut}, summary="Ask for maintenance")
@idempotent
def request_maintenance(request: ScopedRequest, body: schemas.WindowIn) -> Status[dict[str, Any]]:
    """Ask for it; the other side agrees. `effects` says what notice and caps make of it. Heeds Idempotency-Key."""
    made = upkeep.request_window(actor=request.who, rights=request.rights, **body.dict())
    return Status(201, _detail(request, get_window(scope=request.who, pk=made.pk)))


@router.get("/maintenance/{window}", response=schemas.WindowDetailOut, summary="One maintenance window")
def one_maintenance(request: ScopedRequest, window: int) -> dict[str, Any]:
    """A window with its sites and what it means for each contract."""
    return _detail(request, get_window(scope=request.who, pk=window))


@router.post("/maintenance/{window}/approve", response=schemas.WindowDetailOut, summary="Approve maintenance")
def approve_maintenance(request: ScopedRequest, window: int, body: schemas.DecideIn) -> dict[str, Any]:
    """Agree for the side that did not ask; late, or at short notice, with a reason."""
    return _decide(request, window, body.reason, approve=True)


@router.post("/maintenance/{window}/refuse", response=schemas.WindowDetailOut, summary="Refuse maintenance")
def refuse_maintenance(request: ScopedRequest, window: int, body: schemas.DecideIn) -> dict[str, Any]:
    """Refuse it, with a reason."""
    return _decide(request, window, body.reason, approve=False)


@router.post("/maintenance/{window}/cancel", response=schemas.WindowDetailOut, summary="Cancel maintenance")
def cancel_maintenance(request: ScopedRequest, window: int, body: schemas.CancelIn) -> dict[str, Any]:
    """Take it back before it begins, for the side that asked; 409 once it has begun."""
    row = get_window(scope=request.who, pk=window)
    upkeep.cancel_window(actor=request.who, rights=request.rights, window=row, reason=body.reason)
    return _detail(request, get_window(scope=request.who, pk=window))


def _decide(request: ScopedRequest, pk: int, reason: str, *, approve: bool) -> dict[str, Any]:
    row = get_window(scope=request.who, pk=pk)
    upkeep.decide_window(actor=request.who, rights=request.rights, window=row, approve=approve, reason=reason)
    return _detail(request, get_window(scope=request.who, pk=pk))


def _detail(request: ScopedRequest, row: Window) -> dict[str, Any]:
    sites = dict(sites_of(request.who, row).values_list("pk", "slug"))
    effects = effects_of(
        request.who,
        provider_id=row.provider_id,
        sites=list(sites),
        span=(row.begins, row.ends),
        asked_at=row.requested_at,
        but=row.pk,
    )
    return schemas.window_out(row) | {"sites": sorted(sites.values()), "effects": [asdict(one) for one in effects]}
