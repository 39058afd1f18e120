"""The list of rollouts, and what of them belongs into lists of trouble and strips of figures."""

from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_safe

from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import Scope
from fleet.rollouts.models import Rollout
from fleet.rollouts.present_running import bars, headline, in_all
from fleet.rollouts.present_words import state_words
from fleet.rollouts.selectors.rollouts import counts_by_wave, running, sees_whole, waves_of_many
from fleet.rollouts.selectors.watching import KINDS, counts_by_kind, needing_people, needs_person, rollouts_of_kind

PER_PAGE = 25
_LABELS = {
    "person": ("Need somebody", "degraded"),
    "running": ("Running", "up"),
    "waiting": ("Not started", "planned"),
    "ended": ("Ended", "unknown"),
}


@require_safe
def rollout_list(request: ScopedRequest) -> HttpResponse:
    """Rollouts, those first that need a person, then those under way, then the newest; choices lie in the URL."""
    kind, text, standard = (request.GET.get(name, "").strip()[:120] for name in ("state", "q", "standard"))
    found = rollouts_of_kind(request.who, kind, text=text, standard=standard)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    counts, waves = counts_by_wave(request.who, shown), waves_of_many(request.who, shown)
    whole = sees_whole(request.who)
    rows = [_row(one, counts[one.pk], waves[one.pk], whole=whole) for one in shown]
    context = {
        "rows": rows,
        "page": page,
        "figures": _figures(request, kind),
        "text": text,
        "standard": standard,
        "state": kind if kind in KINDS else "",
        "filtered": bool(text or standard or kind in KINDS),
        "whole": whole,
        "query": request.GET.urlencode(),
    }
    return render(request, page="rollouts/list.html", fragment="rollouts/_list.html", context=context)


def _row(rollout: Rollout, counts: Any, waves: Any, *, whole: bool) -> dict[str, Any]:
    groups = in_all(counts)
    label, look = state_words(rollout.state, rollout.pause)
    return {
        "rollout": rollout,
        "label": label,
        "look": look,
        "needs": needs_person(rollout),
        "says": headline(rollout, waves, counts),
        "bars": bars(groups),
        "proven": groups["proven"],
        "total": sum(groups.values()),
        "author": (rollout.author.get_full_name() or rollout.author.username) if whole else "",
    }


def _figures(request: ScopedRequest, chosen: str) -> list[dict[str, Any]]:
    counts = counts_by_kind(request.who)
    rows = []
    for kind in KINDS:
        label, look = _LABELS[kind]
        query = {name: value for name, value in request.GET.items() if name not in ("page", "state")}
        query |= {} if kind == chosen else {"state": kind}
        href = f"{reverse('rollout_list')}?{urlencode(query)}" if query else reverse("rollout_list")
        rows.append({"kind": look, "label": label, "count": counts[kind], "is_on": kind == chosen, "href": href})
    return rows


# For the overview -------------------------------------------------------------------------------------------
@require_safe
def rollout_figure(request: ScopedRequest) -> HttpResponse:
    """How many rollouts are under way, in the overview's strip."""
    return django_render(request, "rollouts/_figure.html", {"rollouts_running": running(request.who)})


def rollout_rows(who: Scope, *, limit: int) -> list[dict[str, Any]]:
    """Rows of the attention list: `matter`, `rollout`, `since` and `why`, the longest wait first."""
    return [
        {"matter": "rollout", "rollout": row, "since": row.since, "why": _why(row, whole=sees_whole(who))}
        for row in needing_people(who, limit=limit)
    ]


def _why(row: Rollout, *, whole: bool) -> str:
    if row.state == "paused":
        reason = row.reason if whole else ""
        return f"{state_words(row.state, row.pause)[0]}{f': {reason}' if reason else ': it waits for a person'}"
    if row.state in ("awaiting_approval", "rollback_failed"):
        return state_words(row.state)[0]
    return "Its catch-up lane is halted"
