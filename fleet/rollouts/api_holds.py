"""API operations on holds, and on the calendars in which providers may be changed."""

from typing import Annotated, Any

from django.db.models import Q
from ninja import Body, Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from fleet.rollouts import schemas_holds as schemas
from fleet.rollouts.models import Hold
from fleet.rollouts.selectors.rollouts import calendar_of, get_hold, holds_in
from fleet.rollouts.services import holds
from sites.selectors.access import get_provider, get_site, regions_in

router = Router()
CALENDAR = "/providers/{provider}/rollout-calendar"
CalendarIn = Annotated[
    dict[str, Any],
    Body(description="`windows` of `{days, begin, end}` and `freezes` of `{begin, end, reason}`, on the site's clock."),
]


@router.get("/holds", response=schemas.HoldPage, summary="List holds")
def list_holds(
    request: ScopedRequest, active: bool | None = None, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first; `active` ones, or those that have ended."""
    now, found = database_now(), holds_in(request.who)
    if active is not None:
        ended = Q(until__lte=now) | Q(lifted_at__isnull=False)
        found = found.exclude(ended) if active else found.filter(ended)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=lambda row: schemas.hold_out(row, now))


@router.post("/holds", response={201: schemas.HoldOut}, summary="Hold sites")
@idempotent
def create_hold(request: ScopedRequest, body: schemas.HoldIn) -> Status[dict[str, Any]]:
    """Say "not now" of a site, a region, a provider or all, for a time. Heeds Idempotency-Key."""
    if body.site is not None and (body.provider is not None or body.region):
        raise Invalid("Name a site, or a provider and a region.", details={"site": "not with provider or region"})
    if body.region and body.region not in regions_in(request.who):
        raise Invalid("There is no such region.", details={"region": "no site is there"})
    made = holds.hold(
        actor=request.who,
        rights=request.rights,
        reason=body.reason,
        until=body.until,
        site=get_site(scope=request.who, slug=body.site) if body.site is not None else None,
        provider=get_provider(scope=request.who, slug=body.provider) if body.provider is not None else None,
        region=body.region,
    )
    return Status(201, _hold(request, made))


@router.post("/holds/{hold}/lift", response=schemas.HoldOut, summary="Lift a hold")
def lift_hold(request: ScopedRequest, hold: int) -> dict[str, Any]:
    """End it before its time; 409 for one that has ended."""
    row = get_hold(scope=request.who, pk=hold)
    return _hold(request, holds.lift(actor=request.who, rights=request.rights, held=row))


@router.post("/holds/{hold}/override", response=schemas.HoldOut, summary="Override a hold")
@dangerous("rollout.override")
def override_hold(request: ScopedRequest, hold: int, body: schemas.OverrideIn) -> dict[str, Any]:
    """Agree that standards of security severity do not wait for it: it takes two people."""
    row = get_hold(scope=request.who, pk=hold)
    return _hold(request, holds.override(actor=request.who, rights=request.rights, held=row, reason=body.reason))


def _hold(request: ScopedRequest, row: Hold) -> dict[str, Any]:
    return schemas.hold_out(get_hold(scope=request.who, pk=row.pk), database_now())


# Calendars --------------------------------------------------------------------------------------------------
@router.get(CALENDAR, response=schemas.CalendarOut, summary="When a provider's sites may be changed")
def calendar(request: ScopedRequest, provider: str) -> dict[str, Any]:
    """Maintenance windows and change freezes."""
    row = get_provider(scope=request.who, slug=provider)
    return schemas.calendar_out(calendar_of(row), wide=request.who.wide)


@router.put(CALENDAR, response=schemas.CalendarOut, summary="Say when a provider's sites may be changed")
def set_calendar(request: ScopedRequest, provider: str, body: CalendarIn) -> dict[str, Any]:
    """In place of the calendar that it has; an empty one: always."""
    row = get_provider(scope=request.who, slug=provider)
    made = holds.set_calendar(actor=request.who, rights=request.rights, provider=row, calendar=body)
    return schemas.calendar_out(made, wide=request.who.wide)
