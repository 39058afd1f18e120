"""Maintenance windows as a viewer may see them; the scope must be open."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Count, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Scope
from sites.models import Site
from sites.selectors.access import sites_in
from slas.models import Window, WindowSite
from slas.states import WindowState


def windows_in(who: Scope) -> QuerySet[Window]:
    """Every window that the viewer may see, by begin: a provider its own; who is limited to regions or labels those
    that name a site within."""
    found = Window.objects.select_related("provider").prefetch_related("sites__site")
    if who.narrowed:
        found = found.filter(sites__site__in=sites_in(who).values("pk")).distinct()
    return found


def get_window(*, scope: Scope, pk: int) -> Window:
    """One window. Raises NotFound, also for one that the viewer may not see."""
    found = windows_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such maintenance window, or it is not yours to see.")
    return found


def windows_between(who: Scope, begin: datetime, end: datetime) -> QuerySet[Window]:
    """Windows that touch a time, but for those that were refused or cancelled: what a calendar shows."""
    return windows_in(who).filter(
        begins__lt=end, ends__gt=begin, state__in=[WindowState.REQUESTED, WindowState.APPROVED]
    )


def sites_of(who: Scope, window: Window) -> QuerySet[Site]:
    """The sites of a window that the viewer may see."""
    return sites_in(who).filter(pk__in=WindowSite.objects.filter(window=window).values("site")).order_by("name")


def places_of(who: Scope, windows: Iterable[int]) -> dict[int, dict[str, int]]:
    """How many sites of each window lie in which time zone, of those that the viewer may see."""
    found: dict[int, dict[str, int]] = {}
    rows = WindowSite.objects.filter(window__in=list(windows), site__in=sites_in(who).values("pk")).order_by()
    for window, zone, count in rows.values_list("window", "site__time_zone").annotate(count=Count("id")):
        found.setdefault(window, {})[zone] = count
    return found


def windows_shown(
    who: Scope, begin: datetime, end: datetime, *, provider: str = "", state: str = ""
) -> QuerySet[Window]:
    """Windows that touch a time, whatever became of them, of a provider or a state where one is named."""
    found = windows_in(who).prefetch_related(None).filter(begins__lt=end, ends__gt=begin)
    if provider:
        found = found.filter(provider__slug=provider)
    return found.filter(state=state) if state else found


def waiting_windows(who: Scope) -> QuerySet[Window]:
    """Windows that wait for an answer, by begin."""
    return windows_in(who).prefetch_related(None).filter(state=WindowState.REQUESTED)
