"""How soon what was down was up again, and how soon a provider answered. Pure; times in milliseconds.

Counted are outages that began within the time in question and touch service hours, but for excluded causes. How long
one was is measured in service hours. One that lasts is at least as long as it has been: a figure that it may still make
worse is UNDETERMINED as long as it keeps the promise. What was over before it had to be answered needs no answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from slas.engine import Verdict
from slas.spans import Spans, length, meet
from slas.states import Restoration
from slas.terms import Objective

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Lasted:
    """An outage: `end` None while it lasts, `answered_at` when the provider took it (None: not yet)."""

    begin: int
    end: int | None
    answered_at: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """A site's outages over a time that ends at `until`, of which `hours` are the service hours."""

    outages: Sequence[Lasted]
    hours: Spans
    until: int


@dataclass(frozen=True, slots=True)
class Found:
    """A figure in its own unit (hours, a number, or a share on time); None where there is nothing to judge by.

    `count` are the outages that it rests on, `open` those of them that may still change it.
    """

    figure: Fraction | None
    verdict: Verdict | None
    count: int
    open: int


NONE: Final = Found(None, None, 0, 0)


def restored(objective: Objective, parts: Sequence[Part]) -> Found:
    """The figure of an objective of restoration, over a site or several."""
    assert objective.limit is not None
    lengths = [
        (length(meet([(one.begin, one.end or part.until)], part.hours)), one.end is None)
        for part in parts
        for one in part.outages
    ]
    counted = [(lasted, is_open) for lasted, is_open in lengths if lasted or is_open]
    still = sum(is_open for _, is_open in counted)
    down, limit = sum(lasted for lasted, _ in counted), Fraction(objective.limit)
    if objective.figure is Restoration.COUNT:
        figure = Fraction(len(counted))
        return Found(figure, Verdict.MET if figure <= limit else Verdict.MISSED, len(counted), 0)
    if not counted:
        return NONE
    if objective.figure is Restoration.MTBF:
        figure = Fraction(sum(length(part.hours) for part in parts) - down, len(counted) * HOUR_MS)
        return Found(figure, _judged(figure >= limit, still), len(counted), still)
    longest = max(lasted for lasted, _ in counted)
    worst = Fraction(longest) if objective.figure is Restoration.LONGEST else Fraction(down, len(counted))
    return Found(worst / HOUR_MS, _judged(worst / HOUR_MS <= limit, still), len(counted), still)


def answered(objective: Objective, parts: Sequence[Part]) -> Found:
    """The share of outages that the provider took within the limit, in minutes by the clock on the wall."""
    assert objective.limit is not None
    assert objective.target is not None
    limit_ms = int(objective.limit * MINUTE_MS)
    on_time = late = pending = 0
    for one, until in ((one, part.until) for part in parts for one in part.outages):
        due = one.begin + limit_ms
        if one.answered_at is not None and one.answered_at <= due:
            on_time += 1
        elif one.end is not None and one.end <= due:
            continue
        elif until < due:
            pending += 1
        else:
            late += 1
    if not on_time + late:
        return Found(None, None, pending, pending)
    least, most = (Fraction(on_time + more, on_time + late + pending) for more in (0, pending))
    verdict = Verdict.MET if least >= objective.target else Verdict.MISSED if most < objective.target else None
    share = Fraction(on_time, on_time + late)
    return Found(share, verdict or Verdict.UNDETERMINED, on_time + late + pending, pending)


def _judged(is_kept: bool, still: int) -> Verdict:
    if not is_kept:
        return Verdict.MISSED
    return Verdict.UNDETERMINED if still else Verdict.MET
