"""Round trips of polls under a contract, from what is kept of each day, as known at a moment; the scope must be open.

A day counts once it is over, under the segment that the site was under last on that day. Its round trips are counted
exactly (`LatencyDay`), so any percentile is: the least round trip that at least so many of a hundred polls kept to.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from slas.engine import Verdict
from slas.measuring import reached
from slas.models import Contract, Segment
from slas.periods import days_between
from slas.selectors.contracts import Covered, covered, terms_of, version_as_of
from slas.states import Measure
from slas.terms import PERCENTILES, Hours, Objective

# Each day of a site once: under the place that it was at last. Then all of a site's days, and of all sites, as one.
_DAYS: Final = """
WITH places AS MATERIALIZED (
    SELECT * FROM unnest(%(sites)s::int[], %(begins)s::timestamptz[], %(ends)s::timestamptz[], %(own)s::bool[])
        AS p(site_id, begins, ends, own)
),
days AS MATERIALIZED (
    SELECT d.site_id, d.rtt_ms, d.counts, d.seen_ms, d.scheduled_ms
    FROM places p JOIN slas_latencyday d ON d.site_id = p.site_id
        AND d.hours = %(hours)s AND d.provider_id = %(provider)s AND d.begins < p.ends AND d.ends > p.begins
    WHERE p.own AND d.begins >= %(begin)s AND d.ends <= %(end)s AND d.recorded_at <= %(as_of)s AND NOT EXISTS (
        SELECT FROM places q WHERE q.site_id = p.site_id AND q.begins > p.begins AND q.begins < d.ends
    )
),
known AS (
    SELECT COALESCE(site_id, 0) AS key, site_id, count(*) AS days, sum(seen_ms)::int8 AS seen,
        sum(scheduled_ms)::int8 AS scheduled
    FROM days GROUP BY GROUPING SETS ((site_id), ())
),
spread AS MATERIALIZED (
    SELECT site_id, t.rtt, sum(t.n)::int8 AS n
    FROM days CROSS JOIN LATERAL unnest(days.rtt_ms, days.counts) AS t(rtt, n)
    GROUP BY 1, 2
),
merged AS (
    SELECT site_id, rtt, n FROM spread UNION ALL SELECT NULL, rtt, sum(n) FROM spread GROUP BY rtt
),
running AS (
    SELECT site_id, rtt, sum(n) OVER (PARTITION BY site_id ORDER BY rtt) AS upto,
        sum(n) OVER (PARTITION BY site_id) AS polls
    FROM merged
),
figures AS (
    SELECT COALESCE(site_id, 0) AS key, max(polls)::int8 AS polls,
        min(rtt) FILTER (WHERE upto * 100 >= polls * 50) AS p50,
        min(rtt) FILTER (WHERE upto * 100 >= polls * 90) AS p90,
        min(rtt) FILTER (WHERE upto * 100 >= polls * 95) AS p95,
        min(rtt) FILTER (WHERE upto * 100 >= polls * 99) AS p99
    FROM running GROUP BY site_id
)
SELECT k.site_id, k.days, COALESCE(k.seen, 0), COALESCE(k.scheduled, 0), COALESCE(f.polls, 0),
    f.p50, f.p90, f.p95, f.p99
FROM known k LEFT JOIN figures f USING (key)
"""


@dataclass(frozen=True, slots=True)
class Trips:
    """Round trips of a site, or of all: at PERCENTILES, None where there was no poll; on how many days of how much
    service time, and in how much of it polls were answered."""

    days: int
    seen_ms: int
    scheduled_ms: int
    polls: int
    rtt_ms: tuple[int | None, ...]

    def at(self, objective: Objective) -> int | None:
        """The figure of an objective, in milliseconds."""
        assert objective.percentile is not None
        return self.rtt_ms[PERCENTILES.index(objective.percentile)]


NONE: Final = Trips(0, 0, 0, 0, (None,) * len(PERCENTILES))


@dataclass(frozen=True, slots=True)
class Delayed:
    """An objective under one segment: its sites, each with the days of it that are over; all of them together."""

    segment_id: int
    objective: Objective
    sites: Sequence[tuple[Covered, Trips, int]]
    total: Trips
    days: int
    verdict: Verdict | None


def latency_of(contract: Contract, begin: datetime, end: datetime, as_of: datetime) -> list[Delayed]:
    """Each objective of latency over `[begin, end)` as known at `as_of`.

    Raises NotFound where nothing was agreed then.
    """
    version = version_as_of(contract, as_of)
    providers = {segment.pk: segment.provider_id for segment in version.segments.all()}
    promised = [
        (segment, objective, hours_key(version.zone, terms.hours))
        for segment in version.segments.all()
        for terms in [terms_of(segment)]
        for objective in terms.objectives
        if objective.measure is Measure.LATENCY
    ]
    until = min(end, as_of)
    if not promised or until <= begin:
        return []
    places, days = covered(version, begin, until), days_between(begin, until, version.zone)
    found = []
    for segment, objective, hours in promised:
        own = _places_of(segment, places, providers)
        params = {"provider": segment.provider_id, "hours": hours, "begin": begin, "end": until, "as_of": as_of}
        found.append(_found(segment, objective, own, days, _trips(own, segment, params)))
    return found


def judged(objective: Objective, figure: int | None) -> Verdict | None:
    """Whether a round trip keeps to the limit; None where there was no poll."""
    assert objective.limit is not None
    if figure is None:
        return None
    return Verdict.MET if figure <= objective.limit else Verdict.MISSED


def hours_key(zone: str, hours: Hours | None) -> str:
    """Which part of which days counts: the days of a zone, and the service hours within them."""
    if hours is None:
        return sha256(zone.encode()).hexdigest()[:32]
    value: Any = [zone, hours.zone, hours.weekly, hours.country, hours.subdivision, sorted(map(str, hours.closed))]
    return sha256(json.dumps(value).encode()).hexdigest()[:32]


# ------------------------------------------------------------------------------------------------------------
def _places_of(segment: Segment, places: Iterable[Covered], providers: Mapping[int, int]) -> dict[int, list[Covered]]:
    """By site, where it was at its provider, in order: of those that were under the segment at all."""
    found: dict[int, list[Covered]] = defaultdict(list)
    for place in places:
        if providers[place.segment_id] == segment.provider_id:
            found[place.site_id].append(place)
    return {site: own for site, own in found.items() if any(place.segment_id == segment.pk for place in own)}


def _found(
    segment: Segment,
    objective: Objective,
    places: Mapping[int, Sequence[Covered]],
    days: Sequence[tuple[datetime, datetime]],
    trips: Mapping[int | None, Trips],
) -> Delayed:
    sites = [
        (
            [place for place in own if place.segment_id == segment.pk][-1],
            trips.get(site, NONE),
            sum(_last(own, *day) == segment.pk for day in days),
        )
        for site, own in places.items()
    ]
    total = trips.get(None, NONE)
    verdicts = [judged(objective, one.at(objective)) for _, one, _ in sites]
    verdict = reached(objective, judged(objective, total.at(objective)), verdicts)
    return Delayed(segment.pk, objective, sites, total, sum(due for _, _, due in sites), verdict)


def _last(places: Sequence[Covered], begins: datetime, ends: datetime) -> int | None:
    """The segment that a site was under last on a day."""
    touched = [place for place in places if place.begin < ends and place.end > begins]
    return touched[-1].segment_id if touched else None


def _trips(
    places: Mapping[int, Sequence[Covered]], segment: Segment, params: Mapping[str, Any]
) -> dict[int | None, Trips]:
    listed = [place for own in places.values() for place in own]
    asked: dict[str, Any] = {
        "sites": [one.site_id for one in listed],
        "begins": [one.begin for one in listed],
        "ends": [one.end for one in listed],
        "own": [one.segment_id == segment.pk for one in listed],
    }
    with connections[DEFAULT].cursor() as cursor:
        # Until the transaction ends: a month of thousands of sites is millions of round trips to add up.
        cursor.execute("SELECT set_config('work_mem', '64MB', true)")
        cursor.execute(_DAYS, {**params, **asked})
        return {
            site: Trips(days, seen, scheduled, polls, tuple(rtt))
            for site, days, seen, scheduled, polls, *rtt in cursor.fetchall()
        }
