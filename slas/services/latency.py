"""Counting round trips day by day, while the samples are kept: reports never read polls again.

A pass takes so many sites' days that are over and not counted yet, the newest first; a day without a single poll is
counted too. What stopped half-way is gone on with by the next pass.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connections

from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from sites.models import SiteTenure
from slas.calendars import open_spans
from slas.models import Contract, ContractVersion, LatencyDay, Segment
from slas.periods import days_between
from slas.selectors.contracts import covered, terms_of, versions_of
from slas.selectors.figures import active_of
from slas.selectors.latency import hours_key
from slas.spans import Spans, length, meet
from slas.states import Measure
from slas.terms import Hours, calendar_of
from slas.upkeep import moment_of, ms

COUNTER: Final = job("latency")
MOST: Final = 2_000
# Answers are written up to some seconds after they came.
SETTLE: Final = timedelta(minutes=5)
_LOCK: Final = 0x534C_4C54
# Polls within service hours. A step in which any was answered is seen: five minutes, or longer where polls are rarer.
_COUNT: Final = """
WITH asked AS MATERIALIZED (
    SELECT o.*, GREATEST(300, i.poll_interval_s) AS step
    FROM unnest(%(sites)s::int[], %(begins)s::timestamptz[], %(ends)s::timestamptz[]) AS o(site_id, begins, ends)
    JOIN edge_sites_site i ON i.id = o.site_id
),
polls AS MATERIALIZED (
    SELECT o.site_id, o.step, s.rtt_ms, date_bin(make_interval(secs => o.step), s.at, 'epoch') AS bin, count(*) AS n
    FROM asked o JOIN sample s ON s.site_id = o.site_id AND s.at >= o.begins AND s.at < o.ends
    WHERE s.provider_id = %(provider)s AND s.rtt_ms IS NOT NULL AND s.at >= %(begin)s AND s.at < %(end)s
    GROUP BY 1, 2, 3, 4
)
SELECT site_id, sum(n)::int, array_agg(rtt_ms ORDER BY rtt_ms), array_agg(n ORDER BY rtt_ms), max(seen)
FROM (
    SELECT p.site_id, p.rtt_ms, sum(p.n)::int AS n, max(s.seen) AS seen
    FROM polls p JOIN (
        SELECT site_id, count(DISTINCT bin) * max(step) * 1000 AS seen FROM polls GROUP BY 1
    ) s USING (site_id)
    GROUP BY 1, 2
) x GROUP BY 1
"""
Day = tuple[datetime, datetime]


def count_latency(most: int = MOST) -> int:
    """Count the next days of sites, at most so many; returns how many were. Opens its own scope.

    One pass at a time: while another works this returns 0.
    """
    with scope(COUNTER), connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        now, done = database_now(), 0
        for segment, hours, key, day in _promised(now):
            done += _count_day(segment, hours, key, day, now, most - done)
            if done >= most:
                break
    return done


# ------------------------------------------------------------------------------------------------------------
def _promised(now: datetime) -> Iterator[tuple[Segment, Hours | None, str, Day]]:
    """Each segment that promises latency with each day that is over and whose samples are all kept."""
    kept = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=settings.RAW_SAMPLE_DAYS)
    found: list[tuple[Segment, Hours | None, str, Day]] = []
    for contract in Contract.objects.all():
        version: ContractVersion | None = versions_of(contract).first()
        for segment in version.segments.all() if version else ():
            terms = terms_of(segment)
            if version is None or not any(one.measure is Measure.LATENCY for one in terms.objectives):
                continue
            days = [day for day in days_between(kept, now - SETTLE, version.zone) if segment.touches(*day)]
            segment.version = version
            found += [(segment, terms.hours, hours_key(version.zone, terms.hours), day) for day in days]
    yield from sorted(found, key=lambda one: one[3], reverse=True)


def _count_day(segment: Segment, hours: Hours | None, key: str, day: Day, now: datetime, most: int) -> int:
    provider = segment.provider_id
    counted = LatencyDay.objects.filter(hours=key, begins=day[0], provider=provider)
    known = set(counted.values_list("site", flat=True))
    zones = {
        one.site_id: one.zone
        for one in covered(segment.version, *day)
        if one.segment_id == segment.pk and one.site_id not in known
    }
    sites = sorted(zones)[:most]
    if not sites:
        return 0
    spans = _service(sites, zones, hours, provider, day, now)
    found = _polls(spans, provider, day)
    LatencyDay.objects.bulk_create(
        (_row(site, provider, key, day, length(spans[site]), found.get(site)) for site in sites),
        batch_size=1000,
        ignore_conflicts=True,
    )
    return len(sites)


def _service(
    sites: Sequence[int], zones: Mapping[int, str], hours: Hours | None, provider: int, day: Day, now: datetime
) -> dict[int, Spans]:
    """The service hours of a day in which each site was active, and the provider's."""
    window = (ms(day[0]), ms(day[1]))
    owned: dict[int, Spans] = defaultdict(list)
    tenures = SiteTenure.objects.filter(site__in=sites, provider=provider, valid_from__lt=day[1])
    for row in tenures.order_by("valid_from"):
        if row.valid_to is None or row.valid_to > day[0]:
            owned[row.site_id].append((ms(row.valid_from), window[1] if row.valid_to is None else ms(row.valid_to)))
    active = active_of(sites, *day, now)
    open_: dict[str, Spans] = {}
    for zone in set(zones.values()):
        calendar = calendar_of(hours, zone, day)
        open_[zone] = [window] if calendar is None else open_spans(calendar, window)
    return {site: meet(meet(open_[zones[site]], active.get(site, [])), owned[site]) for site in sites}


def _polls(spans: Mapping[int, Spans], provider: int, day: Day) -> dict[int, tuple[Any, ...]]:
    flat = [(site, begin, end) for site, own in spans.items() for begin, end in own]
    params: dict[str, Any] = {
        "sites": [site for site, _, _ in flat],
        "begins": [moment_of(begin) for _, begin, _ in flat],
        "ends": [moment_of(end) for _, _, end in flat],
        "provider": provider,
        "begin": day[0],
        "end": day[1],
    }
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_COUNT, params)
        return {site: tuple(row) for site, *row in cursor.fetchall()}


def _row(site: int, provider: int, key: str, day: Day, scheduled: int, found: Iterable[Any] | None) -> LatencyDay:
    polls, rtt, counts, seen = found or (0, [], [], 0)
    return LatencyDay(
        site_id=site,
        provider_id=provider,
        hours=key,
        begins=day[0],
        ends=day[1],
        polls=polls,
        rtt_ms=rtt,
        counts=counts,
        seen_ms=min(int(seen), scheduled),
        scheduled_ms=scheduled,
    )
