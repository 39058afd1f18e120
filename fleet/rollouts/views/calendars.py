"""Calendars of providers: a month of windows and freezes as a site's own clock shows it, and their editor."""

import re
from datetime import date, timedelta
from typing import Any

import msgspec
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.rollouts.forms import FreezeForms, WindowForms, calendar_initial, calendar_value, rows_changed
from fleet.rollouts.models import ProviderCalendar
from fleet.rollouts.present_calendar import calendar_lines, month_of
from fleet.rollouts.selectors.holding import calendars_in, zones_in
from fleet.rollouts.selectors.rollouts import calendar_of
from fleet.rollouts.services.holds import set_calendar
from fleet.rollouts.windows import Calendar
from sites.selectors.access import get_provider

_ROWS = {"windows": ("o", ("days", "begin", "end")), "freezes": ("f", ("begin", "end", "reason"))}


@require_safe
def calendar_page(request: ScopedRequest) -> HttpResponse:
    """All calendars in words, and one of them as a month; provider, zone and month lie in the URL."""
    now = database_now()
    listed = calendars_in(request.who)
    wanted = request.GET.get("provider", "")
    chosen = next((pair for pair in listed if pair[0].slug == wanted), listed[0] if listed else None)
    rows = [
        {
            "provider": provider,
            "lines": calendar_lines(_read(row), now),
            "row": row if request.who.wide else None,
            "is_on": chosen is not None and provider.pk == chosen[0].pk,
        }
        for provider, row in listed
    ]
    context = {"rows": rows, "may_change": request.rights.may("provider.change")}
    if chosen is not None:
        context |= _month(request, *chosen, now=now)
    return django_render(request, "rollouts/calendars.html", context)


def _month(request: ScopedRequest, provider: Any, row: ProviderCalendar | None, *, now: Any) -> dict[str, Any]:
    zones = zones_in(request.who, provider) or {"UTC": 0}
    zone = request.GET.get("zone", "")
    zone = zone if zone in zones else next(iter(zones))
    first = _first(request.GET.get("month", ""), now.date())
    return {
        "provider": provider,
        "zones": zones,
        "zone": zone,
        "first": first,
        "before": (first - timedelta(days=1)).strftime("%Y-%m"),
        "after": (first + timedelta(days=32)).strftime("%Y-%m"),
        "weeks": month_of(_read(row), zone, first.year, first.month, now),
        "always": row is None or not _read(row).windows,
    }


def _first(text: str, today: date) -> date:
    """The first day of the month that is asked for (`2026-11`), else of this one."""
    found = re.fullmatch(r"(20\d\d)-(0[1-9]|1[0-2])", text, re.ASCII)
    if found:
        return date(int(found[1]), int(found[2]), 1)
    return today.replace(day=1)


def _read(row: ProviderCalendar | None) -> Calendar:
    return msgspec.convert(row.calendar, Calendar) if row else Calendar()


@require_http_methods(["GET", "HEAD", "POST"])
@dangerous("provider.calendar")
def calendar_edit(request: ScopedRequest, slug: str) -> HttpResponse:
    """Say when a provider's sites may be changed. Raises NotFound, NotAllowed, Conflict."""
    provider = get_provider(scope=request.who, slug=slug)
    if not request.rights.may("provider.change"):
        raise NotAllowed("Your role does not allow to change providers.")
    row = calendar_of(provider)
    mark = row.changed_at.isoformat() if row else "none"
    if request.method != "POST":
        initial = calendar_initial(row.calendar if row else {})
        windows, freezes = WindowForms(initial=initial[0], prefix="o"), FreezeForms(initial=initial[1], prefix="f")
        return _editor(request, provider, windows, freezes, mark=mark)
    data = request.POST
    rows, _, change = data.get("do", "save").partition("-")
    if rows in _ROWS:
        data = rows_changed(data, *_ROWS[rows], change)
    windows, freezes = WindowForms(data, prefix="o"), FreezeForms(data, prefix="f")
    if rows in _ROWS:
        return _editor(request, provider, windows, freezes, mark=data.get("mark", ""))
    parts = [windows.is_valid(), freezes.is_valid()]  # each says what is wrong
    if not all(parts):
        return _editor(request, provider, windows, freezes, mark=data.get("mark", ""), status=422)
    if data.get("mark") != mark:
        raise Conflict("Somebody changed the calendar meanwhile; look at it first.")
    try:
        set_calendar(
            actor=request.who, rights=request.rights, provider=provider, calendar=calendar_value(windows, freezes)
        )
    except Invalid as error:
        return _editor(request, provider, windows, freezes, mark=mark, error=error.message, status=422)
    messages.success(request, f"The calendar of {provider.name} is kept. Rollouts that run follow it from now on.")
    return HttpResponseRedirect(f"{reverse('calendars')}?provider={provider.slug}")


def _editor(
    request: ScopedRequest, provider: Any, windows: Any, freezes: Any, *, mark: str, error: str = "", status: int = 200
) -> HttpResponse:
    context = {"provider": provider, "windows": windows, "freezes": freezes, "mark": mark, "error": error}
    return django_render(request, "rollouts/calendar_edit.html", context, status=status)
