"""Maintenance: what is planned by month, one window, and the answers to it."""

import re
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.selectors.access import providers_in
from slas.exports.words import month_words
from slas.periods import begin_of, month_of, month_text
from slas.present.upkeep import SIDES, STATES, effect_lines, row_of, weeks_of
from slas.selectors.upkeep import get_window, places_of, sites_of, waiting_windows, windows_shown
from slas.selectors.upkeep_effects import effects_of
from slas.services.upkeep import cancel_window, decide_window, verbs_for, why_reason
from slas.states import WindowState

_MONTH: Final = re.compile(r"2[01]\d{2}-(0[1-9]|1[0-2])")
# The wall's clock; each window says the sites' own beside it.
ZONE: Final = "UTC"
MOST: Final = 500


@require_safe
def window_list(request: ScopedRequest) -> HttpResponse:
    """A month of maintenance on a wall and as a list, and what waits for an answer; choices lie in the URL."""
    now = database_now()
    text, provider, state = (request.GET.get(name, "") for name in ("month", "provider", "state"))
    number = month_of(now, ZONE)
    if _MONTH.fullmatch(text):
        number = int(text[:4]) * 12 + int(text[5:]) - 1
    found = windows_shown(
        request.who,
        begin_of(number, ZONE),
        begin_of(number + 1, ZONE),
        provider=provider[:64],
        state=state if state in STATES else "",
    )
    windows, waiting = list(found[:MOST]), list(waiting_windows(request.who)[:50])
    places = places_of(request.who, {row.pk for row in (*windows, *waiting)})
    rows = [row_of(one, places.get(one.pk, {})) for one in windows]
    agreed = [row for row in rows if state or row.window.state in {WindowState.REQUESTED, WindowState.APPROVED}]
    month = month_text(number)
    context = {
        "rows": rows,
        "waiting": [row_of(one, places.get(one.pk, {})) for one in waiting],
        "weeks": weeks_of(agreed, number // 12, number % 12 + 1, ZONE, now),
        "month": month,
        "month_words": month_words(month),
        "back": month_text(number - 1),
        "next": month_text(number + 1),
        "providers": list(providers_in(request.who)),
        "provider": provider,
        "state": state,
        "states": [(name, look[1]) for name, look in STATES.items()],
        "may_ask": may_ask(request),
    }
    return render(request, page="slas/windows.html", fragment="slas/_windows.html", context=context)


@require_safe
def window_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """One window: what, where, when, what it means for the contracts, and what can be done. Raises NotFound."""
    return _page(request, pk)


@require_POST
def window_approve(request: ScopedRequest, pk: int) -> HttpResponse:
    """Agree to a window for the side that did not ask. Raises NotFound, NotAllowed."""
    return _decide(request, pk, approve=True)


@require_POST
def window_refuse(request: ScopedRequest, pk: int) -> HttpResponse:
    """Refuse it, with a reason. Raises NotFound, NotAllowed."""
    return _decide(request, pk, approve=False)


@require_POST
def window_cancel(request: ScopedRequest, pk: int) -> HttpResponse:
    """Take it back, with a reason. Raises NotFound, NotAllowed."""
    window = get_window(scope=request.who, pk=pk)
    reason = request.POST.get("reason", "")
    try:
        cancel_window(actor=request.who, rights=request.rights, window=window, reason=reason)
    except (Conflict, Invalid) as error:
        return _page(request, pk, error=error.message, typed=reason, at="cancel")
    messages.success(request, "The maintenance is cancelled; the other side sees it.")
    return HttpResponseRedirect(reverse("sla_window", args=[pk]))


def may_ask(request: ScopedRequest) -> bool:
    """Whether the viewer may ask for maintenance anywhere."""
    return request.rights.may("maintenance.plan") or request.rights.may("maintenance.request")


# ------------------------------------------------------------------------------------------------------------
def _decide(request: ScopedRequest, pk: int, *, approve: bool) -> HttpResponse:
    window = get_window(scope=request.who, pk=pk)
    reason = request.POST.get("reason", "")
    try:
        decide_window(actor=request.who, rights=request.rights, window=window, approve=approve, reason=reason)
    except (Conflict, Invalid) as error:
        return _page(request, pk, error=error.message, typed=reason, at="decide")
    done = "approved: it counts as maintenance within its notice and cap" if approve else "refused"
    messages.success(request, f"The maintenance is {done}.")
    return HttpResponseRedirect(reverse("sla_window", args=[pk]))


def _page(request: ScopedRequest, pk: int, *, error: str = "", typed: str = "", at: str = "") -> HttpResponse:
    window = get_window(scope=request.who, pk=pk)
    now = database_now()
    sites = list(sites_of(request.who, window))
    verbs = verbs_for(request.who, request.rights, window, sites, now)
    row = row_of(window, places_of(request.who, [window.pk]).get(window.pk, {}))
    effects = effects_of(
        request.who,
        provider_id=window.provider_id,
        sites=[site.pk for site in sites],
        span=(window.begins, window.ends),
        asked_at=window.requested_at,
        but=window.pk,
    )
    context: dict[str, Any] = {
        "window": window,
        "row": row,
        "sites": sites[:MOST],
        "more": max(0, len(sites) - MOST),
        "effects": effect_lines(effects),
        "verbs": verbs,
        "wants": why_reason(window, now) if "decide" in verbs else "",
        "other": SIDES["provider" if window.side == "operator" else "operator"],
        "error": error,
        "typed": typed,
        "at": at,
    }
    return django_render(request, "slas/window.html", context, status=422 if error else 200)
