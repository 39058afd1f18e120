"""The list of sites: filtered, sorted, paged; its export; what is done to many at once."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django_tables2 import RequestConfig

from fleet.kit.errors import DomainError
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.csv_format import write_sites
from sites.filters import KINDS, SiteFilter
from sites.models import Site
from sites.present import FIGURES, LABELS
from sites.selectors.access import sites_in
from sites.selectors.fleet_wide import figures
from sites.services.sites import poll_now
from sites.tables import SiteTable, columns_chosen

PAGE_SIZES = (25, 50, 100, 200)
MAX_PICKED = 500


@require_safe
def site_list(request: ScopedRequest) -> HttpResponse:
    """A page of sites; every choice lies in the URL."""
    found = SiteFilter(request.GET, queryset=sites_in(request.who), who=request.who)
    chosen = columns_chosen(",".join(request.GET.getlist("cols")).split(","))
    table = SiteTable(found.qs, exclude=[name for name in SiteTable.base_columns if name not in chosen])
    size = request.GET.get("per_page", "")
    per_page = int(size) if size in {str(choice) for choice in PAGE_SIZES} else 50
    # Not paged by RequestConfig: it would take any `per_page`, a million too.
    RequestConfig(request, paginate=False).configure(table)
    table.paginate(per_page=per_page)
    table.page = table.paginator.get_page(request.GET.get("page"))
    context = {
        "table": table,
        "filter": found,
        "filtered": any(request.GET.get(name) for name in SiteFilter.base_filters),
        "figures": _figures(request),
        "columns": _column_choices(chosen),
        "page_sizes": [{"size": choice, "is_on": choice == per_page} for choice in PAGE_SIZES],
        "query": request.GET.urlencode(),
        "kept_views": getattr(request.user, "preferences", {}).get("site_views", []),
    }
    return render(request, page="sites/list.html", fragment="sites/_list.html", context=context)


def _figures(request: ScopedRequest) -> list[dict[str, Any]]:
    """The states as filters: each link switches one on or off and goes back to the first page."""
    counts = figures(request.who)
    counts["unknown"] = max(0, counts["unknown"] - counts["unreachable"])
    on = {kind for kind in request.GET.get("state", "").split(",") if kind in KINDS}
    rows = []
    for kind in FIGURES:
        query = request.GET.copy()
        query.pop("page", None)
        states = [name for name in KINDS if name in on ^ {kind}]
        query["state"] = ",".join(states)
        if not states:
            del query["state"]
        href = f"?{query.urlencode(safe=',')}"
        rows.append({"kind": kind, "label": LABELS[kind], "count": counts[kind], "is_on": kind in on, "href": href})
    return rows


def _column_choices(chosen: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "label": column.verbose_name or name.capitalize(), "is_on": name in chosen}
        for name, column in SiteTable.base_columns.items()
        if name != "name"
    ]


# Many at once -----------------------------------------------------------------------------------------------
@require_POST
def site_bulk(request: ScopedRequest) -> HttpResponse:
    """Do something to the picked sites: poll them now, or export them. Raises NotAllowed, NotFound."""
    picked = request.POST.getlist("pick")[:MAX_PICKED]
    numbers = [int(pk) for pk in picked if pk.isascii() and pk.isdigit() and len(pk) < 10]
    found = sites_in(request.who).filter(pk__in=numbers)
    if request.POST.get("action") == "export":
        return _csv(list(found))
    done, refused = 0, 0
    for site in found:
        try:
            poll_now(actor=request.who, rights=request.rights, site=site)
            done += 1
        except DomainError:
            refused += 1
    text = f"{done} site{'s' if done != 1 else ''} polled now."
    messages.success(request, f"{text} {refused} could not be: not active, or not yours to poll." if refused else text)
    query = QueryDict(request.POST.get("query", "")).urlencode()
    return HttpResponseRedirect(f"{reverse('site_list')}?{query}")


@require_safe
def site_export(request: ScopedRequest) -> HttpResponse:
    """All sites that the list's filters let through, as CSV."""
    found: QuerySet[Site] = SiteFilter(request.GET, queryset=sites_in(request.who), who=request.who).qs
    return _csv(list(found.order_by("slug")))


def _csv(sites: list[Site]) -> HttpResponse:
    """What write_sites() writes, behind a byte-order mark so that spreadsheets read UTF-8."""
    response = HttpResponse("\ufeff" + "".join(write_sites(sites)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="sites.csv"'
    return response
