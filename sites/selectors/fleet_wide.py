"""The fleet at a glance: figures, the map, what needs attention, what changed, search; the scope must be open."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Prefetch, Q
from django.db.models.functions import Abs

from fleet.kit.tenancy import DEFAULT, Scope
from sites.models import Acknowledgement, Site, StateInterval
from sites.selectors.access import inside, limited_sql, sites_in
from sites.states import Life

CLOCK_ALARM_MS = 300_000
ATTENTION_LIMIT = 200
FIGURE_NAMES = ("sites", "up", "degraded", "down", "unknown", "unreachable", "planned")


def figures(who: Scope) -> dict[str, int]:
    """Counts of active sites by shown state, unreachable ones, and planned sites: FIGURE_NAMES (one query)."""
    condition, values = limited_sql(who)
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
    condition, values = limited_sql(who)
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
    condition, values = limited_sql(who)
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


def wrong_clocks(who: Scope, *, limit: int = ATTENTION_LIMIT) -> list[Site]:
    """Active sites that answer with a clock off by CLOCK_ALARM_MS or more, the worst first: so far off, documents and
    certificates expire early or late, and a site may refuse everything.
    """
    found = sites_in(who).filter(life=Life.ACTIVE, state__reachability="reachable")
    found = found.annotate(off_ms=Abs("state__clock_offset_ms")).filter(off_ms__gte=CLOCK_ALARM_MS)
    return list(found.order_by("-off_ms", "pk")[:limit])


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
    condition, values = limited_sql(who)
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
