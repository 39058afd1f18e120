"""API operations on sites and providers."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from django.db.models import Q, QuerySet
from ninja import Query, Router, Schema
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from sites import schemas
from sites.models import Site
from sites.selectors.access import get_provider, get_site, providers_in, sites_in
from sites.selectors.fleet_wide import figures
from sites.selectors.one_site import RESOLUTIONS, SAMPLE_FIGURES, resolution_for, samples_of
from sites.services.sites import change_life, create_site, poll_now, update_site

router = Router()
MAX_RAW_SPAN = timedelta(days=2)


class SiteFilters(Schema):
    """Filters of the list of sites; each may be left out."""

    q: str = ""
    state: str = ""
    reachability: str = ""
    provider: str = ""
    region: str = ""
    ring: str = ""
    life: str = ""


@router.get("/summary", response=schemas.SummaryOut, summary="The fleet in figures")
def summary(request: ScopedRequest) -> dict[str, int]:
    """Counts of the sites that the caller may see."""
    return figures(request.who)


@router.get("/sites", response=schemas.SitePage, summary="List sites")
def list_sites(
    request: ScopedRequest, filters: Query[SiteFilters], limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Sites in the order of their slugs, filtered. `limit` is clamped to 1..1000; `cursor` is a former `next`."""
    found = _filtered(sites_in(request.who), filters)
    return page_of(found, key="slug", limit=limit, cursor=cursor, out=schemas.site_out)


def _filtered(found: QuerySet[Site], filters: SiteFilters) -> QuerySet[Site]:
    exact = {
        "state__shown": filters.state,
        "state__reachability": filters.reachability,
        "provider__slug": filters.provider,
        "region": filters.region,
        "ring": filters.ring,
        "life": filters.life,
    }
    found = found.filter(**{name: value for name, value in exact.items() if value})
    for word in filters.q.split()[:6]:
        found = found.filter(Q(name__icontains=word) | Q(slug__icontains=word) | Q(place__icontains=word))
    return found


@router.post("/sites", response={201: schemas.SiteDetailOut}, summary="Create a site")
def create(request: ScopedRequest, body: schemas.SiteIn) -> Status[dict[str, Any]]:
    """Make a site; it is polled at once if `life` is active."""
    values = body.dict()
    life = values.pop("life")
    if life not in {"planned", "active"}:
        raise Invalid("A new site is planned or active.", details={"life": "planned or active"})
    values["provider"] = get_provider(scope=request.who, slug=values["provider"])
    site = create_site(actor=request.who, rights=request.rights, values=values, life=life)
    return Status(201, _detail(request, site.slug))


@router.get("/sites/{slug}", response=schemas.SiteDetailOut, summary="One site")
def one(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """A site with its state, components and workloads."""
    return _detail(request, slug)


@router.patch("/sites/{slug}", response=schemas.SiteDetailOut, summary="Change a site")
def change(request: ScopedRequest, slug: str, body: schemas.SiteChange) -> dict[str, Any]:
    """Change what is given, `life` included; another provider is a hand-over."""
    site = get_site(scope=request.who, slug=slug)
    values = {name: value for name, value in body.dict(exclude_unset=True).items() if value is not None}
    life = values.pop("life", None)
    if "provider" in values:
        values["provider"] = get_provider(scope=request.who, slug=values["provider"])
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights}
    if values:
        site = update_site(**common, site=site, values=values)
    if life is not None and life != site.life:
        change_life(**common, site=site, life=life)
    return _detail(request, site.slug)


@router.post("/sites/{slug}/retire", response=schemas.SiteDetailOut, summary="Retire a site")
def retire(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """End a site's life; its history stays."""
    site = get_site(scope=request.who, slug=slug)
    change_life(actor=request.who, rights=request.rights, site=site, life="retired")
    return _detail(request, slug)


@router.post("/sites/{slug}/poll", response={202: None}, summary="Poll a site now")
def poll(request: ScopedRequest, slug: str) -> Status[None]:
    """Make the site due at once."""
    site = get_site(scope=request.who, slug=slug)
    poll_now(actor=request.who, rights=request.rights, site=site)
    return Status(202, None)


class Span(Schema):
    """A span of time; without `since` the last day, without `until` to now."""

    since: datetime | None = None
    until: datetime | None = None

    def bounds(self) -> tuple[datetime, datetime]:
        """(since, until), aware. Raises Invalid when empty or too long."""
        return schemas.bounds(self.since, self.until, ("since", "until"))


@router.get("/sites/{slug}/samples", response=schemas.SamplesOut, summary="Samples of a site")
def samples(
    request: ScopedRequest, slug: str, span: Query[Span], resolution: Literal["auto", "raw", "5m", "1h"] = "auto"
) -> dict[str, Any]:
    """Resource figures over a span, raw or rolled up (`auto` takes what suits the span)."""
    site = get_site(scope=request.who, slug=slug)
    since, until = span.bounds()
    chosen = resolution_for((until - since).total_seconds()) if resolution == "auto" else resolution
    assert chosen in RESOLUTIONS
    if chosen == "raw" and until - since > MAX_RAW_SPAN:
        raise Invalid(f"raw samples come for at most {MAX_RAW_SPAN.days} days at a time")
    data = samples_of(site, since=since, until=until, resolution=chosen)
    return {"resolution": chosen, "columns": ["at", *SAMPLE_FIGURES], "data": data}


@router.get("/sites/{slug}/intervals", response=schemas.IntervalPage, summary="State intervals of a site")
def intervals(
    request: ScopedRequest,
    slug: str,
    span: Query[Span],
    axis: Literal["availability", "reachability"] | None = None,
    superseded: bool = False,
    limit: int = 100,
    cursor: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    """Intervals that touch the span, in the order of their record; superseded ones on request."""
    site = get_site(scope=request.who, slug=slug)
    since, until = span.bounds()
    found = site.intervals.filter(valid_from__lt=until).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    if axis:
        found = found.filter(axis=axis)
    if not superseded:
        found = found.filter(superseded_at=None)
    return page_of(found, key="id", limit=limit, cursor=cursor, out=schemas.interval_out)


@router.get("/providers", response=schemas.ProviderPage, summary="List providers")
def providers(request: ScopedRequest, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Providers that the caller may see."""
    return page_of(
        providers_in(request.who),
        key="slug",
        limit=limit,
        cursor=cursor,
        out=schemas.provider_out,
    )


def _detail(request: ScopedRequest, slug: str) -> dict[str, Any]:
    found = sites_in(request.who).select_related("state__component_set").filter(slug=slug)
    site = found.first()
    return schemas.site_detail_out(site or get_site(scope=request.who, slug=slug))
