"""Compliance as a viewer may see it: figures, components, spread, sites, history; the scope must be open.

What is counted was judged before (see services.judging); here it is only read, set by set.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from django.db import connections
from django.db.models import Q, QuerySet

from fleet.kit.tenancy import DEFAULT, Scope
from fleet.standards.models import SiteCompliance
from fleet.standards.selectors.standards import rings_in, standards_in
from sites.models import Site
from sites.selectors.access import inside, limited_sql, providers_in

STATES = ("conform", "drift", "unknown", "none")
SPANS: dict[str, tuple[timedelta, int]] = {
    "24h": (timedelta(hours=24), 600),
    "7d": (timedelta(days=7), 3600),
    "30d": (timedelta(days=30), 4 * 3600),
    "90d": (timedelta(days=90), 12 * 3600),
}
Group = Literal["ring", "provider", "standard"]
_GROUPS = {"ring": "c.ring_id", "provider": "c.provider_id", "standard": "c.standard_id"}
COUNTED = ("sites", *STATES)
_COUNTS = """count(*), count(*) FILTER (WHERE c.state = 'conform'), count(*) FILTER (WHERE c.state = 'drift'),
    count(*) FILTER (WHERE c.state = 'unknown' AND c.standard_id IS NOT NULL),
    count(*) FILTER (WHERE c.standard_id IS NULL)"""
_FROM = "FROM standards_sitecompliance c JOIN edge_sites_site s ON s.id = c.site_id"


@dataclass(frozen=True, slots=True)
class Narrow:
    """What is looked at; empty parts narrow nothing. Ids, and names of regions."""

    providers: tuple[int, ...] = ()
    rings: tuple[int, ...] = ()
    standards: tuple[int, ...] = ()
    regions: tuple[str, ...] = ()

    def sql(self, who: Scope, alias: str = "c") -> tuple[str, list[Any]]:
        """Condition on `c` (or another alias) and `s`, with its parameters: this, and what the viewer may see."""
        limited, values = limited_sql(who)
        tests = [limited]
        for column, chosen in (
            (f"{alias}.provider_id", self.providers),
            ("s.id IN (SELECT site_id FROM standards_sitecompliance r WHERE r.ring_id", self.rings),
            (f"{alias}.standard_id", self.standards),
            ("s.region", self.regions),
        ):
            if chosen:
                tests.append(f"{column} = ANY(%s){')' if '(SELECT' in column else ''}")
                values.append(list(chosen))
        return " AND ".join(tests), values


EVERYTHING = Narrow()
_NOBODY = (-1,)


def narrowed(who: Scope, *, provider: str = "", ring: str = "", standard: str = "", region: str = "") -> Narrow:
    """What these names narrow to ("" for all); a name that the viewer does not know finds nothing."""

    def ids(found: QuerySet[Any], name: str) -> tuple[int, ...]:
        return (tuple(found.values_list("pk", flat=True)) or _NOBODY) if name else ()

    return Narrow(
        providers=ids(providers_in(who).filter(slug=provider), provider),
        rings=ids(rings_in(who).filter(slug=ring), ring),
        standards=ids(standards_in(who).filter(name=standard), standard),
        regions=(region,) if region else (),
    )


def counts(who: Scope, narrow: Narrow = EVERYTHING) -> dict[str, int]:
    """Active sites by state: COUNTED. `unknown` follow a standard and are out of reach; `none` follow none."""
    condition, values = narrow.sql(who)
    (row,) = _rows(f"SELECT {_COUNTS} {_FROM} WHERE {condition}", values)
    return dict(zip(COUNTED, row, strict=True))


def counts_by(who: Scope, group: Group, narrow: Narrow = EVERYTHING) -> dict[int | None, dict[str, int]]:
    """The same by the id of the ring, provider or standard (None: without)."""
    condition, values = narrow.sql(who)
    column = _GROUPS[group]
    found = _rows(
        f"SELECT {column}, {_COUNTS} {_FROM} WHERE {condition} GROUP BY 1 ORDER BY 1",
        values,
    )
    return {key: dict(zip(COUNTED, numbers, strict=True)) for key, *numbers in found}


@dataclass(frozen=True, slots=True)
class Drifting:
    """One difference, and how many sites have it; `oldest` is since when the first of them has."""

    kind: str
    name: str
    verb: str
    want: dict[str, Any] | None
    have: dict[str, Any] | None
    sites: int
    oldest: datetime | None


def drift_by_component(who: Scope, narrow: Narrow = EVERYTHING, *, limit: int = 100) -> list[Drifting]:
    """Differences of sites in drift, those of most sites first."""
    condition, values = narrow.sql(who)
    found = _rows(
        f"""
        SELECT d ->> 'kind', d ->> 'name', d ->> 'verb', d ->> 'want', d ->> 'have',
            count(DISTINCT c.site_id),
            min((c.began ->> ((d ->> 'kind') || '/' || (d ->> 'name')))::timestamptz)
        {_FROM}, jsonb_array_elements(c.differences) d
        WHERE c.state = 'drift' AND {condition}
        GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 1, 2, 3, 4, 5 LIMIT %s
        """,
        [*values, limit],
    )
    return [
        Drifting(kind, name, verb, json.loads(want or "null"), json.loads(have or "null"), sites, oldest)
        for kind, name, verb, want, have, sites, oldest in found
    ]


@dataclass(frozen=True, slots=True)
class InUse:
    """One version of a component, on how many active sites it was last reported."""

    kind: str
    name: str
    version: str | None
    digest: str | None
    sites: int


def spread(who: Scope, narrow: Narrow = EVERYTHING, *, kind: str = "", name: str = "", limit: int = 500) -> list[InUse]:
    """Every version in use, by kind and name, the most used first; counted over distinct sets of components."""
    condition, values = narrow.sql(who)
    found = _rows(
        f"""
        WITH used AS (
            SELECT t.component_set_id, count(*) AS sites
            {_FROM} JOIN edge_sites_sitestate t ON t.site_id = s.id
            WHERE t.component_set_id IS NOT NULL AND {condition} GROUP BY 1
        )
        SELECT x ->> 0, x ->> 1, x ->> 2, x ->> 3, sum(u.sites)::int
        FROM used u JOIN edge_sites_componentset e ON e.digest = u.component_set_id,
            jsonb_array_elements(e.components) x
        WHERE (%s = '' OR x ->> 0 = %s) AND (%s = '' OR x ->> 1 = %s)
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 5 DESC, 3, 4 LIMIT %s
        """,  # noqa: S608
        [*values, kind, kind, name, name, limit],
    )
    return [InUse(*row) for row in found]


@dataclass(frozen=True, slots=True)
class Series:
    """How many sites were what, at moments from `since` on, `step_s` apart."""

    since: datetime
    step_s: int
    states: dict[str, list[int]] = field(default_factory=dict)

    def ratios(self) -> list[float | None]:
        """Share of conforming ones among those that followed a standard; None where there were none."""
        columns = zip(*(self.states[name] for name in ("conform", "drift", "unknown")), strict=True)
        return [conform / total if (total := conform + drift + dark) else None for conform, drift, dark in columns]


def over_time(who: Scope, narrow: Narrow = EVERYTHING, *, until: datetime, span: str = "7d") -> Series:
    """Sites that were conform, in drift and unknown at moments of the span that ends at `until`, from the facts.

    Providers' sites are those of then. A moment at which nothing was judged yet counts nobody.
    """
    length, step_s = SPANS[span]
    last = int(until.timestamp()) // step_s * step_s
    since = datetime.fromtimestamp(last, tz=until.tzinfo) - length
    bins = int(length.total_seconds()) // step_s + 1
    condition, values = narrow.sql(who, alias="i")
    found = _rows(
        f"""
        WITH chosen AS (
            SELECT i.state, i.valid_from, i.valid_to
            FROM standards_complianceinterval i JOIN edge_sites_site s ON s.id = i.site_id
            WHERE i.superseded_at IS NULL AND i.standard_id IS NOT NULL AND i.valid_from <= %s
                AND (i.valid_to IS NULL OR i.valid_to > %s) AND {condition}
        )
        SELECT bin, state, sum(step)::int FROM (
            SELECT state, GREATEST(0, ceil(extract(epoch FROM valid_from - %s) / %s))::int AS bin, 1 AS step FROM chosen
            UNION ALL
            SELECT state, ceil(extract(epoch FROM valid_to - %s) / %s)::int, -1 FROM chosen WHERE valid_to IS NOT NULL
        ) AS steps GROUP BY 1, 2
        """,  # noqa: S608
        [until, since, *values, since, step_s, since, step_s],
    )
    states = {name: [0] * bins for name in ("conform", "drift", "unknown")}
    for number, state, step in found:
        if number < bins:
            states[state][number] += step
    for column in states.values():
        for number in range(1, bins):
            column[number] += column[number - 1]
    return Series(since, step_s, states)


def sites_of(who: Scope, narrow: Narrow = EVERYTHING) -> QuerySet[SiteCompliance]:
    """How each active site that the viewer may see compares, with site, provider, state, ring and standard."""
    found = SiteCompliance.objects.select_related("site", "site__provider", "site__state", "ring", "standard")
    if who.limited:
        found = found.filter(inside(who.limits, prefix="site__"))
    for name, chosen in (
        ("provider_id", narrow.providers),
        ("ring_id", narrow.rings),
        ("standard_id", narrow.standards),
        ("site__region", narrow.regions),
    ):
        if chosen:
            found = found.filter(**{f"{name}__in": chosen})
    return found


def in_state(found: QuerySet[SiteCompliance], state: str) -> QuerySet[SiteCompliance]:
    """Those in one of STATES; all for another word."""
    if state == "none":
        return found.filter(standard=None)
    if state in STATES:
        return found.filter(state=state, standard__isnull=False)
    return found


def with_component(
    found: QuerySet[SiteCompliance], *, kind: str, name: str, version: str | None = None
) -> QuerySet[SiteCompliance]:
    """Those of which this component differs; `version` is what they have in its place ("" for nothing)."""
    wanted: dict[str, Any] = {"kind": kind, "name": name}
    missing = Q(differences__contains=[{**wanted, "have": None}])
    if version is None:
        return found.filter(differences__contains=[wanted])
    if not version:
        return found.filter(missing)
    return found.filter(
        Q(differences__contains=[{**wanted, "have": {"version": version}}])
        | Q(differences__contains=[{**wanted, "have": {"state": version}}])
    )


def compliance_of(site: Site) -> SiteCompliance | None:
    """How a site that get_site() handed out compares; None while it was never judged."""
    return SiteCompliance.objects.filter(site=site).select_related("ring", "standard", "site__state").first()


def _rows(query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
