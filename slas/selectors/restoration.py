"""The figures of restoration and response of a contract, as known at a moment; the scope must be open."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from slas.calendars import open_spans
from slas.engine import Verdict
from slas.measuring import reached
from slas.models import Contract, Segment
from slas.restoring import Found, Lasted, Part, answered, restored
from slas.selectors.contracts import Covered, covered, terms_of, version_as_of
from slas.selectors.figures import active_of
from slas.spans import Span, Spans, meet, union, without
from slas.states import Measure
from slas.terms import Objective, Terms, calendar_of
from slas.upkeep import moment_of, ms

FOR_EVER: Final = 1 << 60
# Outages that began within the time, with the cause that counted then, and when their provider first took them.
_OUTAGES: Final = """
SELECT p.site_id, p.provider_id, COALESCE(f.cause, 'unknown'), p.valid_from,
    CASE WHEN p.closed_at <= %(as_of)s THEN p.valid_to END,
    (SELECT min(n.at) FROM slas_incidentnote n
        WHERE n.incident_id = p.incident_id AND n.provider_id = p.provider_id AND n.kind = 'acknowledged'
            AND n.side = 'provider' AND n.at <= %(as_of)s)
FROM slas_incidentspan p
LEFT JOIN LATERAL (
    SELECT f.cause FROM slas_finding f
    WHERE f.incident_id = p.incident_id AND f.provider_id = p.provider_id AND f.at <= %(as_of)s
    ORDER BY f.is_correction DESC, f.id DESC LIMIT 1
) f ON true
WHERE p.site_id = ANY(%(sites)s) AND p.kind = 'down' AND p.recorded_at <= %(as_of)s
    AND (p.superseded_at IS NULL OR p.superseded_at > %(as_of)s)
    AND p.valid_from >= %(begin)s AND p.valid_from < %(end)s
ORDER BY p.site_id, p.valid_from
"""
_GRANTED: Final = """
SELECT a.site_id, a.provider_id, a.valid_from, a.valid_to FROM slas_adjustment a
WHERE a.site_id = ANY(%(sites)s) AND a.kind = 'down' AND a.recorded_at <= %(as_of)s
    AND a.valid_from < %(end)s AND a.valid_to > %(begin)s
"""
_Row = tuple[str, Lasted]
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Restored:
    """An objective under one segment: what was found by site, for all of them, and whether the promise was kept."""

    segment_id: int
    objective: Objective
    sites: Sequence[tuple[Covered, Found]]
    total: Found
    verdict: Verdict | None


def restoration_of(contract: Contract, begin: datetime, end: datetime, as_of: datetime) -> list[Restored]:
    """Each objective of restoration and response over `[begin, end)` as known at `as_of`.

    Raises NotFound where nothing was agreed then.
    """
    version = version_as_of(contract, as_of)
    until = min(end, as_of)
    if until <= begin:
        return []
    by_segment: dict[int, list[Covered]] = defaultdict(list)
    for place in covered(version, begin, until):
        by_segment[place.segment_id].append(place)
    sites = sorted({place.site_id for places in by_segment.values() for place in places})
    params = {"sites": sites, "begin": begin, "end": until, "as_of": as_of}
    outages, active = _less_granted(_outages(params), _granted(params)), active_of(sites, begin, until, as_of)
    found = []
    for segment in version.segments.all():
        terms = terms_of(segment)
        for objective in terms.objectives:
            if objective.measure in {Measure.RESTORATION, Measure.RESPONSE}:
                found.append(_objective(terms, objective, segment, by_segment[segment.pk], outages, active))
    return found


# ------------------------------------------------------------------------------------------------------------
def _objective(
    terms: Terms,
    objective: Objective,
    segment: Segment,
    places: Sequence[Covered],
    outages: dict[tuple[int, int], list[_Row]],
    active: dict[int, Spans],
) -> Restored:
    find = answered if objective.measure is Measure.RESPONSE else restored
    parts: list[Part] = []
    for place in places:
        window = place.window
        mine = [
            one
            for cause, one in outages.get((place.site_id, segment.provider_id), [])
            if window[0] <= one.begin < window[1] and cause not in terms.excluded_causes
        ]
        hours = meet(_hours(terms, place.zone, window), active.get(place.site_id, []))
        parts.append(Part(mine, hours, window[1]))
    rows = [(place, find(objective, [part])) for place, part in zip(places, parts, strict=True)]
    total = find(objective, parts)
    verdict = reached(objective, total.verdict, [found.verdict for _, found in rows])
    return Restored(segment.pk, objective, rows, total, verdict)


def _hours(terms: Terms, zone: str, window: Span) -> Spans:
    calendar = calendar_of(terms.hours, zone, (moment_of(window[0]), moment_of(window[1])))
    return [window] if calendar is None else open_spans(calendar, window)


def _outages(params: Mapping[str, Any]) -> dict[_Place, list[_Row]]:
    found: dict[_Place, list[_Row]] = defaultdict(list)
    for site, provider, cause, began, ended, taken in _rows(_OUTAGES, params):
        lasted = Lasted(ms(began), None if ended is None else ms(ended), None if taken is None else ms(taken))
        found[site, provider].append((cause, lasted))
    return found


def _granted(params: Mapping[str, Any]) -> dict[_Place, list[Span]]:
    """Time that was granted in disputes."""
    found: dict[_Place, list[Span]] = defaultdict(list)
    for site, provider, begin, end in _rows(_GRANTED, params):
        found[site, provider].append((ms(begin), ms(end)))
    return found


def _less_granted(
    outages: dict[_Place, list[_Row]], granted: Mapping[_Place, Sequence[Span]]
) -> dict[_Place, list[_Row]]:
    """An outage that was granted from its begin on began when that ends; one of which nothing is left was none."""
    for place, spans in granted.items():
        kept: list[_Row] = []
        for cause, one in outages.get(place, []):
            end = FOR_EVER if one.end is None else one.end
            left = without([(one.begin, end)], union(spans))
            if left:
                last = left[-1][1]
                kept.append((cause, replace(one, begin=left[0][0], end=None if last == FOR_EVER else last)))
        outages[place] = kept
    return outages


def _rows(query: str, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())
