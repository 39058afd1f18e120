"""Holds beside the steps that wait for them, and calendars beside the zones they are read in; the scope is open."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Count, Q, QuerySet

from fleet.kit.tenancy import Scope
from fleet.rollouts.models import Hold, ProviderCalendar
from fleet.rollouts.selectors.rollouts import holds_in, steps_in
from fleet.rollouts.states import ACTIVE, StepState, Wait
from sites.models import Provider
from sites.selectors.access import providers_in, sites_in
from sites.states import Life


def holds_of(who: Scope, now: datetime | None) -> QuerySet[Hold]:
    """Holds that the viewer may see: those in force at `now`, the oldest first; without it all, the newest first."""
    found = holds_in(who)
    return found if now is None else found.filter(lifted_at=None, until__gt=now).order_by("made_at", "pk")


def held_now(row: Hold, now: datetime) -> bool:
    """Whether a hold is in force."""
    return row.lifted_at is None and row.until > now


def waiting_for(who: Scope, holds: Sequence[Hold]) -> dict[int, dict[str, int]]:
    """How much waits for each of these holds, of what the viewer may see: `sites`, `rollouts`, `escalated`.

    A step waits for one of the holds that cover its site, and is counted for each of them.
    """
    waiting = steps_in(who).filter(
        state=str(StepState.DEFERRED), wait=str(Wait.HELD), rollout__state__in=[str(state) for state in ACTIVE]
    )
    if not waiting.exists():
        return {}
    found = {}
    for row in holds:
        counts = waiting.filter(_covered(row)).aggregate(
            sites=Count("pk"),
            rollouts=Count("rollout", distinct=True),
            escalated=Count("pk", filter=Q(escalated=True)),
        )
        if counts["sites"]:
            found[row.pk] = counts
    return found


# Calendars --------------------------------------------------------------------------------------------------
def calendars_in(who: Scope) -> list[tuple[Provider, ProviderCalendar | None]]:
    """Providers that the viewer may see, by name, each with its calendar; None: always."""
    providers = list(providers_in(who).order_by("name", "pk"))
    rows = {row.provider_id: row for row in ProviderCalendar.objects.filter(provider__in=providers)}
    return [(one, rows.get(one.pk)) for one in providers]


def zones_in(who: Scope, provider: Provider) -> dict[str, int]:
    """Time zones of a provider's active sites that the viewer may see, with how many lie there, most first."""
    found = sites_in(who).filter(provider=provider, life=Life.ACTIVE).order_by().values_list("time_zone")
    return dict(found.annotate(count=Count("pk")).order_by("-count", "time_zone"))


def _covered(row: Hold) -> Q:
    if row.site_id is not None:
        return Q(site=row.site_id)
    covered = Q()
    if row.provider_id is not None:
        covered &= Q(provider=row.provider_id)
    return covered & Q(region=row.region) if row.region else covered
