"""Reports: the list, one revision as a document, one site within it, and what is asked of them."""

from collections import defaultdict
from typing import Any, Final, cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotFound
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from slas.exports import zipapp
from slas.exports.files import CONTENT_TYPES, SUFFIXES, file_of
from slas.exports.sheets import csv_of, json_of, xlsx_of
from slas.exports.words import period_words
from slas.exports.zipapp import verifier
from slas.models import Report, ReportPart, ReportRevision
from slas.periods import month_of
from slas.present import report_lines
from slas.present import reports as present
from slas.present.report_files import checked_by, file_rows
from slas.selectors.contracts import contracts_in, get_contract
from slas.selectors.report_files import files_of, get_file
from slas.selectors.reports import Told, get_report, lines_of, reports_in, revision_of, revisions_of, trend_of
from slas.selectors.site_months import site_month
from slas.services.mailing import SCHEDULE
from slas.services.reports import DECIDE, MAKE, ask_for_report, decide_figure
from slas.states import FileKind

PER_PAGE: Final = 50
SITES_PER_PAGE: Final = 100
FILES: Final = {
    "csv": ("text/csv; charset=utf-8", csv_of),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xlsx_of),
    "json": ("application/json", json_of),
}


@require_safe
def report_list(request: ScopedRequest) -> HttpResponse:
    """Reports, the latest period first; of a contract where one is named."""
    return _list(request)


@require_POST
def report_make(request: ScopedRequest) -> HttpResponse:
    """Have a report of a contract and a period made. Raises NotAllowed, NotFound."""
    period = request.POST.get("days", "").strip() or request.POST.get("period", "")
    slug = request.POST.get("contract", "")
    try:
        contract = get_contract(scope=request.who, slug=slug)
        report = ask_for_report(actor=request.who, rights=request.rights, contract=contract, period=period)
    except Invalid as error:
        return _list(request, error=error.message, typed={"contract": slug, "period": period})
    return HttpResponseRedirect(reverse("sla_report", args=[report.pk]))


@require_safe
def report_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """One report as a document: the newest revision, or the one named. Raises NotFound."""
    return _page(request, get_report(scope=request.who, pk=pk))


@require_POST
@dangerous("report.decide")
def report_decide(request: ScopedRequest, pk: int) -> HttpResponse:
    """Decide on a figure that the facts leave open. Raises NotFound, NotAllowed."""
    report = get_report(scope=request.who, pk=pk)
    typed = {name: request.POST.get(name, "") for name in ("provider", "measure", "figure", "reason")}
    try:
        decide_figure(actor=request.who, rights=request.rights, report=report, **typed)
    except (Conflict, Invalid) as error:
        return _page(request, report, error=error.message, typed=typed)
    messages.success(request, "It is decided; the report is being made anew with it.")
    return HttpResponseRedirect(reverse("sla_report", args=[pk]))


@require_safe
def report_site(request: ScopedRequest, pk: int, slug: str) -> HttpResponse:
    """One site within a revision: classes, pieces of time, and what proves each. Raises NotFound."""
    report = get_report(scope=request.who, pk=pk)
    revision = _revision(request, report)
    found = site_month(report, revision, slug)
    context = {
        "report": report,
        "revision": revision,
        "period": period_words(report.period),
        "site": found,
        "rows": present.measured_rows(found),
        "counted": present.counted_rows(found),
        "may_see_rollouts": request.who.wide,
    }
    return django_render(request, "slas/report_site.html", context)


@require_safe
def report_export(request: ScopedRequest, pk: int, kind: str) -> HttpResponse:
    """A revision as a file; as CSV one table of it, that of the sites where none is named. Raises NotFound."""
    if kind not in FILES:
        raise NotFound("There is no such kind of file.")
    report = get_report(scope=request.who, pk=pk)
    told = _told(request, report)
    content_type, made = FILES[kind]
    table = request.GET.get("table", "")
    try:
        content = csv_of(told.paper, table) if kind == "csv" and table else made(told.paper)
    except KeyError:
        raise NotFound("There is no such table in it.") from None
    return _saved(content, content_type, f"{report.contract.slug}-{report.period}-r{told.revision.number}.{kind}")


@require_safe
def report_file(request: ScopedRequest, pk: int, number: int, slug: str, kind: str) -> HttpResponse:
    """A provider's part of a revision as a signed file. Raises NotFound, Conflict where it is not made yet."""
    report = get_report(scope=request.who, pk=pk)
    row = get_file(report, number, slug, kind)
    name = f"{report.contract.slug}-{slug}-{report.period}-r{number}.{SUFFIXES[FileKind(kind)]}"
    return _saved(file_of(row), CONTENT_TYPES[FileKind(kind)], name)


@require_safe
def report_root(request: ScopedRequest, pk: int, number: int, slug: str) -> HttpResponse:
    """The certificate of the root that vouches for the signature of a PDF file. Raises NotFound, Conflict."""
    row = get_file(get_report(scope=request.who, pk=pk), number, slug, FileKind.PDF)
    return _saved(row.root.encode(), "application/x-pem-file", "archipelago-root.pem")


@require_safe
def report_verifier(request: ScopedRequest) -> HttpResponse:
    """The verifier of evidence bundles as one file that Python runs."""
    return _saved(verifier(), "application/octet-stream", zipapp.NAME)


# ------------------------------------------------------------------------------------------------------------
def _saved(content: bytes, content_type: str, name: str) -> HttpResponse:
    """A file to be saved and never shown."""
    response = HttpResponse(content, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "private, no-store"
    return response


def _number(request: ScopedRequest) -> int | None:
    text = request.GET.get("revision", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _told(request: ScopedRequest, report: Report, *, lines: bool = True) -> Told:
    told = revision_of(report, _number(request), lines=lines)
    if told is None:
        raise NotFound("It is not made yet.")
    return told


def _lines(request: ScopedRequest, told: Told) -> dict[str, Any]:
    """A page of the sites under one promise, the worst first, of those that are searched for."""
    measures = report_lines.measures_of(told.paper)
    named = request.GET.get("promise", "")
    chosen = named if named in dict(measures) else measures[0][0] if measures else ""
    search = request.GET.get("q", "").strip()[:64]
    found = lines_of(told.revision, measure=chosen, search=search)
    page = Paginator(found, SITES_PER_PAGE).get_page(request.GET.get("page"))
    return {
        "measures": measures,
        "promise": chosen,
        "search": search,
        "places": page,
        "lines": report_lines.rows_of(page.object_list),
    }


def _revision(request: ScopedRequest, report: Report) -> ReportRevision:
    """The same without what it says, which may be of thousands of sites. It was fetched with the report."""
    number, found = _number(request), cast("Any", report).all_revisions
    revision = next((one for one in found if number in (None, one.number)), None)
    if revision is None:
        raise NotFound("There is no such revision.")
    return cast("ReportRevision", revision)


def _list(request: ScopedRequest, *, error: str = "", typed: dict[str, str] | None = None) -> HttpResponse:
    contracts = list(contracts_in(request.who))
    contract = request.GET.get("contract", "")[:64]
    found = reports_in(request.who)
    page = Paginator(found.filter(contract__slug=contract) if contract else found, PER_PAGE).get_page(
        request.GET.get("page")
    )
    verdicts = _verdicts(page.object_list)
    context = {
        "page": page,
        "rows": [present.row_of(row, verdicts[row.pk]) for row in page.object_list],
        "contracts": contracts,
        "contract": contract,
        "periods": present.suggestions(month_of(database_now(), "UTC")),
        "may_make": request.rights.may(MAKE) and bool(contracts),
        "may_schedule": request.rights.may(SCHEDULE) or not request.who.wide,
        "narrowed": request.who.narrowed,
        "error": error,
        "typed": typed or {},
        "query": request.GET.urlencode(),
    }
    status = 422 if error else 200
    if error:
        return django_render(request, "slas/reports.html", context, status=status)
    return render(request, page="slas/reports.html", fragment="slas/_reports.html", context=context)


def _verdicts(reports: Any) -> dict[int, list[str | None]]:
    """The verdicts of the newest revision of each, as far as they are the viewer's."""
    newest = {row.all_revisions[0].pk: row.pk for row in reports if row.all_revisions}
    found: dict[int, list[str | None]] = defaultdict(list)
    parts = ReportPart.objects.filter(revision__in=newest)
    names = ("promises", "restored", "synced", "latencies")
    for revision, *lists in parts.values_list("revision", *(f"data__{name}" for name in names)):
        found[newest[revision]] += [one["verdict"] for each in lists for one in each or ()]
    return found


def _page(
    request: ScopedRequest, report: Report, *, error: str = "", typed: dict[str, str] | None = None
) -> HttpResponse:
    context: dict[str, Any] = {
        "report": report,
        "period": period_words(report.period),
        "life": present.LIVES[report.state],
        "revisions": list(revisions_of(report)),
        "may_make": request.rights.may(MAKE),
        "may_decide": request.rights.may(DECIDE),
        "error": error,
        "typed": typed or {},
        "query": request.GET.urlencode(),
    }
    if context["revisions"]:
        told = _told(request, report, lines=False)
        signed = file_rows(told.parts, files_of(told.parts))
        months, trend = present.trend_rows(trend_of(report))
        context |= {
            "told": told,
            "revision": told.revision,
            "is_newest": told.revision.pk == context["revisions"][0].pk,
            "doc": present.document_of(told),
            "signed": signed,
            "checked": checked_by(signed),
            **_lines(request, told),
            "changes": present.changes_of(told),
            "counted_changes": report_lines.counted_changes([part.diff for part in told.parts]),
            "offer_changes": report_lines.offer_changes([part.diff for part in told.parts])[:50],
            "site_changes": present.site_changes_of(told)[:50],
            "months": months,
            "trend": trend if len(months) > 1 else [],
        }
    if error:
        return django_render(request, "slas/report.html", context, status=422)
    return render(request, page="slas/report.html", fragment="slas/_report.html", context=context)
