"""Holds: somebody says "not now", for a site, a region, a provider or all, with a reason and an expiry."""

from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import connections

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import DEFAULT, Limit, Rights, Scope, scope
from fleet.rollouts.models import Hold, ProviderCalendar
from fleet.rollouts.plan import fault_of
from fleet.rollouts.states import Wait
from fleet.rollouts.windows import Calendar
from fleet.standards.services.standards import reason_of
from sites.models import Provider, Site

LONGEST: Final = timedelta(days=30)

# Sites that wait for what has changed are looked at again, and not only when the hold would have ended.
_LOOK_AGAIN: Final = """
INSERT INTO rollouts_changedsite (site_id, provider_id)
SELECT site_id, provider_id FROM rollouts_sitestep
WHERE state IN ('deferred', 'catch_up', 'rollback_waiting') AND wait = %(wait)s
    AND (%(site)s::int IS NULL OR site_id = %(site)s) AND (%(provider)s::int IS NULL OR provider_id = %(provider)s)
    AND (%(region)s = '' OR region = %(region)s)
"""


def hold(
    *,
    actor: Scope,
    rights: Rights,
    reason: str,
    until: datetime,
    site: Site | None = None,
    provider: Provider | None = None,
    region: str = "",
) -> Hold:
    """Hold a site, or else a region (of a provider, or whole), a provider, or all. Audited.

    A provider's operator may hold its own sites, and itself. `until` is at most LONGEST away.
    Raises NotAllowed, Invalid.
    """
    why = reason_of(reason)
    now = database_now()
    if not now < until <= now + LONGEST:
        raise Invalid(f"A hold ends within {LONGEST.days} days.", details={"until": "not within its bounds"})
    owner = site.provider_id if site is not None else provider.pk if provider is not None else None
    _allow(rights, owner, site, region)
    with scope(actor):
        made = Hold(provider_id=owner, region=region, site=site, reason=why, until=until, made_by=actor.name[:150])
        made.by_provider = not actor.wide
        made.save(force_insert=True)
        after = {"site": site.slug if site else None, "region": region, "until": until.isoformat()}
        audit.record(actor, "rollout.hold", **_object_of(made), after=after, note=why)
        _tell(made)
    return made


def lift(*, actor: Scope, rights: Rights, held: Hold) -> Hold:
    """End a hold before its time; the same people may who may hold there. Audited. Raises NotAllowed, Conflict."""
    with scope(actor):
        row = _lock(held)
        _allow(rights, row.provider_id, row.site, row.region)
        row.lifted_at, row.lifted_by = database_now(), actor.name[:150]
        row.save(update_fields=["lifted_at", "lifted_by"])
        audit.record(actor, "rollout.lift", **_object_of(row), note=row.reason)
        _look_again(Wait.HELD, site=row.site_id, provider=row.provider_id, region=row.region)
        _tell(row)
    return row


def override(*, actor: Scope, rights: Rights, held: Hold, reason: str) -> Hold:
    """Agree that standards of security severity do not wait for a hold: it takes two people. Audited.

    Raises NotAllowed, Invalid, Conflict.
    """
    why = reason_of(reason)
    if actor.user_id is None or Limit() not in rights.by_action.get("rollout.approve", ()):
        raise NotAllowed("Your role does not allow to override holds.")
    with scope(actor):
        row = _lock(held)
        row.overridden_by = sorted({*row.overridden_by, actor.user_id})
        row.save(update_fields=["overridden_by"])
        audit.record(actor, "rollout.override", **_object_of(row), after={"people": row.overridden_by}, note=why)
        _look_again(Wait.HELD, site=row.site_id, provider=row.provider_id, region=row.region)
        _tell(row)
    return row


def set_calendar(*, actor: Scope, rights: Rights, provider: Provider, calendar: Any) -> ProviderCalendar:
    """Say when a provider's sites may be changed: a value as windows.Calendar. Audited. Raises NotAllowed, Invalid."""
    if not rights.may("provider.change"):
        raise NotAllowed("Your role does not allow to change providers.")
    try:
        read = msgspec.convert(calendar, Calendar)
    except msgspec.ValidationError as error:
        place, reason = fault_of(error)
        raise Invalid(f"This is no calendar: {place}: {reason}", details={place or "calendar": reason}) from None
    plain = msgspec.to_builtins(read)
    with scope(actor):
        row, _ = ProviderCalendar.objects.update_or_create(
            provider=provider,
            defaults={"calendar": plain, "changed_by": actor.name[:150], "changed_at": database_now()},
        )
        which: dict[str, Any] = {"object_type": "provider", "object_id": provider.pk, "object_name": provider.name}
        audit.record(actor, "provider.calendar", **which, provider_id=provider.pk, after={"calendar": plain})
        _look_again(Wait.WINDOW, provider=provider.pk)
    return row


def may_hold(rights: Rights, provider_id: int | None, site: Site | None, region: str) -> bool:
    """Whether these rights allow to hold there, and to lift what holds there."""
    if site is not None:
        facts: dict[str, Any] = {"provider_id": site.provider_id, "region": site.region, "labels": site.labels}
        return rights.may_on("rollout.hold", **facts)
    return any(
        not limit.labels
        and limit.provider_id in (None, provider_id)
        and (not limit.regions or (bool(region) and region in limit.regions))
        for limit in rights.by_action.get("rollout.hold", ())
    )


def _allow(rights: Rights, provider_id: int | None, site: Site | None, region: str) -> None:
    if not may_hold(rights, provider_id, site, region):
        raise NotAllowed("Your role does not allow to hold this.")


def _lock(held: Hold) -> Hold:
    row = Hold.objects.select_for_update(of=("self",)).select_related("site").filter(pk=held.pk).first()
    if row is None:
        raise NotFound("There is no such hold, or it is not yours to see.")
    if row.lifted_at is not None or row.until <= database_now():
        raise Conflict("It has ended already.")
    return row


def _object_of(row: Hold) -> dict[str, Any]:
    scope_name = f"site {row.site_id}" if row.site_id else row.region or (f"provider {row.provider_id or 'all'}")
    return {"object_type": "hold", "object_id": row.pk, "object_name": scope_name, "provider_id": row.provider_id}


def _look_again(wait: Wait, *, site: int | None = None, provider: int | None = None, region: str = "") -> None:
    """The next tick looks at the sites of this scope that wait for it."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_LOOK_AGAIN, {"wait": str(wait), "site": site, "provider": provider, "region": region})


def _tell(row: Hold) -> None:
    live.publish(hints=[(("holds", 0), row.provider_id)])
