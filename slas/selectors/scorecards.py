"""Scorecards as a viewer may see them, and what stands beside them; the scope must be open."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet

from fleet.kit.tenancy import Scope
from slas.models import Scorecard, Window
from slas.selectors.contracts import contracts_in
from slas.selectors.incidents import spans_in
from slas.selectors.upkeep import windows_between

AHEAD = timedelta(days=14)


def cards_in(who: Scope, months: Iterable[str]) -> QuerySet[Scorecard]:
    """The kept figures of some months (`2026-11`): of contracts that the viewer sees, a provider its own."""
    found = Scorecard.objects.filter(contract__in=contracts_in(who).values("pk"), month__in=list(months))
    return found.select_related("contract", "provider").order_by("contract__name", "month")


def months_in(who: Scope) -> list[str]:
    """The months of which anything is kept, newest first."""
    found = Scorecard.objects.filter(contract__in=contracts_in(who).values("pk"))
    return list(found.order_by("-month").values_list("month", flat=True).distinct())


def open_outages(who: Scope) -> dict[int, int]:
    """How many outages last, by provider."""
    rows: Iterable[Any] = (
        spans_in(who).filter(valid_to=None).order_by().values("provider").annotate(all=Count("incident", distinct=True))
    )
    return {row["provider"]: row["all"] for row in rows}


def windows_ahead(who: Scope, now: datetime) -> dict[int, list[Window]]:
    """Maintenance that goes on, or begins within two weeks, by provider."""
    found: dict[int, list[Window]] = {}
    for row in windows_between(who, now, now + AHEAD):
        found.setdefault(row.provider_id, []).append(row)
    return found
