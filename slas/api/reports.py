"""API operations on reports."""

from typing import Any

from django.http import HttpResponse
from ninja import Router
from ninja.responses import Status

from fleet.kit.api import LIMIT_MAX, page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.exports.files import CONTENT_TYPES, file_of
from slas.exports.zipapp import verifier
from slas.schemas import reports as schemas
from slas.selectors.contracts import get_contract
from slas.selectors.report_files import files_of, get_file
from slas.selectors.reports import Told, get_report, lines_of, reports_in, revision_of, revisions_of
from slas.services import reports
from slas.states import FileKind

router = Router()


@router.get("/reports", response=schemas.ReportPage, summary="List reports")
def list_reports(
    request: ScopedRequest, contract: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first; of a contract where one is named."""
    found = reports_in(request.who)
    if contract:
        found = found.filter(contract__slug=contract)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.report_out)


@router.post("/reports", response={202: schemas.ReportOut}, summary="Have a report made")
@idempotent
def make_report(request: ScopedRequest, body: schemas.ReportIn) -> Status[dict[str, Any]]:
    """Have it made, or made anew; ask for it until `making` is false. Heeds Idempotency-Key."""
    contract = get_contract(scope=request.who, slug=body.contract)
    made = reports.ask_for_report(actor=request.who, rights=request.rights, contract=contract, period=body.period)
    return Status(202, schemas.report_out(get_report(scope=request.who, pk=made.pk)))


@router.get("/reports/verifier", summary="The verifier of evidence bundles")
def report_verifier(request: ScopedRequest) -> HttpResponse:
    """`slas-verify.pyz`, which Python runs; it needs `tzdata`, and `cryptography` for the signature."""
    return _saved(verifier(), "application/octet-stream")


@router.get("/reports/{report}", response=schemas.ReportOut, summary="One report")
def one_report(request: ScopedRequest, report: int) -> dict[str, Any]:
    """Where it stands."""
    return schemas.report_out(get_report(scope=request.who, pk=report))


@router.get("/reports/{report}/revisions", response=schemas.RevisionPage, summary="Revisions of a report")
def list_report_revisions(
    request: ScopedRequest, report: int, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first: when, for whom, as of when."""
    found = revisions_of(get_report(scope=request.who, pk=report))
    return page_of(found, key="-number", limit=limit, cursor=cursor, out=schemas.revision_out)


@router.get(
    "/reports/{report}/revisions/{number}",
    response=schemas.RevisionDetailOut,
    summary="What a revision of a report says",
)
def one_report_revision(request: ScopedRequest, report: int, number: int) -> dict[str, Any]:
    """All of it but its sites, and where its signed files stand; a provider reads its own part."""
    told = _told(request, report, number)
    return schemas.revision_detail(told, files_of(told.parts))


@router.get("/reports/{report}/revisions/{number}/diff", response=schemas.DiffOut, summary="What a revision changed")
def diff_report_revision(request: ScopedRequest, report: int, number: int) -> dict[str, Any]:
    """Milliseconds by class and site, figures, verdicts, credits, and what brought it."""
    told = _told(request, report, number)
    parts = {part.provider.slug: part.diff for part in told.parts}
    return {"number": told.revision.number, "causes": told.causes, "parts": parts}


@router.get("/reports/{report}/revisions/{number}/sites", response=schemas.PlacePage, summary="Sites of a revision")
def list_report_sites(
    request: ScopedRequest,
    report: int,
    number: int,
    measure: str = "",
    search: str = "",
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """A line a site and objective, or a site and standard, the worst first; of a measure, or of sites whose name holds
    a text, where that is named."""
    revision = _told(request, report, number).revision
    found = lines_of(revision, measure=measure, search=search[:64])
    if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise Invalid("This cursor is not one of ours.", details={"cursor": "take it from `next`"})
    first, size = int(cursor or 0), min(max(limit, 1), LIMIT_MAX)
    items = list(found.values_list("data", flat=True)[first : first + size + 1])
    return {"items": items[:size], "next": str(first + size) if len(items) > size else None}


@router.get("/reports/{report}/revisions/{number}/files/{provider}/{kind}", summary="A signed file of a revision")
def report_file(request: ScopedRequest, report: int, number: int, provider: str, kind: str) -> HttpResponse:
    """A provider's part as `pdf` or `bundle`: its bytes. 409 while it is not made, saying why."""
    row = get_file(get_report(scope=request.who, pk=report), number, provider, kind)
    return _saved(file_of(row), CONTENT_TYPES[FileKind(kind)])


@router.post("/reports/{report}/decide", response={202: schemas.ReportOut}, summary="Decide on a figure")
@dangerous("report.decide")
def decide_report(request: ScopedRequest, report: int, body: schemas.FigureIn) -> Status[dict[str, Any]]:
    """Settle what the facts leave open, with a reason; the report is made anew with it. 409 where nothing is open."""
    row = get_report(scope=request.who, pk=report)
    reports.decide_figure(actor=request.who, rights=request.rights, report=row, **body.dict())
    return Status(202, schemas.report_out(get_report(scope=request.who, pk=report)))


def _saved(content: bytes, content_type: str) -> HttpResponse:
    response = HttpResponse(content, content_type=content_type)
    response["Content-Disposition"] = "attachment"
    response["Cache-Control"] = "private, no-store"
    return response


def _told(request: ScopedRequest, pk: int, number: int) -> Told:
    told = revision_of(get_report(scope=request.who, pk=pk), max(number, 0), lines=False)
    assert told is not None  # a number was named
    return told
