"""Reads of sites. Objects reach an edge only through these, always with the viewer's scope, which must be open."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import psycopg
from django.db import connections
from django.db.models import Prefetch, Q, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import DEFAULT, Limit, Scope, job, scope
from sites.addresses import Network, networks
from sites.agent_client import PollTarget
from sites.health import Health
from sites.models import Acknowledgement, Outage, PollerBeat, Provider, Site, SiteTenure, StateInterval
from sites.states import Life

ATTENTION_LIMIT = 200


# Access -----------------------------------------------------------------------------------------------------
def inside(limits: Iterable[Limit], *, prefix: str = "") -> Q:
    """Filter for sites within any of the limits; row-level security has already cut off foreign providers."""
    found = Q(pk__in=[])
    for limit in limits:
        part = Q()
        if limit.provider_id is not None:
            part &= Q(**{f"{prefix}provider_id": limit.provider_id})
        if limit.regions:
            part &= Q(**{f"{prefix}region__in": sorted(limit.regions)})
        if limit.labels:
            part &= Q(**{f"{prefix}labels__contains": dict(limit.labels)})
        if not part:
            return Q()
        found |= part
    return found


def sites_in(who: Scope) -> QuerySet[Site]:
    """Every site that the viewer may see, with its provider and state (no query a row)."""
    found = Site.objects.select_related("provider", "state")
    return found.filter(inside(who.limits)) if who.limited else found


def get_site(*, scope: Scope, slug: str) -> Site:
    """One site. Raises NotFound, also for one that the viewer may not see."""
    found = sites_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such site, or it is not yours to see.")
    return found


def providers_in(who: Scope) -> QuerySet[Provider]:
    """Every provider that the viewer may see; a viewer limited to regions sees those that have sites there."""
    if who.wide and who.limited:
        return Provider.objects.filter(pk__in=sites_in(who).values("provider_id"))
    return Provider.objects.all()


def get_provider(*, scope: Scope, slug: str) -> Provider:
    """One provider. Raises NotFound."""
    found = providers_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such provider, or it is not yours to see.")
    return found


def visible_site_ids(who: Scope) -> frozenset[int] | None:
    """Ids that a viewer limited by region or label may hear of; None where the live groups say it all."""
    return frozenset(sites_in(who).values_list("pk", flat=True)) if who.narrowed else None


def regions_in(who: Scope) -> list[str]:
    """Regions that have sites the viewer may see, sorted."""
    return list(sites_in(who).exclude(region="").order_by("region").values_list("region", flat=True).distinct())


def rings_in(who: Scope) -> list[str]:
    """Rings that have sites the viewer may see, sorted."""
    return list(sites_in(who).order_by("ring").values_list("ring", flat=True).distinct())


# The fleet at a glance --------------------------------------------------------------------------------------
FIGURE_NAMES = ("sites", "up", "degraded", "down", "unknown", "unreachable", "planned")


def _limited_sql(who: Scope) -> tuple[str, list[Any]]:
    """Condition on `s` (edge_sites_site) for viewers limited by region or label, with its parameters."""
    if not who.limited:
        return "true", []
    parts: list[str] = []
    values: list[Any] = []
    for limit in who.limits:
        tests = ["true"]
        if limit.provider_id is not None:
            tests.append("s.provider_id = %s")
            values.append(limit.provider_id)
        if limit.regions:
            tests.append("s.region = ANY(%s)")
            values.append(sorted(limit.regions))
        for key, value in limit.labels:
            tests.append("s.labels ->> %s = %s")
            values += [key, value]
        parts.append("(" + " AND ".join(tests) + ")")
    return "(" + " OR ".join(parts) + ")", values


def figures(who: Scope) -> dict[str, int]:
    """Counts of active sites by shown state, unreachable ones, and planned sites: FIGURE_NAMES (one query)."""
    condition, values = _limited_sql(who)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*) FILTER (WHERE s.life = 'active'),
                count(*) FILTER (WHERE s.life = 'active' AND t.shown = 'up'),
                count(*) FILTER (WHERE s.life = 'active' AND t.shown = 'degraded'),
                count(*) FILTER (WHERE s.life = 'active' AND t.shown = 'down'),
                count(*) FILTER (WHERE s.life = 'active' AND t.shown = 'unknown'),
                count(*) FILTER (WHERE s.life = 'active' AND t.reachability = 'unreachable'),
                count(*) FILTER (WHERE s.life = 'planned')
            FROM edge_sites_site s LEFT JOIN edge_sites_sitestate t ON t.site_id = s.id WHERE {condition}
            """,  # noqa: S608  (the condition is built from constants; values are bound)
            values,
        )
        return dict(zip(FIGURE_NAMES, cursor.fetchone(), strict=True))


def map_stamp(who: Scope) -> str:
    """A value that changes whenever the map's snapshot would (for its ETag)."""
    condition, values = _limited_sql(who)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*), max(t.changed_at), max(s.updated_at), count(*) FILTER (WHERE s.life = 'active')
            FROM edge_sites_site s LEFT JOIN edge_sites_sitestate t ON t.site_id = s.id WHERE {condition}
            """,  # noqa: S608
            values,
        )
        return "-".join(str(value) for value in cursor.fetchone())


MAP_COLUMNS = (
    *("id", "slug", "name", "lat", "lon", "state", "reachability", "compliance"),
    *("provider", "region", "ring", "since"),
)


def map_rows(who: Scope) -> list[tuple[Any, ...]]:
    """Every active site the viewer may see, in MAP_COLUMNS (one query); coordinates to about ten metres."""
    condition, values = _limited_sql(who)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            f"""
            SELECT s.id, s.slug, s.name, round(s.lat::numeric, 4)::float8, round(s.lon::numeric, 4)::float8, t.shown,
                t.reachability, t.compliance, s.provider_id, s.region, s.ring, extract(epoch FROM t.shown_since)::bigint
            FROM edge_sites_site s JOIN edge_sites_sitestate t ON t.site_id = s.id
            WHERE s.life = 'active' AND {condition} ORDER BY s.id
            """,  # noqa: S608
            values,
        )
        return list(cursor.fetchall())


def attention(who: Scope, *, limit: int = ATTENTION_LIMIT) -> list[Site]:
    """Sites that need somebody, worst first: down, unreachable, degraded, then by how long; with who took them."""
    open_acknowledgements = Prefetch(
        "acknowledgements", Acknowledgement.objects.filter(cleared_at=None), to_attr="open_acknowledgements"
    )
    found = (
        sites_in(who)
        .filter(life=Life.ACTIVE)
        .filter(Q(state__shown__in=["down", "degraded"]) | Q(state__reachability="unreachable"))
        .extra(
            select={
                "badness": "CASE WHEN shown = 'down' THEN 0 WHEN reachability = 'unreachable' THEN 1 ELSE 2 END",
            },
            order_by=["badness", "edge_sites_sitestate.shown_since", "edge_sites_site.id"],
        )
        .prefetch_related(open_acknowledgements)
    )
    return list(found[:limit])


def recent_changes(who: Scope, *, since: datetime, limit: int = 500) -> list[StateInterval]:
    """State intervals that began (by record) after `since`, newest first, with their sites."""
    found = (
        StateInterval.objects.filter(recorded_at__gte=since, superseded_at=None)
        .select_related("site", "site__provider")
        .order_by("-recorded_at", "-id")
    )
    if who.limited:
        found = found.filter(inside(who.limits, prefix="site__"))
    return list(found[:limit])


def failures_by_bin(
    who: Scope,
    *,
    since: datetime,
    bin_s: int,
    providers: Sequence[int] = (),
    regions: Sequence[str] = (),
    rings: Sequence[str] = (),
    text: str = "",
) -> list[tuple[int, str, int]]:
    """(bin, state, count) of beginnings of down, degraded and unreachable since then; bins are `bin_s` long, from 0.

    The rest narrows to sites of these providers, regions and rings (empty: all), and with `text` in their names.
    """
    condition, values = _limited_sql(who)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            f"""
            SELECT floor(extract(epoch FROM i.valid_from - %s) / %s)::int, i.state, count(*)
            FROM edge_sites_stateinterval i
            JOIN edge_sites_site s ON s.id = i.site_id JOIN edge_sites_provider p ON p.id = s.provider_id
            WHERE i.recorded_at >= %s AND i.valid_from >= %s AND i.superseded_at IS NULL
                AND i.state IN ('down', 'degraded', 'unreachable')
                AND (cardinality(%s::int[]) = 0 OR s.provider_id = ANY(%s::int[]))
                AND (cardinality(%s::text[]) = 0 OR s.region = ANY(%s::text[]))
                AND (cardinality(%s::text[]) = 0 OR s.ring = ANY(%s::text[]))
                AND strpos(lower(concat_ws(' ', s.name, s.slug, p.name, s.region)), lower(%s)) > 0
                AND {condition}
            GROUP BY 1, 2 ORDER BY 1, 2
            """,  # noqa: S608  (the condition is built from constants; values are bound)
            [
                *(since, bin_s, since, since),
                *(part for narrow in (providers, regions, rings) for part in (list(narrow), list(narrow))),
                *(text, *values),
            ],
        )
        return list(cursor.fetchall())


def search_sites(who: Scope, text: str, *, limit: int = 12) -> list[Site]:
    """Sites whose name, slug or place contains every word of `text`; names that begin with it come first."""
    found = sites_in(who)
    for word in text.split()[:6]:
        found = found.filter(Q(name__icontains=word) | Q(slug__icontains=word) | Q(place__icontains=word))
    rows = list(found.order_by("name", "id")[: limit * 4])
    rows.sort(key=lambda site: not site.name.lower().startswith(text.lower()))
    return rows[:limit]


# One site ---------------------------------------------------------------------------------------------------
def open_acknowledgement(site: Site) -> Acknowledgement | None:
    """Who has taken the site's trouble."""
    return site.acknowledgements.filter(cleared_at=None).first()


def tenure_of(who: Scope, site: Site) -> SiteTenure | None:
    """The tenure under which the viewer sees the site: the newest of its provider's."""
    return SiteTenure.objects.filter(site=site).order_by("-valid_from").first()


def intervals_of(site: Site, *, since: datetime, until: datetime | None = None) -> list[StateInterval]:
    """Intervals of both axes that touch the span and stand, oldest first (row-level security keeps tenures apart)."""
    found = site.intervals.filter(superseded_at=None).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    if until is not None:
        found = found.filter(valid_from__lt=until)
    return list(found.order_by("valid_from", "id"))


def outages_of(site: Site, *, since: datetime) -> list[Outage]:
    """Outages that touch the time since then, newest first."""
    found = site.outages.filter(superseded_at=None).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    return list(found.order_by("-valid_from"))


def audit_of(site: Site, *, limit: int = 50) -> list[AuditEntry]:
    """Who changed the site, newest first."""
    return list(AuditEntry.objects.filter(object_type="site", object_id=str(site.pk)).order_by("-at", "-id")[:limit])


RANGES = {"1h": 3600, "6h": 6 * 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
RESOLUTIONS = ("raw", "5m", "1h")
SAMPLE_FIGURES = (
    *("cpu_ratio", "mem_bytes", "mem_total_bytes", "disk_bytes", "disk_total_bytes", "load1"),
    *("net_rx_bytes_s", "net_tx_bytes_s", "temp_celsius", "power_watts", "rtt_ms"),
)

_RAW = """
SELECT extract(epoch FROM at)::float8, cpu_ratio, mem_bytes, mem_total_bytes, disk_bytes, disk_total_bytes, load1,
    (net_rx_bytes_total - lag(net_rx_bytes_total) OVER w) / NULLIF(extract(epoch FROM at - lag(at) OVER w), 0)::float8,
    (net_tx_bytes_total - lag(net_tx_bytes_total) OVER w) / NULLIF(extract(epoch FROM at - lag(at) OVER w), 0)::float8,
    temp_celsius, power_watts, rtt_ms
FROM sample WHERE site_id = %s AND at >= %s AND at < %s WINDOW w AS (ORDER BY at) ORDER BY at
"""

_ROLLED = """
SELECT extract(epoch FROM bucket)::float8, cpu_ratio_avg, mem_bytes_avg, mem_total_bytes, disk_bytes_avg,
    disk_total_bytes, load1_avg, net_rx_bytes_s, net_tx_bytes_s, temp_celsius_avg, power_watts_avg, rtt_ms_avg
FROM sample_{resolution} WHERE site_id = %s AND bucket >= %s AND bucket < %s ORDER BY bucket
"""


def resolution_for(seconds: float) -> str:
    """The resolution that draws a span well: raw up to 6 h, 5 minutes up to 7 d, hours beyond."""
    return "raw" if seconds <= RANGES["6h"] else "5m" if seconds <= RANGES["7d"] else "1h"


def samples_of(site: Site, *, since: datetime, until: datetime, resolution: str) -> list[list[float | None]]:
    """Columns (time in epoch seconds, then SAMPLE_FIGURES), each a list of equal length, oldest first.

    `resolution` is one of RESOLUTIONS; rolled-up figures are averages of their bucket. What is younger than the
    last closed bucket is completed from raw samples, thinned to one a bucket, so that charts reach to now.
    """
    with connections[DEFAULT].cursor() as cursor:
        rows: list[Sequence[float | None]] = []
        begin = since
        if resolution != "raw":
            cursor.execute(_ROLLED.format(resolution=resolution), [site.pk, since, until])
            rows = cursor.fetchall()
            width_s = 300 if resolution == "5m" else 3600
            if rows and rows[-1][0] is not None:
                begin = datetime.fromtimestamp(rows[-1][0] + width_s, tz=UTC)
        cursor.execute(_RAW, [site.pk, begin, until])
        raw = cursor.fetchall()
        rows = [*rows, *(raw if resolution == "raw" else _thin(raw, width_s))]
    columns: list[list[float | None]] = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(1 + len(SAMPLE_FIGURES))]


def _thin(rows: Sequence[Sequence[float | None]], width_s: int) -> list[Sequence[float | None]]:
    """The last row of each bucket."""
    last: dict[int, Sequence[float | None]] = {}
    for row in rows:
        last[int((row[0] or 0) // width_s)] = row
    return list(last.values())


# Polling ----------------------------------------------------------------------------------------------------
POLL_SCOPE = job("poller")

_TARGETS = """
SELECT s.id, s.uuid, s.provider_id, s.address, p.allowed_networks::text, c.due_at, c.backoff, t.version, t.availability,
    t.availability_since, t.reachability, t.reachability_since, t.shown, t.shown_since, t.candidate,
    t.candidate_count, t.candidate_since, t.misses, t.last_good_at, t.component_set_id, t.boot, t.reasons::text,
    t.last_error, t.busy_until, t.journal_seq
FROM edge_sites_site s
JOIN edge_sites_sitestate t ON t.site_id = s.id
JOIN edge_sites_pollschedule c ON c.site_id = s.id
JOIN edge_sites_provider p ON p.id = s.provider_id
WHERE s.id = ANY(%s::int[]) AND s.life = 'active' AND c.due_at IS NOT NULL
"""


def poll_targets(site_ids: Sequence[int]) -> list[PollTarget]:
    """What a poll needs of each site that is still active. Opens the poller's scope itself."""
    if not site_ids:
        return []
    # psycopg's own cursor, asked for binary rows, takes a third of the time that Django's takes for text.
    with scope(POLL_SCOPE), psycopg.Cursor(connections[DEFAULT].connection) as cursor:
        cursor.execute(_TARGETS, [list(site_ids)], binary=True)
        return [_target(row) for row in cursor]


def _target(row: Sequence[Any]) -> PollTarget:
    return PollTarget(
        site_id=row[0],
        uuid=row[1],
        provider_id=row[2],
        address=row[3],
        networks=_networks(row[4]),
        due_at=row[5],
        backoff=row[6],
        version=row[7],
        health=Health(*row[8:19]),
        digest=row[19],
        boot=row[20],
        reasons=_reasons(row[21]),
        last_error=row[22],
        busy=row[23] is not None,
        journal_seq=row[24],
    )


@lru_cache(maxsize=1024)
def _networks(text: str) -> tuple[Network, ...]:
    return networks(json.loads(text))


@lru_cache(maxsize=4096)
def _reasons(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def beats(*, since: datetime) -> list[PollerBeat]:
    """Pollers' beats since then, oldest first."""
    return list(PollerBeat.objects.filter(minute__gte=since).order_by("minute", "poller"))


def poll_lag_s() -> float:
    """Seconds that the most overdue site has waited for its claim; 0 when none is due."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM now() - min(next_poll_at))::float8 FROM edge_sites_pollschedule")
        row = cursor.fetchone()
    return max(0.0, row[0] or 0.0) if row else 0.0
