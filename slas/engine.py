"""The SLA engine: from intervals to exact figures and verdicts. Pure, no Django; integers and fractions only.

All spans are half-open, in integer milliseconds UTC. For a site and a window every millisecond falls in exactly one
class, by precedence: OUT_OF_CALENDAR > EXCLUDED > UNKNOWN > DOWN > DEGRADED > UP. With S = calendar time, E = excluded,
U = unknown, D = down (and degraded, where the contract counts it as down):

    measured (S - E - U - D) / (S - E - U)      floor (S - E - U - D) / (S - E)
    ceiling  (S - E - D) / (S - E)              coverage (S - E - U) / (S - E)

MET if floor >= target, MISSED if ceiling < target, else UNDETERMINED. Where there is no denominator there is no figure.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Literal

from slas.spans import Span, Spans, length, meet, union, without


class State(StrEnum):
    """What is known of a site from a moment on."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Part(StrEnum):
    """What a millisecond counts as."""

    OUT_OF_CALENDAR = "out_of_calendar"
    EXCLUDED = "excluded"
    UNKNOWN = "unknown"
    DOWN = "down"
    DEGRADED = "degraded"
    UP = "up"


class Verdict(StrEnum):
    """Whether a promise was kept."""

    MET = "MET"
    MISSED = "MISSED"
    UNDETERMINED = "UNDETERMINED"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a contract counts approved maintenance, and degraded time."""

    maintenance: Literal["excluded", "counts_as_up"] = "excluded"
    degraded: Literal["up", "down"] = "up"


@dataclass(frozen=True, slots=True)
class Totals:
    """Milliseconds by class; `scheduled_ms` is all of the calendar. Those of a window's parts add up to its own."""

    scheduled_ms: int = 0
    excluded_ms: int = 0
    unknown_ms: int = 0
    down_ms: int = 0
    degraded_ms: int = 0
    up_ms: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.scheduled_ms + other.scheduled_ms,
            self.excluded_ms + other.excluded_ms,
            self.unknown_ms + other.unknown_ms,
            self.down_ms + other.down_ms,
            self.degraded_ms + other.degraded_ms,
            self.up_ms + other.up_ms,
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """Exact shares between 0 and 1, None where nothing could be measured."""

    measured: Fraction | None
    floor: Fraction | None
    ceiling: Fraction | None
    coverage: Fraction | None


Piece = tuple[int, int, Part]
Change = tuple[int, State]
RULES = Rules()
_PARTS = tuple(Part)  # to iterate over an enumeration costs as much as a dozen pieces
_STATES = (State.UNKNOWN, State.DOWN, State.DEGRADED, State.UP)
_PART = {State.UP: Part.UP, State.DEGRADED: Part.DEGRADED, State.DOWN: Part.DOWN, State.UNKNOWN: Part.UNKNOWN}


def classify(
    window: Span,
    states: Iterable[Change],
    *,
    calendar: Sequence[Span] | None = None,
    maintenance: Iterable[Span] = (),
    exclusions: Iterable[Span] = (),
    rules: Rules = RULES,
) -> list[Piece]:
    """The window cut into pieces `(begin, end, part)`, in order, without a hole: neighbours differ in their part.

    `states` hold from their moment until the next; before the first the site is unknown. `calendar` (sorted, apart) is
    None for always. Raises ValueError for an empty window, or two states at one instant.
    """
    if window[0] >= window[1]:
        raise ValueError("a window ends after it begins")
    held = _held(window, states)
    is_up = union(maintenance) if rules.maintenance == "counts_as_up" else []
    excluded = union(exclusions if rules.maintenance == "counts_as_up" else [*exclusions, *maintenance])
    if calendar is None and not excluded and not is_up:
        return [(begin, end, _PART[state]) for begin, end, state in held]
    scheduled = [window] if calendar is None else _within(calendar, window)
    if not excluded and not is_up:
        return _in_calendar(held, scheduled)
    return _overlay(held, scheduled, meet(excluded, [window]), meet(is_up, [window]))


def totals(pieces: Iterable[Piece]) -> Totals:
    """Milliseconds by class."""
    sums = dict.fromkeys(_PARTS, 0)
    for begin, end, part in pieces:
        sums[part] += end - begin
    scheduled = sum(sums.values()) - sums[Part.OUT_OF_CALENDAR]
    return Totals(
        scheduled, sums[Part.EXCLUDED], sums[Part.UNKNOWN], sums[Part.DOWN], sums[Part.DEGRADED], sums[Part.UP]
    )


def tally(
    window: Span,
    states: Iterable[Change],
    *,
    calendar: Sequence[Span] | None = None,
    maintenance: Iterable[Span] = (),
    exclusions: Iterable[Span] = (),
    rules: Rules = RULES,
) -> Totals:
    """The totals of what classify() cuts, without the pieces: its cost is that of the states alone, whatever the hours.

    Raises ValueError as classify() does.
    """
    if window[0] >= window[1]:
        raise ValueError("a window ends after it begins")
    held = _held(window, states)
    scheduled = [window] if calendar is None else _within(calendar, window)
    is_up = union(maintenance) if rules.maintenance == "counts_as_up" else []
    excluded = union(exclusions if rules.maintenance == "counts_as_up" else [*exclusions, *maintenance])
    counted = without(scheduled, excluded) if excluded else scheduled
    sums = _sums(held, without(counted, is_up) if is_up else counted)
    if is_up:
        in_maintenance = _sums(held, meet(counted, is_up))
        sums[State.UNKNOWN] += in_maintenance.pop(State.UNKNOWN)
        sums[State.UP] += sum(in_maintenance.values())
    scheduled_ms = window[1] - window[0] if calendar is None else length(scheduled)
    excluded_ms = scheduled_ms - length(counted) if excluded else 0
    unknown, down, degraded, up = (sums[state] for state in _STATES)
    return Totals(scheduled_ms, excluded_ms, unknown, down, degraded, up)


def figures(total: Totals, rules: Rules = RULES) -> Figures:
    """The four shares of the module's head."""
    counted = total.scheduled_ms - total.excluded_ms
    if counted == 0:
        return Figures(None, None, None, None)
    bad = total.down_ms + (total.degraded_ms if rules.degraded == "down" else 0)
    known = counted - total.unknown_ms
    return Figures(
        measured=Fraction(known - bad, known) if known else None,
        floor=Fraction(known - bad, counted),
        ceiling=Fraction(counted - bad, counted),
        coverage=Fraction(known, counted),
    )


def verdict(shares: Figures, target: Fraction) -> Verdict | None:
    """Whether the promise of `target` (between 0 and 1) was kept; None where nothing was to be measured."""
    if shares.floor is None or shares.ceiling is None:
        return None
    if shares.floor >= target:
        return Verdict.MET
    return Verdict.MISSED if shares.ceiling < target else Verdict.UNDETERMINED


# ------------------------------------------------------------------------------------------------------------
def _in_calendar(held: Sequence[tuple[int, int, State]], scheduled: Spans) -> list[Piece]:
    """What _overlay() gives where there is nothing but states and a calendar: most sites of most months."""
    pieces: list[Piece] = []
    slot = 0
    for at, end, state in held:
        part = _PART[state]
        while at < end:
            while slot < len(scheduled) and scheduled[slot][1] <= at:
                slot += 1
            begin, until = scheduled[slot] if slot < len(scheduled) else (end, end)
            is_open = begin <= at
            stop = min(end, until if is_open else begin)
            _append(pieces, at, stop, part if is_open else Part.OUT_OF_CALENDAR)
            at = stop
    return pieces


def _sums(held: Sequence[tuple[int, int, State]], counted: Spans) -> dict[State, int]:
    """Milliseconds of each state within a set of time."""
    sums = dict.fromkeys(_STATES, 0)
    if len(counted) == 1 and counted[0] == (held[0][0], held[-1][1]):
        for begin, end, state in held:
            sums[state] += end - begin
        return sums
    begins = [begin for begin, _ in counted]
    before = [0, *accumulate(end - begin for begin, end in counted)]

    def until(moment: int) -> int:
        """Milliseconds of the set before a moment."""
        at = bisect_right(begins, moment)
        return before[at] - max(0, counted[at - 1][1] - moment) if at else 0

    last = until(held[0][0])
    for _, end, state in held:
        now = until(end)
        sums[state] += now - last
        last = now
    return sums


def _within(calendar: Sequence[Span], window: Span) -> Spans:
    """The calendar within the window; one that was made for it is taken as it is."""
    if not calendar or (window[0] <= calendar[0][0] and calendar[-1][1] <= window[1]):
        return list(calendar)
    return meet(calendar, [window])


def _append(pieces: list[Piece], begin: int, end: int, part: Part) -> None:
    """Add a piece; where it goes on with the last one, they are one."""
    if pieces and pieces[-1][2] is part:
        pieces[-1] = (pieces[-1][0], end, part)
    else:
        pieces.append((begin, end, part))


def _overlay(held: Sequence[tuple[int, int, State]], scheduled: Spans, excluded: Spans, is_up: Spans) -> list[Piece]:
    """The pieces, by precedence: one sweep over all edges."""
    edges = {edge for spans in (scheduled, excluded, is_up) for span in spans for edge in span}
    edges.update(begin for begin, _, _ in held)
    cuts = [*sorted(edges | {held[0][0], held[-1][1]})]
    sets = [_Cursor(scheduled), _Cursor(excluded), _Cursor(is_up)]
    pieces: list[Piece] = []
    now = 0
    for begin, end in pairwise(cuts):
        while held[now][1] <= begin:
            now += 1
        in_calendar, is_excluded, in_maintenance = (one.holds(begin) for one in sets)
        part = _PART[held[now][2]]
        if not in_calendar:
            part = Part.OUT_OF_CALENDAR
        elif is_excluded:
            part = Part.EXCLUDED
        elif in_maintenance and part is not Part.UNKNOWN:
            part = Part.UP
        _append(pieces, begin, end, part)
    return pieces


class _Cursor:
    """Whether moments that never go back lie in a set."""

    def __init__(self, spans: Spans) -> None:
        self._spans, self._at = spans, 0

    def holds(self, moment: int) -> bool:
        while self._at < len(self._spans) and self._spans[self._at][1] <= moment:
            self._at += 1
        return self._at < len(self._spans) and self._spans[self._at][0] <= moment


def _held(window: Span, states: Iterable[Change]) -> list[tuple[int, int, State]]:
    """What was known of the site over the window."""
    begin, end = window
    found: list[tuple[int, int, State]] = []
    at, now, last = begin, State.UNKNOWN, None
    for moment, state in sorted(states):
        if moment == last:
            raise ValueError("two states at one instant")
        last = moment
        if moment >= end:
            continue
        if moment > at and state is not now:
            found.append((at, moment, now))
            at = moment
        now = state
    found.append((at, end, now))
    return found
