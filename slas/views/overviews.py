"""Reports over several contracts: of a provider, of a group of sites, and of providers side by side."""

from datetime import UTC, datetime
from typing import Any, Final

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render as django_render
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.errors import NotFound
from fleet.kit.http import ScopedRequest
from sites.selectors.access import get_provider, providers_in, regions_in, rings_in
from slas.exports.overviews import MEASURED, Compared, compared, comparison_table, group_tables
from slas.exports.sheets import book_of, csv_of, json_of, lines_of, xlsx_of
from slas.exports.tables import Table
from slas.exports.words import period_words
from slas.periods import PeriodError, span_of
from slas.present.overviews import comparison_rows, outages_row, pooled_row, provider_document
from slas.present.report_lines import places_of
from slas.reporting.paper import Paper, worst_first
from slas.reporting.pooling import outages_of, pooled
from slas.selectors.summaries import Group, Said, paper_over, periods_in, said_in, slugs_of

PER_PAGE: Final = 100
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV: Final = "text/csv; charset=utf-8"


# A provider -------------------------------------------------------------------------------------------------
@require_safe
def provider_report(request: ScopedRequest, slug: str) -> HttpResponse:
    """A provider over all its contracts in a period. Raises NotFound."""
    provider = get_provider(scope=request.who, slug=slug)
    period, periods = _period(request)
    said = said_in(request.who, period, provider)
    doc = provider_document(said, paper_over(said, provider.name, period, _span(period)))
    context = {
        "provider": provider,
        "doc": doc,
        "places": Paginator(doc["places"], PER_PAGE).get_page(request.GET.get("page")),
        **_shown(request, period, periods),
    }
    return django_render(request, "slas/provider_report.html", context)


@require_safe
def provider_export(request: ScopedRequest, slug: str, kind: str) -> HttpResponse:
    """The same as a file: its parts as one. Raises NotFound."""
    provider = get_provider(scope=request.who, slug=slug)
    period, _ = _period(request)
    paper = paper_over(said_in(request.who, period, provider), provider.name, period, _span(period))
    made = {"xlsx": (XLSX, xlsx_of), "csv": (CSV, csv_of), "json": ("application/json", json_of)}.get(kind)
    if made is None:
        raise NotFound("There is no such kind of file.")
    return _file(made[1](paper), made[0], f"{provider.slug}-{period or 'none'}.{kind}")


# Providers side by side -------------------------------------------------------------------------------------
@require_safe
def comparison(request: ScopedRequest) -> HttpResponse:
    """Providers side by side in a period: those that are ticked, or all."""
    period, periods = _period(request)
    rows, every = _compared(request, period)
    context = {
        "rows": comparison_rows(rows),
        "labels": [row["label"] for row in comparison_rows(rows)[0]["measures"]] if rows else [],
        "every": [(one.provider, one in rows) for one in every],
        **_shown(request, period, periods),
    }
    return django_render(request, "slas/comparison.html", context)


@require_safe
def comparison_export(request: ScopedRequest, kind: str) -> HttpResponse:
    """The same as XLSX or CSV. Raises NotFound."""
    period, _ = _period(request)
    rows, _every = _compared(request, period)
    return _tables([comparison_table(rows)], f"Providers, {period}", f"providers-{period or 'none'}", kind)


# A group ----------------------------------------------------------------------------------------------------
@require_safe
def group_report(request: ScopedRequest) -> HttpResponse:
    """Figures of a ring, of sites with labels, of a region or a provider in a period."""
    period, periods = _period(request)
    group, fault = _group(request)
    paper = _of_group(request, period, group)
    context = {
        "group": group,
        "fault": fault,
        "label": request.GET.get("label", "")[:200],
        "ring": request.GET.get("ring", "")[:64],
        "measures": [pooled_row(pooled(measure, paper.places)) for measure in _measures(paper)],
        "outages": outages_row(outages_of(paper.lost)),
        "sites": len({one.slug for one in paper.places}),
        "places": Paginator(places_of(paper), PER_PAGE).get_page(request.GET.get("page")),
        "providers": providers_in(request.who),
        "regions": regions_in(request.who),
        "rings": rings_in(request.who),
        **_shown(request, period, periods),
    }
    return django_render(request, "slas/group_report.html", context, status=422 if fault else 200)


@require_safe
def group_export(request: ScopedRequest, kind: str) -> HttpResponse:
    """The same as XLSX or CSV. Raises NotFound."""
    period, _ = _period(request)
    paper = _of_group(request, period, _group(request)[0])
    tables = group_tables([pooled(measure, paper.places) for measure in _measures(paper)], paper.places)
    return _tables(tables, f"Group, {period}", f"group-{period or 'none'}", kind)


# ------------------------------------------------------------------------------------------------------------
def _period(request: ScopedRequest) -> tuple[str, list[str]]:
    """The period that is asked for if a report of it is made, else the latest one; and all of them."""
    periods = periods_in(request.who)
    asked = request.GET.get("period", "")
    return (asked if asked in periods else periods[0] if periods else ""), periods


def _span(period: str) -> tuple[datetime, datetime]:
    try:
        return span_of(period, "UTC")
    except PeriodError:
        now = database_now()
        return now, now


def _shown(request: ScopedRequest, period: str, periods: list[str]) -> dict[str, Any]:
    query = request.GET.copy()
    query["period"] = period
    query.pop("page", None)
    return {
        "period": period,
        "period_words": period_words(period) if period else "",
        "periods": [(one, period_words(one).capitalize()) for one in periods],
        "query": query.urlencode(),
        "narrowed": request.who.narrowed,
    }


def _compared(request: ScopedRequest, period: str) -> tuple[list[Compared], list[Compared]]:
    every = compared(said_in(request.who, period))
    picked = set(request.GET.getlist("provider"))
    return [one for one in every if one.provider.slug in picked] or every, every


def _group(request: ScopedRequest) -> tuple[Group, str]:
    """What is asked for, and what is wrong with it."""
    labels, fault = {}, ""
    for part in request.GET.get("label", "")[:200].split(","):
        key, equals, value = (text.strip() for text in part.partition("="))
        if part.strip() and not (key and equals and value):
            fault = "Write labels like tier=1, kind=shop."
        elif part.strip():
            labels[key] = value
    if ring := request.GET.get("ring", "")[:64]:
        labels["ring"] = ring
    clean = {key: value for key, value in labels.items() if "\x00" not in key + value}
    return Group(_plain(request, "provider"), _plain(request, "region"), clean), fault


def _plain(request: ScopedRequest, name: str) -> str:
    return request.GET.get(name, "")[:64].replace("\x00", "")


def _of_group(request: ScopedRequest, period: str, group: Group) -> Paper:
    """What is said of the group's sites alone."""
    begin, end = _span(period)
    slugs = slugs_of(group, begin, end) if period else set()
    said: list[Said] = said_in(request.who, period)
    if group.provider:
        said = [one for one in said if one.provider.slug == group.provider]
    places = [row for one in said for row in one.paper.places if row.slug in slugs]
    lost = {(row.number, row.provider): row for one in said for row in one.paper.lost if row.slug in slugs}
    head = paper_over([], "", period, (begin, end)).head
    return Paper(head, [], sorted(places, key=worst_first), list(lost.values()), [], [])


def _measures(paper: Paper) -> list[str]:
    return [one for one in MEASURED if any(place.measure == one for place in paper.places)]


def _tables(tables: list[Table], title: str, stem: str, kind: str) -> HttpResponse:
    if kind == "csv":
        return _file(lines_of(tables[-1]), CSV, f"{stem}.csv")
    if kind == "xlsx":
        return _file(book_of(title, datetime.now(UTC), tables), XLSX, f"{stem}.xlsx")
    raise NotFound("There is no such kind of file.")


def _file(body: bytes, content_type: str, name: str) -> HttpResponse:
    response = HttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
