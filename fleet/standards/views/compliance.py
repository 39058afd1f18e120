"""Compliance: how many sites run their standard, what differs, since when; and the card on a site's page."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_tables2 import RequestConfig

from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.standards.models import SiteCompliance
from fleet.standards.present import (
    LABELS,
    LOOKS,
    called,
    cause_of,
    component_rows,
    csv_lines,
    difference_rows,
    kind_of,
    proven_at,
    short,
    version_of,
    words_of,
)
from fleet.standards.selectors import compliance
from fleet.standards.selectors.compliance import SPANS, Narrow
from fleet.standards.selectors.standards import rings_in, standards_in
from fleet.standards.tables import ComplianceTable
from sites.selectors.access import get_site, providers_in, regions_in

NAMES = ("provider", "ring", "standard", "region")
PAGE_SIZES = (25, 50, 100)
DRIFT_SHOWN = 12
SPREAD_SHOWN = 400


@require_safe
def compliance_page(request: ScopedRequest) -> HttpResponse:
    """The whole screen; every choice lies in the URL."""
    narrow, state = _narrow(request), request.GET.get("state", "")
    state = state if state in (*compliance.STATES, "all") else "drift"
    counts = compliance.counts(request.who, narrow)
    component = {name: request.GET.get(name, "")[:520] for name in ("kind", "name", "version")}
    table = _table(request, _sites(request, narrow, state))
    context = {
        "figures": _figures(request, counts, state),
        "share": counts["conform"] / followed if (followed := counts["sites"] - counts["none"]) else None,
        "counts": counts,
        "state": state,
        "component": called(component["kind"], component["name"]) if component["kind"] and component["name"] else "",
        "component_version": component["version"],
        "drifting": _drifting(request, narrow),
        "providers": _groups(request, narrow),
        "spread": _spread(request, narrow),
        "table": table,
        "choices": _choices(request),
        "narrowed": any(request.GET.get(name) for name in (*NAMES, "kind")),
        "spans": [{"name": name, "is_on": name == _span(request)} for name in SPANS],
        "page_sizes": PAGE_SIZES,
        "query": request.GET.urlencode(),
    }
    return render(request, page="compliance/page.html", fragment="compliance/_body.html", context=context)


@require_safe
def compliance_history(request: ScopedRequest) -> HttpResponse:
    """Series for the chart: shares of sites, and their numbers, at moments of the span."""
    found = compliance.over_time(request.who, _narrow(request), until=timezone.now(), span=_span(request))
    answer = {
        "from": found.since.timestamp(),
        "to": found.until.timestamp(),
        "step_s": found.step_s,
        "t": found.moments_s(),
        "ratio": found.ratios(),
        **found.states,
    }
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")


@require_safe
def compliance_export(request: ScopedRequest) -> HttpResponse:
    """All sites that the filters let through, the oldest first, as CSV."""
    found = _sites(request, _narrow(request), request.GET.get("state", "drift"))
    response = HttpResponse("\ufeff" + "".join(csv_lines(found.order_by("since", "site_id"))))
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Content-Disposition"] = 'attachment; filename="compliance.csv"'
    return response


@require_safe
def site_compliance(request: ScopedRequest, slug: str) -> HttpResponse:
    """A site's components beside its standard: the card of its page, and a page by itself. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    row = compliance.compliance_of(site)
    context: dict[str, Any] = {"site": site, "row": row}
    if row is not None:
        kind = kind_of(row)
        context |= {
            "kind": kind,
            "look": LOOKS[kind],
            "label": LABELS[kind],
            "differences": difference_rows(row),
            "equal": component_rows(row),
            "cause": cause_of(row),
            "proven_at": proven_at(row),
        }
    return render(request, page="compliance/site.html", fragment="compliance/_site.html", context=context)


# ------------------------------------------------------------------------------------------------------------
def _narrow(request: ScopedRequest) -> Narrow:
    return compliance.narrowed(request.who, **{name: request.GET.get(name, "")[:120] for name in NAMES})


def _span(request: ScopedRequest) -> str:
    name = request.GET.get("span", "")
    return name if name in SPANS else "7d"


def _sites(request: ScopedRequest, narrow: Narrow, state: str) -> QuerySet[SiteCompliance]:
    found = compliance.in_state(compliance.sites_of(request.who, narrow), state)
    kind, name = request.GET.get("kind", ""), request.GET.get("name", "")
    if kind and name:
        return compliance.with_component(found, kind=kind, name=name, version=request.GET.get("version"))
    return found


def _table(request: ScopedRequest, found: QuerySet[SiteCompliance]) -> ComplianceTable:
    table = ComplianceTable(found)
    size = request.GET.get("per_page", "")
    RequestConfig(request, paginate=False).configure(table)
    table.paginate(per_page=int(size) if size in {str(choice) for choice in PAGE_SIZES} else 25)
    table.page = table.paginator.get_page(request.GET.get("page"))
    return table


def _link(request: ScopedRequest, **changes: str) -> str:
    """The page with these choices changed ("" takes one away), from its first page on."""
    query = {name: value for name, value in request.GET.items() if name != "page"} | changes
    left = {name: value for name, value in query.items() if value or (name == "version" and "kind" in changes)}
    return f"{reverse('compliance')}?{urlencode(left)}" if left else reverse("compliance")


def _figures(request: ScopedRequest, counts: Mapping[str, int], state: str) -> list[dict[str, Any]]:
    return [
        {
            "kind": LOOKS[name],
            "label": LABELS[name],
            "count": counts[name],
            "is_on": name == state,
            "href": _link(request, state=name, kind="", name="", version=""),
        }
        for name in compliance.STATES
    ]


def _drifting(request: ScopedRequest, narrow: Narrow) -> list[dict[str, Any]]:
    rows = []
    for one in compliance.drift_by_component(request.who, narrow, limit=DRIFT_SHOWN):
        plain = {name: getattr(one, name) for name in ("kind", "name", "verb", "want", "have")}
        have = one.have or {}
        version = have.get("version") or have.get("state") or ""
        # One that has neither is found by its digest alone, which a link does not carry.
        chosen = {"version": version} if version or one.have is None else {}
        rows.append(
            {
                "what": f"{called(one.kind, one.name)} {version_of(one.have)}".strip(),
                "words": words_of(plain),
                "sites": one.sites,
                "oldest": one.oldest,
                "href": _link(request, state="drift", kind=one.kind, name=one.name, **chosen),
            }
        )
    return rows


def _groups(request: ScopedRequest, narrow: Narrow) -> list[dict[str, Any]]:
    names = {row.pk: row for row in providers_in(request.who)}
    rows = []
    for key, counts in compliance.counts_by(request.who, "provider", narrow).items():
        provider = names.get(key) if key is not None else None
        if provider is None:
            continue
        followed = counts["sites"] - counts["none"]
        rows.append(
            {
                "name": provider.name,
                "counts": counts,
                "share": counts["conform"] / followed if followed else None,
                "href": _link(request, provider=provider.slug),
            }
        )
    return sorted(rows, key=lambda row: (row["share"] is None, row["share"] or 0.0, row["name"]))


def _spread(request: ScopedRequest, narrow: Narrow) -> list[dict[str, Any]]:
    """Components with every version in use; those with most versions first."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in compliance.spread(request.who, narrow, limit=SPREAD_SHOWN):
        version = one.version or short(one.digest) or "unknown"
        versions = found.setdefault((one.kind, one.name), [])
        versions.append({"version": version, "digest": one.digest or "", "sites": one.sites})
    rows = [{"what": called(*key), "versions": versions} for key, versions in found.items()]
    return sorted(rows, key=lambda row: (-len(row["versions"]), str(row["what"])))


def _choices(request: ScopedRequest) -> list[dict[str, Any]]:
    """What the selects of the filter hold."""
    known: Sequence[tuple[str, str, list[tuple[str, str]]]] = (
        ("provider", "All providers", list(providers_in(request.who).values_list("slug", "name"))),
        ("ring", "All rings", list(rings_in(request.who).values_list("slug", "name"))),
        (
            "standard",
            "All standards",
            [(name, name) for name in standards_in(request.who).exclude(state="draft").values_list("name", flat=True)],
        ),
        ("region", "All regions", [(name, name) for name in regions_in(request.who)]),
    )
    return [
        {"name": name, "chosen": request.GET.get(name, ""), "choices": [("", every), *choices]}
        for name, every, choices in known
    ]
