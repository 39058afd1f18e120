"""One site: its page, its form, its charts' data, and what is done to it."""

from datetime import timedelta
from typing import Any

import msgspec
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.kit.errors import Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.forms import NoteForm, SiteForm, add_errors
from sites.models import Site
from sites.places import search_places
from sites.present import (
    bands_of,
    clock_of,
    components_of,
    evidence_text,
    kind_of,
    lane,
    loads_of,
    may_on,
    since_of,
    utc_now,
    why_of,
)
from sites.present_history import changes_of
from sites.selectors.access import get_site
from sites.selectors.one_site import (
    RANGES,
    SAMPLE_FIGURES,
    audit_of,
    component_spans_of,
    intervals_of,
    open_acknowledgement,
    resolution_for,
    samples_of,
)
from sites.services.sites import acknowledge, change_life, create_site, poll_now, update_site
from sites.states import LIFE_CHANGES, Axis
from sites.views.answers import done
from sites.views.desired import desired_context
from sites.views.identity import identity_context
from sites.views.journal import journal_context

RANGE_LABELS = {"1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "30d": "30 d"}
_STEPS = {"5m": 300.0, "1h": 3600.0}
INTERVALS_LISTED = 60
CHANGES_LISTED = 10


# The page ---------------------------------------------------------------------------------------------------
@require_safe
def site_detail(request: ScopedRequest, slug: str) -> HttpResponse:
    """All there is to know of a site; its live half is the fragment. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    chosen = request.GET.get("range", "24h")
    chosen = chosen if chosen in RANGES else "24h"
    context = (
        _live_context(request, site, chosen)
        | identity_context(request, site)
        | desired_context(request, site)
        | journal_context(site)
        | {
            "ranges": [{"name": name, "label": RANGE_LABELS[name], "is_on": name == chosen} for name in RANGES],
            "audit": audit_of(site, limit=20),
            "life_changes": [after for before, after in sorted(LIFE_CHANGES) if before == site.life],
        }
    )
    return render(request, page="sites/detail.html", fragment="sites/_live.html", context=context)


def _live_context(request: ScopedRequest, site: Site, chosen: str) -> dict[str, Any]:
    """What changes by itself: state, time line, components, workloads."""
    until = utc_now()
    since = until - timedelta(seconds=RANGES[chosen])
    intervals = intervals_of(site, since=since, until=until)
    state, kind = getattr(site, "state", None), kind_of(site)
    return {
        "site": site,
        "state": state,
        "kind": kind,
        "since": since_of(site),
        "why": why_of(site),
        "clock": clock_of(site),
        "taken": open_acknowledgement(site),
        "loads": loads_of(site),
        "components": components_of(site),
        "component_changes": changes_of(component_spans_of(site, since=since))[:CHANGES_LISTED],
        "range": chosen,
        "range_label": RANGE_LABELS[chosen],
        "lanes": [
            {"label": "Availability", "bars": lane(intervals, Axis.AVAILABILITY, since=since, until=until)},
            {"label": "Reachability", "bars": lane(intervals, Axis.REACHABILITY, since=since, until=until)},
        ],
        "lane_since": since,
        "intervals": [
            {"row": row, "lasted_s": row.lasted_s(until), "evidence": evidence_text(row.evidence)}
            for row in reversed(intervals[-INTERVALS_LISTED:])
        ],
        "may_poll": site.life == "active" and may_on(request.rights, "site.poll", site),
        "may_take": kind in ("down", "degraded", "unreachable") and may_on(request.rights, "site.acknowledge", site),
        "may_change": may_on(request.rights, "site.change", site),
    }


@require_safe
def site_samples(request: ScopedRequest, slug: str) -> HttpResponse:
    """Series for the charts, columns of equal length, and the times in which the site was not well. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    span_s = RANGES.get(request.GET.get("range", ""), RANGES["24h"])
    until = utc_now()
    since = until - timedelta(seconds=span_s)
    resolution = resolution_for(span_s)
    columns = samples_of(site, since=since, until=until, resolution=resolution)
    named = dict(zip(("t", *SAMPLE_FIGURES), columns, strict=True))
    answer = {
        "from": since.timestamp(),
        "to": until.timestamp(),
        "step_s": _STEPS.get(resolution, float(site.poll_interval_s)),
        "t": named["t"],
        "cpu": named["cpu_ratio"],
        "mem": _ratios(named["mem_bytes"], named["mem_total_bytes"]),
        "disk": _ratios(named["disk_bytes"], named["disk_total_bytes"]),
        "rx": named["net_rx_bytes_s"],
        "tx": named["net_tx_bytes_s"],
        "temp": named["temp_celsius"],
        "power": named["power_watts"],
        "rtt": named["rtt_ms"],
        "bands": bands_of(intervals_of(site, since=since, until=until)),
    }
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")


def _ratios(used: list[float | None], total: list[float | None]) -> list[float | None]:
    return [part / whole if part is not None and whole else None for part, whole in zip(used, total, strict=True)]


# The form ---------------------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
def site_create(request: ScopedRequest) -> HttpResponse:
    """Make a site."""
    if not request.rights.may("site.change"):
        raise NotAllowed("Your role does not make sites.")
    form = SiteForm(request.POST or None, who=request.who)
    if request.method == "POST" and form.is_valid():
        try:
            site = create_site(actor=request.who, rights=request.rights, values=form.values(), life=form.life())
        except Invalid as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{site.name} is made.")
            return HttpResponseRedirect(site.get_absolute_url())
    return _form_page(request, form, site=None)


@require_http_methods(["GET", "HEAD", "POST"])
def site_edit(request: ScopedRequest, slug: str) -> HttpResponse:
    """Change a site. Raises NotFound, NotAllowed."""
    site = get_site(scope=request.who, slug=slug)
    if not may_on(request.rights, "site.change", site):
        raise NotAllowed("Your role does not change this site.")
    form = SiteForm(request.POST or None, instance=site, who=request.who)
    if request.method == "POST" and form.is_valid():
        try:
            changed = update_site(actor=request.who, rights=request.rights, site=site, values=form.values())
        except Invalid as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{changed.name} is changed.")
            return HttpResponseRedirect(changed.get_absolute_url())
    return _form_page(request, form, site=get_site(scope=request.who, slug=slug))


def _form_page(request: ScopedRequest, form: SiteForm, *, site: Site | None) -> HttpResponse:
    status = 422 if form.is_bound else 200
    return django_render(request, "sites/form.html", {"form": form, "site": site}, status=status)


@require_safe
def place_search(request: ScopedRequest) -> HttpResponse:
    """Cities that begin with what was typed, for the form."""
    text = request.GET.get("place", request.GET.get("q", ""))[:80]
    return django_render(request, "sites/_places.html", {"places": search_places(text), "text": text})


# What is done to a site -------------------------------------------------------------------------------------
@require_POST
def site_poll_now(request: ScopedRequest, slug: str) -> HttpResponse:
    """Poll at once. Raises NotFound, NotAllowed, Conflict."""
    site = get_site(scope=request.who, slug=slug)
    poll_now(actor=request.who, rights=request.rights, site=site)
    return done(request, site, f"{site.name} is being polled.")


@require_POST
def site_acknowledge(request: ScopedRequest, slug: str) -> HttpResponse:
    """Take a site's trouble. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    form = NoteForm(request.POST)
    if not form.is_valid():
        raise Invalid("The note is too long.")
    acknowledge(actor=request.who, rights=request.rights, site=site, note=form.cleaned_data["note"])
    return done(request, site, f"You took {site.name}.")


@require_POST
def site_life(request: ScopedRequest, slug: str) -> HttpResponse:
    """Begin or end a site's life. Raises NotFound, NotAllowed, Conflict."""
    site = get_site(scope=request.who, slug=slug)
    changed = change_life(actor=request.who, rights=request.rights, site=site, life=request.POST.get("life", ""))
    return done(request, changed, f"{changed.name} is {changed.life}.")
