"""From a site's states to its outages. Pure: what stands of both axes comes in, runs go out, and what that changes.

`down` and `degraded` are of the site's own state. A silence within (`unknown`) goes on with them; `up`, or the other of
the two, ends them. `unreachable` is of the way to the site, and ends with anything else. A hand-over ends a provider's
part and begins the next one's: the incident stays one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from slas.states import Kind

# Journals are mapped to our clock in milliseconds, rows keep microseconds: less than that is no gap.
GRAIN: Final = timedelta(milliseconds=1)
AVAILABILITY, REACHABILITY = "availability", "reachability"
KINDS: Final = {AVAILABILITY: (Kind.DOWN, Kind.DEGRADED), REACHABILITY: (Kind.UNREACHABLE,)}
_GOES_ON: Final = {
    Kind.DOWN: frozenset({"down", "unknown"}),
    Kind.DEGRADED: frozenset({"degraded", "unknown"}),
    Kind.UNREACHABLE: frozenset({"unreachable"}),
}


@dataclass(frozen=True, slots=True)
class Interval:
    """A state over `[begin, end)` under a provider, `end` None while it lasts; `key` is its row.

    The evidence is JSON, as it is stored.
    """

    begin: datetime
    end: datetime | None
    state: str
    provider_id: int
    key: int
    source: str = "poll"
    evidence: str = "{}"
    evidence_end: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A provider's part of an outage. `goes_on` says that it continues the part before it, across a hand-over."""

    kind: Kind
    provider_id: int
    begin: datetime
    end: datetime | None
    goes_on: bool
    first: Interval
    last: Interval


@dataclass(frozen=True, slots=True)
class Standing:
    """A span that is on record."""

    key: int
    incident: int
    kind: Kind
    provider_id: int
    begin: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Added:
    """A span to be added: to this incident, to that of the span added just before (`with_last`), or to a new one."""

    run: Run
    incident: int | None
    with_last: bool


@dataclass(slots=True)
class Changes:
    """What is to be done about the spans of one site. `merged` are pairs: an incident, and that which it is part of."""

    closed: list[tuple[int, Run]] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    merged: list[tuple[int, int]] = field(default_factory=list)


def runs(intervals: Sequence[Interval], kind: Kind) -> Iterator[Run]:
    """The runs of one kind among the intervals of its axis, which are in order and do not overlap.

    A state may have lasted no time: a site that was heard but once before it fell silent was `down` then, and the
    silence goes on with that. Being unknown for no time says nothing.
    """
    for run in _runs(intervals, kind):
        if run.end is None or run.end > run.begin:
            yield run


def changes(wanted: Iterable[Run], standing: Sequence[Standing]) -> Changes:
    """What to close, supersede and add, so that what is wanted stands. What is right already is not touched."""
    found = Changes()
    listed = sorted(wanted, key=lambda run: (run.kind, run.begin))
    right = {(run.kind, run.provider_id, run.begin, run.end): run for run in listed}
    still = {(run.kind, run.provider_id, run.begin): run for run in listed}
    kept: dict[tuple[Kind, int, datetime], int] = {}
    gone: list[Standing] = []
    for row in standing:
        run = still.get((row.kind, row.provider_id, row.begin))
        if (row.kind, row.provider_id, row.begin, row.end) in right:
            kept[row.kind, row.provider_id, row.begin] = row.incident
        elif row.end is None and run is not None:
            kept[row.kind, row.provider_id, row.begin] = row.incident
            found.closed.append((row.key, run))
        else:
            gone.append(row)
            found.superseded.append(row.key)
    _add(found, listed, kept, gone)
    return found


# ------------------------------------------------------------------------------------------------------------
def _runs(intervals: Sequence[Interval], kind: Kind) -> Iterator[Run]:
    run: list[Interval] = []
    goes_on = False
    for one in intervals:
        if one.end is not None and one.end <= one.begin and one.state == "unknown":
            continue
        is_next = bool(run) and run[-1].end is not None and one.begin - run[-1].end < GRAIN
        if run and is_next and one.state in _GOES_ON[kind]:
            if one.provider_id != run[-1].provider_id:
                yield _run(kind, run, goes_on)
                run, goes_on = [], True
            run.append(one)
            continue
        if run:
            yield _run(kind, run, goes_on)
        run, goes_on = [one] if one.state == kind else [], False
    if run:
        yield _run(kind, run, goes_on)


def _run(kind: Kind, run: Sequence[Interval], goes_on: bool) -> Run:
    return Run(kind, run[0].provider_id, run[0].begin, run[-1].end, goes_on, run[0], run[-1])


def _add(
    found: Changes, listed: Sequence[Run], kept: dict[tuple[Kind, int, datetime], int], gone: Sequence[Standing]
) -> None:
    """Give each new run its incident: that of the part before it, or of what stood in its time, or a new one."""
    taken = set(kept.values())
    before: int | None = None  # the incident of the run before; None: it is a new one, or there was none
    was_added = False
    for run in listed:
        key = (run.kind, run.provider_id, run.begin)
        if key in kept:
            before, was_added = kept[key], False
            continue
        replaced = [row for row in gone if row.kind == run.kind and _overlaps(row, run)]
        mine = next((row.incident for row in replaced if row.incident not in taken), None)
        if run.goes_on:
            chosen, with_last = before, was_added and before is None
        else:
            chosen, with_last = mine, False
        found.added.append(Added(run, chosen, with_last))
        if chosen is not None:
            taken.add(chosen)
            found.merged += [(row.incident, chosen) for row in replaced if row.incident not in taken]
        before, was_added = chosen, True


def _overlaps(row: Standing, run: Run) -> bool:
    return (run.end is None or row.begin < run.end) and (row.end is None or run.begin < row.end)
