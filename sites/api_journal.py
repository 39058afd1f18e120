"""API operations on what sites wrote themselves, and on how they were by it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Query, Router

from agent.protocol.entries import EntryKind
from fleet.kit.api import page_of
from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from sites import schemas_journal as schemas
from sites.schemas import aware, bounds
from sites.selectors.access import get_site
from sites.selectors.journal import cursor_of, entries_in, envelope_of, envelopes_of, waiting_of, written_of
from sites.selectors.one_site import timeline_rows
from sites.states import Axis

router = Router()
INTERVALS_AT_MOST = 5_000
AxisName = Literal["availability", "reachability"]


@router.get("/sites/{slug}/journal", response=schemas.EntryPage, summary="What a site wrote")
def entries(
    request: ScopedRequest,
    slug: str,
    kind: EntryKind | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Entries in the order in which they were read, by kind and by time (our clock)."""
    site = get_site(scope=request.who, slug=slug)
    found = entries_in(site, kind=kind, since=aware(since), until=aware(until))
    return page_of(found, key="id", limit=limit, cursor=cursor, out=schemas.entry_out)


@router.get("/sites/{slug}/journal/cursor", response=schemas.CursorOut, summary="How far a site's journal was read")
def cursor_state(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """Read up to, acknowledged up to, what is wrong with it, and what the site has that was not read."""
    site = get_site(scope=request.who, slug=slug)
    row = cursor_of(site)
    return schemas.cursor_out(row, written=written_of(site), waiting=waiting_of(site, row))


@router.get("/sites/{slug}/journal/envelopes", response=schemas.EnvelopePage, summary="Signed pages of a journal")
def envelopes(request: ScopedRequest, slug: str, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Signed pages in the order in which they came, with the keys to check them by."""
    site = get_site(scope=request.who, slug=slug)
    return page_of(envelopes_of(site), key="id", limit=limit, cursor=cursor, out=schemas.envelope_out)


@router.get(
    "/sites/{slug}/journal/envelopes/{envelope}",
    response={200: dict[str, Any]},
    summary="A signed page as received",
    url_name="journal_download",
)
def download(request: ScopedRequest, slug: str, envelope: int) -> HttpResponse:
    """The DSSE envelope byte by byte as it came from the site: the evidence."""
    row = envelope_of(get_site(scope=request.who, slug=slug), envelope)
    name = f"{slug}-journal-{row.from_seq}-{row.to_seq}.dsse.json"
    return HttpResponse(
        bytes(row.body),
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"},
    )


@router.get("/sites/{slug}/timeline", response=schemas.TimelineOut, summary="How a site was")
def timeline(
    request: ScopedRequest,
    slug: str,
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
    axis: AxisName | None = None,
    superseded: bool = False,
) -> dict[str, Any]:
    """Intervals of both axes, or of one, that touch the span (the last day, unless it is given), in order of time.

    Each says by what it is known, when it was recorded, and when it fell. At most INTERVALS_AT_MOST in one answer.
    """
    site = get_site(scope=request.who, slug=slug)
    begin, end = bounds(since, until, ("from", "to"))
    rows = timeline_rows(site, since=begin, until=end, superseded=superseded, axis=axis, limit=INTERVALS_AT_MOST + 1)
    if len(rows) > INTERVALS_AT_MOST:
        raise Invalid(f"More than {INTERVALS_AT_MOST} intervals: ask for a shorter span.")
    axes = [axis] if axis else list(Axis.values)
    return {"since": begin, "until": end, "axes": [schemas.axis_out(name, rows) for name in axes]}
