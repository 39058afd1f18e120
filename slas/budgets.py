"""Error budgets and burn alerts: how much of what was allowed is left, and whether it goes too fast. Pure.

The windows are those of Google's SRE workbook ("Alerting on SLOs", multiwindow, multi-burn-rate) for 30 days; for other
periods they grow and shrink with the period, so that an alert always means the same share of the budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from slas.engine import Rules, Totals

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
_BASE_MS = 30 * DAY_MS


@dataclass(frozen=True, slots=True)
class Budget:
    """Milliseconds that may be lost in the whole period, and that were; `left_ms` can go below zero."""

    allowed_ms: Fraction
    spent_ms: int

    @property
    def left_ms(self) -> Fraction:
        """What is left, signed."""
        return self.allowed_ms - self.spent_ms

    @property
    def left(self) -> Fraction | None:
        """The same as a share of what was allowed; None where nothing was."""
        return self.left_ms / self.allowed_ms if self.allowed_ms else None


@dataclass(frozen=True, slots=True)
class Pair:
    """Fires when the burn rate over both windows reaches `threshold`."""

    short_ms: int
    long_ms: int
    threshold: Fraction
    is_capped: bool = False


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair with the rates over its windows (None: nothing was measured there), and whether it fires."""

    pair: Pair
    short: Fraction | None
    long: Fraction | None
    fires: bool


PAIRS = (
    Pair(5 * MINUTE_MS, HOUR_MS, Fraction("14.4")),
    Pair(30 * MINUTE_MS, 6 * HOUR_MS, Fraction(6)),
    Pair(2 * HOUR_MS, DAY_MS, Fraction(3)),
    Pair(6 * HOUR_MS, 3 * DAY_MS, Fraction(1)),
)


def budget(so_far: Totals, scheduled_ms: int, target: Fraction, rules: Rules = Rules()) -> Budget:  # noqa: B008  (frozen)
    """The budget of a period of which `scheduled_ms` is the calendar's, whole; excluded time allows nothing."""
    return Budget((1 - target) * (scheduled_ms - so_far.excluded_ms), _lost_ms(so_far, rules))


def pairs_for(period_ms: int, target: Fraction) -> tuple[Pair, ...]:
    """The windows of a period. A threshold above 1 / (1 - target) could never fire: it is capped, and says so."""
    most = 1 / (1 - target) if target < 1 else None
    found = []
    for pair in PAIRS:
        is_capped = most is not None and pair.threshold > most
        threshold = most if most is not None and is_capped else pair.threshold
        short, long = (one * period_ms // _BASE_MS for one in (pair.short_ms, pair.long_ms))
        found.append(Pair(short, long, threshold, is_capped))
    return tuple(found)


def burn_rate(total: Totals, target: Fraction, rules: Rules = Rules()) -> Fraction | None:  # noqa: B008  (frozen)
    """How many times faster than allowed the budget goes; None where nothing was measured, or nothing is allowed."""
    known = total.scheduled_ms - total.excluded_ms - total.unknown_ms
    if not known or target >= 1:
        return None
    return Fraction(_lost_ms(total, rules), known) / (1 - target)


def burns(
    totals_of: Callable[[int, int], Totals],
    now: int,
    began: int,
    pairs: Sequence[Pair],
    target: Fraction,
    *,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    least_coverage: Fraction = Fraction(1, 2),
) -> list[Burn]:
    """Each pair at `now`; `totals_of(begin, end)` are the totals of a window, `began` is where history begins.

    None fires before a full long window of history exists, nor while less than `least_coverage` of it was measured.
    """
    found = []
    for pair in pairs:
        short, long = (totals_of(max(began, now - size), now) for size in (pair.short_ms, pair.long_ms))
        rates = [burn_rate(one, target, rules) for one in (short, long)]
        counted = long.scheduled_ms - long.excluded_ms
        is_covered = counted > 0 and Fraction(counted - long.unknown_ms, counted) >= least_coverage
        is_full = now - began >= pair.long_ms
        fires = is_full and is_covered and all(rate is not None and rate >= pair.threshold for rate in rates)
        found.append(Burn(pair, rates[0], rates[1], fires))
    return found


def _lost_ms(total: Totals, rules: Rules) -> int:
    return total.down_ms + (total.degraded_ms if rules.degraded == "down" else 0)
