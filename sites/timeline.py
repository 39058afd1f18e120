"""Correcting what is on record. Pure: intervals and better evidence come in, what to supersede and to add goes out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

# Clocks of sites are mapped to ours in milliseconds, rows keep microseconds: a shorter remainder is none.
GRAIN = timedelta(milliseconds=1)
UP, DEGRADED, DOWN, UNKNOWN = "up", "degraded", "down", "unknown"
WELL = frozenset({UP, DEGRADED})


@dataclass(frozen=True, slots=True)
class Interval:
    """`[begin, end)` in a state, `end` None while open. `key` is its row; None for what is to be added.

    Intervals of one provider never touch another's. `evidence` is what proves it, `better` whether that came now.
    """

    begin: datetime
    end: datetime | None
    state: str
    provider_id: int
    key: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    better: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is proven of `[begin, end)`, and by what."""

    begin: datetime
    end: datetime
    state: str
    proof: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Correction:
    """Keys of rows that no longer stand, and the intervals that take their place."""

    superseded: tuple[int, ...] = ()
    added: tuple[Interval, ...] = ()


def correct(standing: Sequence[Interval], proven: Sequence[Evidence]) -> Correction:
    """Where better evidence contradicts what stands, what to change; nothing else is touched.

    Both are ordered and do not overlap among themselves. Evidence for a time of which nothing stands (the site was not
    active, or another provider's) changes nothing. What is cut off keeps its evidence; neighbours in one state are one.
    """
    pieces = [piece for interval in standing for piece in _cut(interval, proven)]
    superseded: set[int] = set()
    runs = []
    for run in _runs(pieces):
        runs.append(run)
        if any(piece.better for piece in run):
            superseded |= {piece.key for piece in run if piece.key is not None}
    added = [_merged(run) for run in runs if any(piece.better or piece.key in superseded for piece in run)]
    for interval in standing:  # one that lasted no time at all would stand in between
        if interval.begin == interval.end and any(
            new.begin <= interval.begin <= (new.end or interval.begin) for new in added
        ):
            superseded.add(_key(interval))
    return Correction(tuple(sorted(superseded)), tuple(added))


def _key(interval: Interval) -> int:
    assert interval.key is not None  # what stands is a row
    return interval.key


def _cut(interval: Interval, proven: Sequence[Evidence]) -> Iterator[Interval]:
    """The interval in pieces: those that are contradicted with their better state, the rest as it stands."""
    at = interval.begin
    for evidence in proven:
        begin = max(evidence.begin, at)
        end = evidence.end if interval.end is None else min(evidence.end, interval.end)
        if begin >= end or evidence.state == interval.state:
            continue
        begin = at if begin - at < GRAIN else begin
        end = interval.end if interval.end is not None and interval.end - end < GRAIN else end
        if begin > at:
            yield replace(interval, begin=at, end=begin)
        yield replace(interval, begin=begin, end=end, state=evidence.state, evidence=evidence.proof, better=True)
        at = end
    if interval.end is None or at < interval.end:
        yield replace(interval, begin=at)


def _runs(pieces: Sequence[Interval]) -> Iterator[list[Interval]]:
    """Pieces that adjoin in one state under one provider, where one of them is new; the others stay alone."""
    run: list[Interval] = []
    for piece in pieces:
        if run and (
            piece.state == run[-1].state
            and piece.begin == run[-1].end
            and piece.provider_id == run[-1].provider_id
            and (piece.better or run[-1].better)
        ):
            run.append(piece)
            continue
        if run:
            yield run
        run = [piece]
    if run:
        yield run


def _merged(run: Sequence[Interval]) -> Interval:
    """One interval of a run; better evidence is named before the rest, and all the journal's entries that bear it."""
    named = next((piece for piece in run if piece.better), run[0])
    return replace(
        named,
        begin=run[0].begin,
        end=run[-1].end,
        evidence=_proof(named, run),
        better=any(piece.better for piece in run),
    )


def _proof(named: Interval, run: Sequence[Interval]) -> dict[str, Any]:
    """A journal comes in pages: what one of them began and the next goes on with is proven by the entries of both."""
    told = [piece.evidence["journal"] for piece in run if "journal" in piece.evidence]
    if "journal" not in named.evidence or len(told) == 1:
        return named.evidence
    first, last = min(one["from_seq"] for one in told), max(one["to_seq"] for one in told)
    return named.evidence | {"journal": named.evidence["journal"] | {"from_seq": first, "to_seq": last}}


def outages(intervals: Iterable[Interval]) -> list[Interval]:
    """Unbroken times that began `down` and end with the first `up` or `degraded`; silence within them goes on with it.

    An outage ends at a hand-over, and begins anew under the next provider.
    """
    found: list[Interval] = []
    begun: Interval | None = None
    better = False
    end: datetime | None = None
    for interval in intervals:
        if begun is not None and (interval.state in WELL or interval.provider_id != begun.provider_id):
            found.append(replace(begun, end=interval.begin, key=None, better=better))
            begun = None if interval.state in WELL else replace(interval, state=DOWN)
            better = interval.better
        elif begun is None and interval.state == DOWN:
            begun, better = interval, interval.better
        else:
            better = better or interval.better
        end = interval.end
    if begun is not None:
        found.append(replace(begun, end=end, key=None, better=better))
    return found
