"""The figures of a contract over a time, as known at a moment: a function of (period, as of, rule version) over facts.

What is read follows changes of state, never polls: for each site its intervals that begin within the time, and the one
before. The scope must be open; a provider's login gets the figures of its own segments.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

from django.db import connections

from fleet.kit.prepared import prepared
from fleet.kit.tenancy import DEFAULT
from slas.calendars import open_spans
from slas.measuring import NOTHING, History, Inputs, Result, clipped, measure
from slas.models import Contract, ContractVersion, Segment
from slas.outages import AVAILABILITY, REACHABILITY
from slas.selectors.contracts import MS, Covered, agreed, covered, segments_in, terms_of
from slas.spans import Span, Spans, meet, union, without
from slas.states import Kind, Measure
from slas.terms import Objective, Terms, calendar_of
from slas.upkeep import Asked, cap_periods, honoured, moment_of, ms, uncapped

AXES: Final = {Measure.AVAILABILITY: AVAILABILITY, Measure.REACHABILITY: REACHABILITY}
KINDS: Final = {Measure.AVAILABILITY: [Kind.DOWN, Kind.DEGRADED], Measure.REACHABILITY: [Kind.UNREACHABLE]}

_KNOWN: Final = "{0}.recorded_at <= %(as_of)s AND ({0}.superseded_at IS NULL OR {0}.superseded_at > %(as_of)s)"
# Each site's intervals that begin within the time and the last one from before, which standing rows make the one that
# lasted into it; one row a site, so that Python's work is by site and not by interval.
_HISTORY: Final = f"""
SELECT i.site_id, array_agg({MS.format("i.valid_from")} ORDER BY i.valid_from, i.id),
    array_agg({MS.format("CASE WHEN i.closed_at <= %(as_of)s THEN i.valid_to END")} ORDER BY i.valid_from, i.id),
    string_agg(CASE i.state WHEN 'up' THEN 'u' WHEN 'degraded' THEN 'g' WHEN 'down' THEN 'd' WHEN 'unknown' THEN 'n'
        WHEN 'reachable' THEN 'r' WHEN 'unreachable' THEN 'x' ELSE 'c' END, '' ORDER BY i.valid_from, i.id),
    string_agg(CASE WHEN i.source = 'probe' THEN 'y' ELSE '-' END, '' ORDER BY i.valid_from, i.id)
FROM (
    SELECT i.* FROM edge_sites_stateinterval i
    WHERE i.site_id = ANY(%(sites)s) AND i.axis = %(axis)s AND i.valid_from >= %(begin)s AND i.valid_from < %(end)s
        AND {_KNOWN.format("i")}
    UNION ALL
    SELECT b.* FROM unnest(%(sites)s::int[]) AS s(id) CROSS JOIN LATERAL (
        SELECT i.* FROM edge_sites_stateinterval i
        WHERE i.site_id = s.id AND i.axis = %(axis)s AND i.valid_from < %(begin)s AND {_KNOWN.format("i")}
            AND (i.valid_to IS NULL OR i.valid_to > i.valid_from)
        ORDER BY i.valid_from DESC, i.id DESC LIMIT 1
    ) b
) i
GROUP BY i.site_id
"""  # noqa: S608  (constants)
# Outages with the cause that counted then, of those causes: the newest correction, else the newest by rule.
_CAUSES: Final = f"""
SELECT p.site_id, p.provider_id, f.cause, {MS.format("p.valid_from")},
    {MS.format("COALESCE(CASE WHEN p.closed_at <= %(as_of)s THEN p.valid_to END, %(end)s)")}
FROM slas_incidentspan p
CROSS JOIN LATERAL (
    SELECT f.cause FROM slas_finding f
    WHERE f.incident_id = p.incident_id AND f.provider_id = p.provider_id AND f.at <= %(as_of)s
    ORDER BY f.is_correction DESC, f.id DESC LIMIT 1
) f
WHERE p.site_id = ANY(%(sites)s) AND p.kind = ANY(%(kinds)s) AND {_KNOWN.format("p")} AND p.valid_from < %(end)s
    AND (p.valid_to IS NULL OR p.valid_to > %(begin)s OR p.closed_at > %(as_of)s) AND f.cause = ANY(%(causes)s)
"""  # noqa: S608  (constants)
# Time of outages that was granted in disputes.
_GRANTED: Final = f"""
SELECT a.site_id, a.provider_id, {MS.format("a.valid_from")}, {MS.format("a.valid_to")}
FROM slas_adjustment a
WHERE a.site_id = ANY(%(sites)s) AND a.kind = ANY(%(kinds)s) AND a.recorded_at <= %(as_of)s
    AND a.valid_from < %(end)s AND a.valid_to > %(begin)s
"""  # noqa: S608  (constants)
# For so few sites, planning a statement costs more than what it does; for more, the best plan depends on how many.
_FEW: Final = 200
GRANTED: Final = "granted"  # in place of a cause: it is excluded whatever the contract says
_WINDOWS: Final = f"""
SELECT x.site_id, w.provider_id, {MS.format("w.begins")}, {MS.format("w.ends")}, {MS.format("w.requested_at")},
    {MS.format("w.decided_at")}, w.decided_reason <> ''
FROM slas_window w JOIN slas_windowsite x ON x.window_id = w.id
WHERE x.site_id = ANY(%(sites)s) AND w.begins < %(end)s AND w.ends > %(begin)s AND w.decided_at <= %(as_of)s
    AND (w.state = 'approved' OR w.state = 'cancelled' AND w.cancelled_at > %(as_of)s)
"""  # noqa: S608  (constants)
_BLIND: Final = f"""
SELECT {MS.format("b.valid_from")},
    {MS.format("COALESCE(CASE WHEN b.closed_at <= %(as_of)s THEN b.valid_to END, %(end)s)")}
FROM slas_centreblind b
WHERE b.recorded_at <= %(as_of)s AND b.valid_from < %(end)s
    AND (b.valid_to IS NULL OR b.valid_to > %(begin)s OR b.closed_at > %(as_of)s)
"""  # noqa: S608  (constants)
# What journals say of the time in which we were blind, whether or not it changed what stands. A site's pages speak of
# one time after another: so none but the first that speaks beyond a time can speak of both sides of its end.
_SPOKEN: Final = """
SELECT e.site_id, p.span->0, p.span->1
FROM unnest(%(sites)s::int[]) AS s(id) CROSS JOIN unnest(%(from)s::timestamptz[], %(upto)s::timestamptz[]) AS b(f, u)
CROSS JOIN LATERAL (
    SELECT e.site_id, e.spoke FROM edge_sites_journalenvelope e
    WHERE e.site_id = s.id AND e.received_at <= %(as_of)s AND e.spoke_until > b.f AND e.spoke_until <= COALESCE((
        SELECT n.spoke_until FROM edge_sites_journalenvelope n
        WHERE n.site_id = s.id AND n.spoke_until >= b.u ORDER BY n.spoke_until LIMIT 1
    ), 'infinity')
) e
CROSS JOIN LATERAL jsonb_array_elements(e.spoke) AS p(span)
"""


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a contract: each objective of availability and reachability of each segment.

    `end` is that of the period, or `as_of` where that is earlier: what has not been yet is not measured.
    """

    version: ContractVersion
    begin: datetime
    end: datetime
    as_of: datetime
    results: Sequence[Result]


class Told(NamedTuple):
    """An objective of a segment, and what the engine is told of each of its sites."""

    segment: Segment
    terms: Terms
    objective: Objective
    inputs: Iterable[Inputs]


def figures_of(
    contract: Contract, begin: datetime, end: datetime, as_of: datetime, *, site_ids: Iterable[int] | None = None
) -> Report:
    """The figures over `[begin, end)` as known at `as_of`; of some of its sites only where those are named.

    Raises NotFound where nothing was agreed then.
    """
    version = agreed(contract, as_of)
    until = min(end, as_of)
    found = told_of(version, segments_in(version), begin, until, as_of, site_ids=site_ids)
    results = [measure(one.segment.pk, one.terms, one.objective, one.inputs) for one in found]
    return Report(version, begin, max(begin, until), as_of, results)


def told_of(
    version: ContractVersion,
    segments: Iterable[Segment],
    begin: datetime,
    end: datetime,
    as_of: datetime,
    *,
    site_ids: Iterable[int] | None = None,
) -> Iterator[Told]:
    """What the engine is told for each objective of availability and reachability of the version's segments, in their
    order."""
    if end <= begin:
        return
    places = covered(version, begin, end, site_ids=site_ids)
    by_segment: dict[int, list[Covered]] = defaultdict(list)
    for place in places:
        by_segment[place.segment_id].append(place)
    promised = [(segment, terms_of(segment)) for segment in segments]
    causes = {cause for _, terms in promised for cause in terms.excluded_causes}
    facts = _Facts(version.zone, begin, end, as_of, sorted({place.site_id for place in places}), sorted(causes))
    for segment, terms in promised:
        for objective in terms.objectives:
            if objective.measure in AXES:
                inputs = facts.inputs(terms, objective.measure, segment.provider_id, by_segment[segment.pk])
                yield Told(segment, terms, objective, inputs)


def active_of(sites: Sequence[int], begin: datetime, end: datetime, as_of: datetime) -> dict[int, Spans]:
    """When each site was active within a time, as known at a moment; sites that never were are left out."""
    rows = _rows(_HISTORY, {"begin": begin, "end": end, "as_of": as_of, "sites": list(sites), "axis": AVAILABILITY})
    return {site: History(*row).active(ms(end)) for site, *row in rows}


# ------------------------------------------------------------------------------------------------------------
class _Facts:
    """What the figures rest on, read once for all segments and objectives."""

    def __init__(
        self,
        zone: str,
        begin: datetime,
        end: datetime,
        as_of: datetime,
        sites: Sequence[int],
        causes: Sequence[str],
    ) -> None:
        self._causes_excluded = list(causes)
        self._zone, self._begin, self._end, self._sites = zone, begin, end, list(sites)
        self._params = {"begin": begin, "end": end, "as_of": as_of, "sites": self._sites}
        self._history: dict[Measure, dict[int, History]] = {}
        self._causes: dict[Measure, dict[tuple[int, int], list[tuple[str, Span]]]] = {}
        self._hours: dict[tuple[Any, str, Span], Spans | None] = {}
        self._windows: dict[tuple[int, int], list[Asked]] = {}
        self._asked_for: tuple[datetime, datetime] | None = None
        self._blind = union(_rows(_BLIND, self._params))
        self._spoken = self._spoken_while_blind() if self._blind else {}

    def inputs(self, terms: Terms, measure: Measure, provider: int, places: Iterable[Covered]) -> Iterable[Inputs]:
        """What the engine is told of each site."""
        history, causes = self._history_of(measure), self._causes_of(measure)
        alive = self._history_of(Measure.AVAILABILITY)
        caps = cap_periods(terms.upkeep, self._zone, self._begin, self._end)
        windows = self._windows_within(caps)
        for place in places:
            window = place.window
            key = (place.site_id, provider)
            asked, found = windows.get(key), causes.get(key)
            active = alive.get(place.site_id, NOTHING).active(window[1])
            excluded = [
                (cause, span) for cause, span in found or () if cause == GRANTED or cause in terms.excluded_causes
            ]
            upkeep, excess = self._upkeep(terms, place.zone, asked, caps) if asked else ([], [])
            yield Inputs(
                place.site_id,
                place.segment_id,
                place.slug,
                place.name,
                window,
                history.get(place.site_id, NOTHING),
                _while_active(self._open(terms, place.zone, window), active, window),
                clipped(upkeep, window),
                clipped((span for _, span in excluded), window) if excluded else [],
                clipped(self._blind, window) if self._blind else [],
                place.zone,
                active,
                excluded,
                union(self._spoken.get(place.site_id, ())),
                clipped(excess, window),
            )

    def _upkeep(self, terms: Terms, zone: str, asked: list[Asked], caps: Spans) -> tuple[Spans, Spans]:
        """What counts as maintenance, and what does not because it is over the cap."""
        hours = self._open(terms, zone, (caps[0][0], caps[-1][1]))
        found = honoured(asked, terms.upkeep, hours, caps)
        is_capped = terms.upkeep.cap_h is not None
        return found, without(uncapped(asked, terms.upkeep, hours), found) if is_capped else []

    def _open(self, terms: Terms, zone: str, window: Span) -> Spans | None:
        if terms.hours is None:
            return None
        key = (terms.hours, zone, window)
        if key not in self._hours:
            calendar = calendar_of(terms.hours, zone, (moment_of(window[0]), moment_of(window[1])))
            self._hours[key] = None if calendar is None else open_spans(calendar, window)
        return self._hours[key]

    def _spoken_while_blind(self) -> dict[int, list[Span]]:
        begins, ends = ([moment_of(at) for at in edges] for edges in zip(*self._blind, strict=True))
        found: dict[int, list[Span]] = defaultdict(list)
        for site, begin, end in _rows(_SPOKEN, self._params | {"from": begins, "upto": ends}):
            found[site].append((int(begin), int(end)))
        return found

    def _history_of(self, measure: Measure) -> dict[int, History]:
        if measure not in self._history:
            rows = _rows(_HISTORY, self._params | {"axis": AXES[measure]})
            self._history[measure] = {site: History(*row) for site, *row in rows}
        return self._history[measure]

    def _causes_of(self, measure: Measure) -> dict[tuple[int, int], list[tuple[str, Span]]]:
        if measure not in self._causes:
            found: dict[tuple[int, int], list[tuple[str, Span]]] = defaultdict(list)
            params = self._params | {"kinds": KINDS[measure], "causes": self._causes_excluded}
            for site, provider, cause, begin, end in _rows(_CAUSES, params):
                found[site, provider].append((cause, (begin, end)))
            for site, provider, begin, end in _rows(_GRANTED, params):
                found[site, provider].append((GRANTED, (begin, end)))
            self._causes[measure] = found
        return self._causes[measure]

    def _windows_within(self, caps: Spans) -> dict[tuple[int, int], list[Asked]]:
        """Windows of the whole periods of a cap, which may begin before the time in question."""
        asked_for = (moment_of(caps[0][0]), moment_of(caps[-1][1]))
        if self._asked_for != asked_for:
            found: dict[tuple[int, int], list[Asked]] = defaultdict(list)
            params = self._params | {"begin": asked_for[0], "end": asked_for[1]}
            for site, provider, *row in _rows(_WINDOWS, params):
                found[site, provider].append(Asked(*row))
            self._windows, self._asked_for = found, asked_for
        return self._windows


def _while_active(hours: Spans | None, active: Spans, window: Span) -> Spans | None:
    """Service hours while the site was active: one that has not begun, or was retired, promises nothing."""
    if active and active[0][0] <= window[0] and active[0][1] >= window[1]:
        return hours
    return meet([window] if hours is None else hours, active)


def _rows(query: LiteralString, params: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    if len(params["sites"]) <= _FEW:
        return prepared(query, params)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())
