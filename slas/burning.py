"""From pieces of time to budgets and burn rates: of each site, and of all sites of a segment together. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from slas.budgets import Budget, Burn, Pair, budget, burns, pairs_for
from slas.engine import Part, Piece, Rules, Totals, totals
from slas.spans import Span
from slas.states import Reach
from slas.terms import Objective


@dataclass(slots=True)
class Watched:
    """A site under a segment: its pieces until now, since when anything is on record of it under the segment
    (milliseconds), and how much of the calendar of the rest of the period it will have."""

    site_id: int
    began: int
    pieces: list[Piece] = field(default_factory=list)
    ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class Burning:
    """The budget of a site, or of all together (`site_id` None), and its burn rates where they are watched."""

    site_id: int | None
    budget: Budget
    burns: Sequence[Burn]


def longest(period_ms: int, target: Fraction) -> int:
    """How far back the widest window of the alerts reaches, in milliseconds."""
    return max(pair.long_ms for pair in pairs_for(period_ms, target))


def within(pieces: Iterable[Piece], begin: int, end: int) -> Totals:
    """Milliseconds by class of `[begin, end)`."""
    return totals((max(a, begin), min(b, end), part) for a, b, part in pieces if a < end and b > begin)


def burning(objective: Objective, rules: Rules, watched: Sequence[Watched], period: Span, now: int) -> list[Burning]:
    """The budget of all sites together first, then that of each.

    Whose promise it is, is watched: of all together where the objective is pooled, else of each site. A site that lost
    nothing within the widest window burns nothing, and is not looked at closer.
    """
    assert objective.target is not None
    target, pairs = objective.target, _pairs(objective, period)
    far = now - max(pair.long_ms for pair in pairs)
    bad = {Part.DOWN, Part.DEGRADED} if rules.degraded == "down" else {Part.DOWN}
    rows: list[Burning] = []
    total, ahead = Totals(), 0
    for one in watched:
        so_far = within(one.pieces, period[0], now)
        total, ahead = total + so_far, ahead + one.ahead_ms
        found: Sequence[Burn] = ()
        if objective.reach is not Reach.POOLED and any(part in bad and end > far for _, end, part in one.pieces):
            found = burns(_totals_of([one]), now, one.began, pairs, target, rules=rules)
        rows.append(Burning(one.site_id, budget(so_far, so_far.scheduled_ms + one.ahead_ms, target, rules), found))
    pooled: Sequence[Burn] = ()
    if objective.reach is Reach.POOLED and watched:
        pooled = burns(_totals_of(watched), now, min(one.began for one in watched), pairs, target, rules=rules)
    return [Burning(None, budget(total, total.scheduled_ms + ahead, target, rules), pooled), *rows]


def lowest(budgets: Iterable[tuple[int, int]]) -> Fraction | None:
    """The smallest share that is left of budgets, each (allowed, spent); None where nothing is allowed anywhere."""
    return min((Fraction(allowed - spent, allowed) for allowed, spent in budgets if allowed > 0), default=None)


# ------------------------------------------------------------------------------------------------------------
def _pairs(objective: Objective, period: Span) -> Sequence[Pair]:
    assert objective.target is not None
    found = pairs_for(period[1] - period[0], objective.target)
    if objective.thresholds is None:
        return found
    return [
        replace(pair, threshold=one, is_capped=False) for pair, one in zip(found, objective.thresholds, strict=True)
    ]


def _totals_of(watched: Sequence[Watched]) -> Callable[[int, int], Totals]:
    known: dict[Span, Totals] = {}

    def find(begin: int, end: int) -> Totals:
        if (begin, end) not in known:
            known[begin, end] = sum((within(one.pieces, begin, end) for one in watched), Totals())
        return known[begin, end]

    return find
