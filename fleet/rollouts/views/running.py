"""One rollout while it runs: its page, its cells as JSON, and one site of it."""

from datetime import UTC, datetime
from typing import Any

import brotli
import msgspec
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.rollouts.engine.facts import Head
from fleet.rollouts.models import Rollout, Wave
from fleet.rollouts.present_lines import plan_lines
from fleet.rollouts.present_running import (
    Counts,
    agreement,
    bars,
    buttons,
    failures,
    headline,
    in_all,
    lane_rows,
    provider_rows,
    step_row,
    waits_for,
    wave_columns,
)
from fleet.rollouts.present_words import GROUP_OF, GROUPS, LANES, STEPS, event_words, state_words
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import offered
from fleet.rollouts.selectors.rollouts import (
    approvals_of,
    attempts_of,
    counts_by_wave,
    events_of,
    failures_by_class,
    get_rollout,
    get_step,
    rollouts_of_site,
    sees_whole,
    waves_of,
)
from fleet.rollouts.selectors.watching import (
    CELLS,
    cells_of,
    counts_by_provider,
    failed_steps,
    holds_at,
    holds_on,
    lane_of,
    last_evaluations,
    steps_like,
)
from fleet.rollouts.services.holds import may_hold
from fleet.rollouts.states import ENDED_STEPS, LaneState, RolloutEvent, RolloutState, StepState, allowed
from sites.selectors.access import get_site, providers_in

STEPS_SHOWN = 25
EVENTS_SHOWN = 12
FAILED_READ = 200
LARGE = 2_000


# The page ---------------------------------------------------------------------------------------------------
@require_safe
def rollout_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """All there is to know of a rollout, and what can be done to it. Raises NotFound."""
    row, now = get_rollout(scope=request.who, pk=pk), database_now()
    seen = head(row.pk, now) if sees_whole(request.who) else None
    waves = waves_of(row, request.who)
    counts = counts_by_wave(request.who, [row])[row.pk]
    label, look = state_words(row.state, row.pause)
    groups = in_all(counts)
    context = {
        "rollout": row,
        "label": label,
        "look": look,
        "whole": seen is not None,
        "says": headline(row, waves, counts),
        "groups": groups,
        "total": sum(groups.values()),
        "bars": bars(groups),
        "buttons": buttons(offered(request.who, request.rights, row, seen, now)),
        "query": request.GET.urlencode(),
        "may_plan": seen is not None and request.rights.may("rollout.plan"),
        "may_edit": request.rights.may("rollout.plan") and allowed(RolloutState(row.state), RolloutEvent.EDIT),
        **_wave_parts(request, row, seen, waves, counts, now),
        **_side_parts(request, row, seen, now),
        **_step_table(request, row, waves),
        **_event_list(request, row, waves),
    }
    return render(request, page="rollouts/running.html", fragment="rollouts/_running.html", context=context)


def _wave_parts(
    request: ScopedRequest, row: Rollout, seen: Head | None, waves: list[Wave], counts: Counts, now: datetime
) -> dict[str, Any]:
    if seen is None:
        return {"columns": wave_columns(waves, counts)}
    names = dict(providers_in(request.who).values_list("pk", "name"))
    kept = last_evaluations(request.who, row, [len(wave.all_gates) for wave in seen.plan.waves])
    return {
        "columns": wave_columns(waves, counts, seen, now, kept),
        "waits": waits_for(seen, now, names),
        "until": seen.rollout.until,
        "start_at": seen.plan.start_at if row.started_at is None else None,
        "plan": plan_lines(seen.plan, names),
        "agreement": agreement(seen, now, names),
        "providers": provider_rows(counts_by_provider(request.who, row)),
    }


def _side_parts(request: ScopedRequest, row: Rollout, seen: Head | None, now: datetime) -> dict[str, Any]:
    lane = lane_rows(lane_of(request.who, row))
    rights = request.rights
    return {
        "approvals": [
            {"said": one, "counts": one.plan_hash == row.plan_hash and one.expires_at > now}
            for one in approvals_of(request.who, row)
        ],
        "failures": failures(failures_by_class(request.who, row), failed_steps(request.who, row, limit=FAILED_READ)),
        "lane": lane,
        "lane_says": LANES[LaneState(row.lane)],
        "holds": [
            {"hold": one, "may_lift": may_hold(rights, one.provider_id, one.site, one.region)}
            for one in holds_on(request.who, row, now)
        ],
    }


def _step_table(request: ScopedRequest, row: Rollout, waves: list[Wave]) -> dict[str, Any]:
    wave, group, text = (request.GET.get(name, "").strip()[:80] for name in ("wave", "step", "q"))
    names = {one.index: one.name for one in waves}
    chosen = int(wave) if wave.isascii() and wave.isdigit() and len(wave) < 4 else None
    states = [str(state) for state, its in GROUP_OF.items() if its == group]
    found = steps_like(request.who, row, wave=chosen, states=states, text=text)
    page = Paginator(found, STEPS_SHOWN).get_page(request.GET.get("page"))
    return {
        "steps": [step_row(step, names) for step in page.object_list],
        "page": page,
        "chosen": {"wave": chosen, "step": group if states else "", "q": text},
        "narrowed": chosen is not None or bool(states) or bool(text),
        "group_choices": list(GROUPS.items()),
    }


def _event_list(request: ScopedRequest, row: Rollout, waves: list[Wave]) -> dict[str, Any]:
    names = {one.index: one.name for one in waves}
    page = Paginator(events_of(request.who, row), EVENTS_SHOWN).get_page(request.GET.get("events"))
    return {
        "events": [{"event": one, "words": event_words(one, names)} for one in page.object_list],
        "event_page": page,
    }


# Cells ------------------------------------------------------------------------------------------------------
@require_safe
def rollout_cells(request: ScopedRequest, pk: int) -> HttpResponse:
    """Every step that the viewer may see as a cell; with ?since= (ms since the epoch) those that changed after it.

    `as_of` is what to ask for next: a little early, for what another transaction has not yet committed.
    Raises NotFound.
    """
    row, now = get_rollout(scope=request.who, pk=pk), database_now()
    since = _moment(request.GET.get("since", ""))
    cells = cells_of(request.who, row, since)
    body = msgspec.json.encode(
        {
            "as_of": int(now.timestamp() * 1000) - 15_000,
            "plan": row.plan_hash,
            "columns": CELLS,
            "states": [{"name": str(state), "label": STEPS[state], "group": GROUP_OF[state]} for state in StepState]
            if since is None
            else [],
            "cells": cells,
        }
    )
    response = HttpResponse(body, content_type="application/json")
    if len(cells) > LARGE and "br" in request.headers.get("Accept-Encoding", ""):
        response.content = brotli.compress(body, quality=3)
        response["Content-Encoding"] = "br"
    patch_vary_headers(response, ["Accept-Encoding"])
    return response


def _moment(text: str) -> datetime | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 14):
        return None
    return datetime.fromtimestamp(int(text) / 1000, tz=UTC)


# One site ---------------------------------------------------------------------------------------------------
@require_safe
def rollout_step(request: ScopedRequest, pk: int, slug: str) -> HttpResponse:
    """One site of a rollout: how far it is, the documents that it was given, what happened. Raises NotFound."""
    row = get_rollout(scope=request.who, pk=pk)
    step = get_step(scope=request.who, rollout=row, slug=slug)
    names = {one.index: one.name for one in waves_of(row, request.who)}
    found = events_of(request.who, row).filter(step=step)[:100]
    context = {
        "rollout": row,
        "site": step.site,
        "row": step_row(step, names),
        "step": step,
        "attempts": attempts_of(step),
        "events": [{"event": one, "words": event_words(one, names)} for one in found],
        "whole": sees_whole(request.who),
    }
    return render(request, page="rollouts/step.html", fragment="rollouts/_step.html", context=context)


@require_safe
def site_rollouts(request: ScopedRequest, slug: str) -> HttpResponse:
    """The rollouts of a site, now and before: the card of its page, and a page by itself. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    rows = []
    for step in rollouts_of_site(request.who, site.pk):
        label, look = state_words(step.rollout.state, step.rollout.pause)
        is_now = step.state not in ENDED_STEPS and step.rollout.is_live
        rows.append({**step_row(step, {}), "rollout": step.rollout, "label": label, "look": look, "is_now": is_now})
    context = {
        "site": site,
        "now": [row for row in rows if row["is_now"]],
        "before": [row for row in rows if not row["is_now"]],
        "holds": [
            {"hold": one, "may_lift": may_hold(request.rights, one.provider_id, one.site, one.region)}
            for one in holds_at(request.who, site, database_now())
        ],
        "may_hold": may_hold(request.rights, site.provider_id, site, ""),
    }
    return render(request, page="rollouts/site.html", fragment="rollouts/_site.html", context=context)
