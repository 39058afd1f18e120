"""What the API takes and gives, for sites and providers."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from django.utils import timezone
from ninja import Field, Schema

from fleet.kit.errors import Invalid
from sites.models import Provider, Site, StateInterval

MAX_SPAN = timedelta(days=400)


def aware(at: datetime | None) -> datetime | None:
    """A moment as given; without a zone it is meant in that of the installation."""
    return at if at is None or at.tzinfo else at.replace(tzinfo=timezone.get_default_timezone())


def bounds(since: datetime | None, until: datetime | None, names: tuple[str, str]) -> tuple[datetime, datetime]:
    """(since, until), aware: to now and the last day unless given. Raises Invalid when empty or too long."""
    end = aware(until) or timezone.now()
    try:
        begin = aware(since) or end - timedelta(days=1)
    except OverflowError:  # a day before the first day there is
        begin = end
    if begin >= end or end - begin > MAX_SPAN:
        raise Invalid(f"{names[0]} lies before {names[1]}, by at most {MAX_SPAN.days} days")
    return begin, end


class ProviderOut(Schema):
    """A provider."""

    slug: str
    name: str


class SiteOut(Schema):
    """A site and its present state; `since` is when that state began."""

    slug: str
    uuid: str
    name: str
    provider: str
    place: str
    country: str
    time_zone: str
    lat: float
    lon: float
    region: str
    ring: str
    labels: dict[str, str]
    life: str
    state: str
    reachability: str
    compliance: str
    since: datetime | None
    last_report_at: datetime | None
    last_error: str
    components_digest: str | None


class ComponentOut(Schema):
    """One thing with a version on a site."""

    kind: str
    name: str
    version: str | None
    digest: str | None


class SiteDetailOut(SiteOut):
    """A site with all that its page shows."""

    address: str
    poll_interval_s: int
    contacts: str
    notes: str
    reasons: list[str]
    components: list[ComponentOut]
    workloads: list[dict[str, Any]]
    cpu_ratio: float | None
    mem_ratio: float | None
    disk_ratio: float | None
    temp_celsius: float | None
    rtt_ms: int | None
    clock_offset_ms: int | None


class SiteIn(Schema):
    """A new site. `provider` is a slug; `life` is planned or active."""

    slug: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=120)]
    provider: str
    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    address: Annotated[str, Field(max_length=255)]
    place: str = ""
    country: str = ""
    time_zone: str = "UTC"
    region: str = ""
    ring: str = "stable"
    labels: dict[str, str] = {}
    poll_interval_s: Annotated[int, Field(ge=1, le=3600)] = 30
    contacts: str = ""
    notes: str = ""
    life: str = "planned"


class SiteChange(Schema):
    """Fields to change; what is left out stays."""

    slug: str | None = None
    name: str | None = None
    provider: str | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None
    address: str | None = None
    place: str | None = None
    country: str | None = None
    time_zone: str | None = None
    region: str | None = None
    ring: str | None = None
    labels: dict[str, str] | None = None
    poll_interval_s: Annotated[int, Field(ge=1, le=3600)] | None = None
    contacts: str | None = None
    notes: str | None = None
    life: str | None = None


class IntervalOut(Schema):
    """A state of one axis over `[valid_from, valid_to)`; `valid_to` is null while it lasts."""

    axis: str
    state: str
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    closed_at: datetime | None
    superseded_at: datetime | None
    source: str
    evidence: dict[str, Any]


class SamplesOut(Schema):
    """Figures over time: `columns` names the lists in `data`, all of equal length, oldest first; times are epoch s."""

    resolution: str
    columns: list[str]
    data: list[list[float | None]]


class SummaryOut(Schema):
    """Counts of active sites by shown state, unreachable ones among them, and of planned sites."""

    sites: int
    up: int
    degraded: int
    down: int
    unknown: int
    unreachable: int
    planned: int


class SitePage(Schema):
    """A page of sites; `next` is the cursor of the next one, or null."""

    items: list[SiteOut]
    next: str | None


class ProviderPage(Schema):
    """A page of providers."""

    items: list[ProviderOut]
    next: str | None


class IntervalPage(Schema):
    """A page of intervals."""

    items: list[IntervalOut]
    next: str | None


def provider_out(row: Provider) -> dict[str, Any]:
    """A provider as the API shows it."""
    return {"slug": row.slug, "name": row.name}


def site_out(row: Site) -> dict[str, Any]:
    """A site as lists show it. A planned site has no state yet: unknown, since null."""
    state = getattr(row, "state", None)
    return {
        **{name: getattr(row, name) for name in ("slug", "name", "place", "country", "time_zone", "lat", "lon")},
        **{name: getattr(row, name) for name in ("region", "ring", "labels", "life")},
        "uuid": str(row.uuid),
        "provider": row.provider.slug,
        "state": state.shown if state else "unknown",
        "reachability": state.reachability if state else "",
        "compliance": state.compliance if state else "unknown",
        "since": state.shown_since if state else None,
        "last_report_at": state.last_good_at if state else None,
        "last_error": state.last_error if state else "",
        "components_digest": state.component_set_id if state else None,
    }


_LATEST = ("cpu_ratio", "mem_ratio", "disk_ratio", "temp_celsius", "rtt_ms", "clock_offset_ms")


def site_detail_out(row: Site) -> dict[str, Any]:
    """A site as its own page shows it."""
    state = getattr(row, "state", None)
    component_set = state.component_set if state else None
    return {
        **site_out(row),
        **{name: getattr(row, name) for name in ("address", "poll_interval_s", "contacts", "notes")},
        **{name: getattr(state, name, None) for name in _LATEST},
        "reasons": state.reasons if state else [],
        "workloads": state.workloads if state else [],
        "components": [
            dict(zip(("kind", "name", "version", "digest"), component, strict=True))
            for component in (component_set.components if component_set else [])
        ],
    }


def interval_out(row: StateInterval) -> dict[str, Any]:
    """An interval as the API shows it."""
    return {name: getattr(row, name) for name in IntervalOut.model_fields}
