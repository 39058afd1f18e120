"""Screens of the whole fleet: overview, wall, search; and the fragments that keep them alive."""

import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import brotli
import msgspec
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render as django_render
from django.urls import reverse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import quote_etag
from django.views.decorators.http import require_POST, require_safe
from ninja import NinjaAPI

from fleet.kit.errors import NotFound
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.people.models import User
from fleet.people.services import forget_view, keep_view
from fleet.rollouts.selectors.rollouts import running
from fleet.rollouts.views.listing import rollout_rows
from sites.models import Site
from sites.present import (
    FIGURES,
    LABELS,
    TIMELINE_BIN_S,
    components_of,
    events_of,
    kind_of,
    loads_of,
    may_on,
    since_of,
    timeline_of,
    utc_now,
    why_of,
)
from sites.selectors import access, fleet_wide, one_site
from sites.selectors.identity import waiting
from sites.views.waiting import clock_rows, frozen_rows, recovery_rows, waiting_rows
from slas.present.disputes import dispute_rows
from slas.selectors.outages import open_by_site
from slas.views.budgets import burn_rows, risk_of

ATTENTION_SHOWN = 60
ATTENTION_READ = 1000
WAITING_SHOWN = 10
ROLLOUTS_SHOWN = 20
BURNS_SHOWN = 10
CHANGES_READ = 40
LISTS = ("state", "provider", "region", "ring")


# Filters ----------------------------------------------------------------------------------------------------
def _filters(query: QueryDict) -> dict[str, Any]:
    """The map's filters as static/js/filters.js writes them: lists are joined by commas, `q` is a text."""
    found: dict[str, Any] = {name: set(",".join(query.getlist(name)).split(",")) - {""} for name in LISTS}
    found["q"] = query.get("q", "").strip()[:100]
    return found


def _passes(site: Site, filters: Mapping[str, Any]) -> bool:
    """Whether a site passes. Its state is only looked at, and so only asked for, when it is filtered by."""
    if filters["state"] and kind_of(site) not in filters["state"]:
        return False
    values = {"provider": str(site.provider_id), "region": site.region, "ring": site.ring}
    if any(filters[name] and value not in filters[name] for name, value in values.items()):
        return False
    needle = filters["q"].lower()
    return not needle or needle in f"{site.name} {site.slug} {site.provider.name} {site.region}".lower()


def _query(filters: Mapping[str, Any]) -> str:
    pairs = {name: ",".join(sorted(filters[name])) for name in LISTS if filters[name]}
    if filters["q"]:
        pairs["q"] = filters["q"]
    return f"?{urlencode(pairs, safe=',')}" if pairs else ""


# Parts ------------------------------------------------------------------------------------------------------
def _counts(request: ScopedRequest) -> dict[str, int]:
    """Active sites by kind. An unreachable site's availability is unknown by rule: it counts as unreachable only."""
    counts = fleet_wide.figures(request.who)
    return {**counts, "unknown": max(0, counts["unknown"] - counts["unreachable"])}


def _figures(counts: Mapping[str, int], filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Five figures that add up to the active sites; each link switches its state on or off as a filter."""
    rows = []
    for kind in FIGURES:
        switched = {**filters, "state": filters["state"] ^ {kind}}
        rows.append(
            {
                "kind": kind,
                "label": LABELS[kind],
                "count": counts[kind],
                "is_on": kind in filters["state"],
                "href": _query(switched) or reverse("overview"),
            }
        )
    return rows


def _attention(request: ScopedRequest, filters: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """What needs somebody and passes the filters, with why and who took it: identities that are frozen, sites in
    trouble, worst first, and wrong clocks and keys that wait, which have room however many are in trouble. Rollouts
    that wait for a person, disputes and promises that lose their error budget too fast come first, unless the list is
    filtered: they are about no single site.

    `counts` are the fleet's figures: they say how many there are without reading them all.
    """
    filtered = bool(_query(filters))
    limit = ATTENTION_READ if filtered else ATTENTION_SHOWN
    recovers = [] if filtered else recovery_rows(request.who) + rollout_rows(request.who, limit=ROLLOUTS_SHOWN)
    recovers += [] if filtered else dispute_rows(request.who, request.rights)
    recovers += [] if filtered else burn_rows(request.who, limit=BURNS_SHOWN)
    alarms = [row for row in frozen_rows(request.who, limit=limit) if _passes(row["site"], filters)]
    keys = [row for row in waiting_rows(request.who, limit=limit) if _passes(row["site"], filters)]
    clocks = [row for row in clock_rows(request.who, limit=limit) if _passes(row["site"], filters)]
    read = fleet_wide.attention(request.who, limit=limit)
    found = [site for site in read if _passes(site, filters)]
    outages = open_by_site(request.who, [site.pk for site in found[:ATTENTION_SHOWN]])
    rows = [
        {
            "site": site,
            "kind": kind_of(site),
            "since": since_of(site),
            "why": why_of(site),
            "outage": outages.get(site.pk),
            "taken_by": next((taken.user_name for taken in getattr(site, "open_acknowledgements", [])), "")
            or getattr(outages.get(site.pk), "owner", "")
            or "",
            "may_take": may_on(request.rights, "site.acknowledge", site),
        }
        for site in found
    ]
    troubled = len(found) if filtered else sum(counts[kind] for kind in ("down", "degraded", "unreachable"))
    waits = len(keys) if filtered or len(keys) < limit else waiting(request.who).count()
    shown_keys = keys[:WAITING_SHOWN]
    shown_clocks = clocks[:WAITING_SHOWN]
    room = max(0, ATTENTION_SHOWN - len(alarms) - len(shown_clocks) - len(shown_keys))
    return {
        "rows": [*recovers, *alarms, *rows[:room], *shown_clocks, *shown_keys],
        "total": len(recovers) + len(alarms) + troubled + len(clocks) + waits,
        "more": max(0, troubled - room),
        "more_waiting": waits - len(shown_keys),
    }


def _timeline(request: ScopedRequest, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Failures of the last 24 hours among the sites that pass the filters, and the newest changes of any state."""
    now = utc_now()
    since = now - timedelta(hours=24)
    narrow: dict[str, Any] = {
        "providers": [int(pk) for pk in filters["provider"] if pk.isascii() and pk.isdigit() and len(pk) < 10],
        "regions": sorted(filters["region"]),
        "rings": sorted(filters["ring"]),
        "text": filters["q"],
    }
    bins = fleet_wide.failures_by_bin(request.who, since=since, bin_s=TIMELINE_BIN_S, **narrow)
    every = {**filters, "state": set()}
    changes = fleet_wide.recent_changes(request.who, since=since, limit=CHANGES_READ)
    last = [row for row in changes if _passes(row.site, every)]
    return timeline_of(bins, last, since=since)


def _panel(request: ScopedRequest, site: Site) -> dict[str, Any]:
    """What the side panel says of a site."""
    state = getattr(site, "state", None)
    kind = kind_of(site)
    since = utc_now() - timedelta(days=30)
    return {
        "site": site,
        "kind": kind,
        "since": since_of(site),
        "why": why_of(site),
        "taken": one_site.open_acknowledgement(site),
        "outage": open_by_site(request.who, [site.pk]).get(site.pk),
        "loads": loads_of(site),
        "stale_load": kind == "unreachable",
        "components": components_of(site),
        "events": events_of(one_site.intervals_of(site, since=since), limit=6),
        "last_good_at": state.last_good_at if state else None,
        "rtt_ms": state.rtt_ms if state else None,
        "may_poll": site.life == "active" and may_on(request.rights, "site.poll", site),
        "may_take": kind in ("down", "degraded", "unreachable") and may_on(request.rights, "site.acknowledge", site),
        "may_change": may_on(request.rights, "site.change", site),
    }


def _selected_panel(request: ScopedRequest) -> dict[str, Any] | None:
    """The panel of ?site=, for a page that is opened by its URL; a site that is gone or foreign opens none."""
    slug = request.GET.get("site", "")
    if not slug:
        return None
    try:
        return _panel(request, access.get_site(scope=request.who, slug=slug))
    except NotFound:
        return None


# Pages ------------------------------------------------------------------------------------------------------
@require_safe
def overview(request: ScopedRequest) -> HttpResponse:
    """The live map and everything around it."""
    filters = _filters(request.GET)
    counts = _counts(request)
    context = {
        "filters": filters,
        "filtered": bool(_query(filters)),
        "figures": _figures(counts, filters),
        "fleet_size": counts["sites"],
        "rollouts_running": running(request.who),
        "risk": risk_of(request.who),
        "attention": _attention(request, filters, counts),
        "timeline": _timeline(request, filters),
        "panel": _selected_panel(request),
        "selected": request.GET.get("site", ""),
        "choices": {
            "providers": access.providers_in(request.who),
            "regions": access.regions_in(request.who),
            "rings": access.rings_in(request.who),
        },
    }
    return django_render(request, "overview/page.html", context)


@require_safe
def figures(request: ScopedRequest) -> HttpResponse:
    """The strip of figures."""
    return django_render(
        request, "overview/_figures.html", {"figures": _figures(_counts(request), _filters(request.GET))}
    )


@require_safe
def attention(request: ScopedRequest) -> HttpResponse:
    """The list of what needs somebody."""
    filters = _filters(request.GET)
    counts = _counts(request)
    context = {
        "attention": _attention(request, filters, counts),
        "filtered": bool(_query(filters)),
        "fleet_size": counts["sites"],
        "selected": request.GET.get("site", ""),
    }
    return django_render(request, "overview/_attention.html", context)


@require_safe
def timeline(request: ScopedRequest) -> HttpResponse:
    """The last 24 hours of changes."""
    return django_render(request, "overview/_timeline.html", {"timeline": _timeline(request, _filters(request.GET))})


@require_safe
def site_panel(request: ScopedRequest, slug: str) -> HttpResponse:
    """The side panel of one site. Raises NotFound."""
    panel = _panel(request, access.get_site(scope=request.who, slug=slug))
    return django_render(request, "sites/_panel.html", {"panel": panel, "site": panel["site"]})


@require_safe
def wall(request: ScopedRequest) -> HttpResponse:
    """The kiosk."""
    none, counts = _filters(QueryDict()), _counts(request)
    context = {"figures": _figures(counts, none), "attention": _attention(request, none, counts)}
    return render(request, page="wall/page.html", fragment="wall/_attention.html", context=context)


@require_safe
def search(request: ScopedRequest) -> HttpResponse:
    """Sites and providers by name, for the palette (fragment) and as a page."""
    query = request.GET.get("q", "").strip()[:100]
    found: dict[str, Any] = {"sites": [], "providers": []}
    if query:
        sites = fleet_wide.search_sites(request.who, query)
        found["sites"] = [{"site": site, "kind": kind_of(site)} for site in sites]
        found["providers"] = list(access.providers_in(request.who).filter(name__icontains=query)[:5])
    context = {"query": query, "found": found}
    return render(request, page="search/page.html", fragment="search/_results.html", context=context)


@require_safe
def map_snapshot(request: ScopedRequest) -> HttpResponse:
    """Every active site, for the map: columns and rows, with an ETag and compressed by ourselves (it is large)."""
    who = request.who
    viewer = zlib.crc32(repr((who.name, who.wide, sorted(who.providers), who.limits)).encode())
    etag = quote_etag(f"{fleet_wide.map_stamp(who)}-{viewer:x}")
    cached = get_conditional_response(request, etag=etag)
    if cached is not None:
        return cached
    body = msgspec.json.encode(
        {
            "as_of": int(utc_now().timestamp() * 1000),
            "providers": {str(pk): name for pk, name in access.providers_in(who).values_list("pk", "name")},
            "columns": fleet_wide.MAP_COLUMNS,
            "sites": fleet_wide.map_rows(who),
        }
    )
    response = HttpResponse(body, content_type="application/json")
    if "br" in request.headers.get("Accept-Encoding", ""):
        response.content = brotli.compress(body, quality=4)
        response["Content-Encoding"] = "br"
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    patch_vary_headers(response, ["Cookie", "Accept-Encoding"])
    return response


@require_safe
def api_docs(request: ScopedRequest, api: NinjaAPI) -> HttpResponse:
    """The API's reference, drawn from its OpenAPI description."""
    schema = api.get_openapi_schema()
    operations = [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    # Lists, since a template would take a property that is called `items` for the method of that name.
    schemas = [
        {"name": name, "about": part.get("description", ""), "fields": list(part.get("properties", {}).items())}
        for name, part in schema["components"]["schemas"].items()
    ]
    context = {"info": schema["info"], "operations": operations, "schemas": schemas}
    return django_render(request, "api/docs.html", context)


# Saved views ------------------------------------------------------------------------------------------------
def _back(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(f"{reverse('site_list')}?{QueryDict(request.POST.get('query', '')).urlencode()}")


@require_POST
def view_keep(request: ScopedRequest) -> HttpResponse:
    """Keep the list of sites as it is filtered and sorted now, under a name. Raises Invalid."""
    assert isinstance(request.user, User)
    keep_view(user=request.user, name=request.POST.get("name", ""), query=request.POST.get("query", ""))
    messages.success(request, "View kept.")
    return _back(request)


@require_POST
def view_forget(request: ScopedRequest) -> HttpResponse:
    """Forget a kept view."""
    assert isinstance(request.user, User)
    forget_view(user=request.user, name=request.POST.get("name", ""))
    messages.success(request, "View removed.")
    return _back(request)
