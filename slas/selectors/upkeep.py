"""Maintenance windows as a viewer may see them; the scope must be open."""

from datetime import datetime

from django.db.models import QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Scope
from sites.selectors.access import sites_in
from slas.models import Window
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
