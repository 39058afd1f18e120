"""Percentiles of durations of which some have not ended: the Kaplan-Meier estimate, exact. Pure.

E. L. Kaplan and P. Meier, "Nonparametric Estimation from Incomplete Observations", JASA 53 (1958): the share that lasts
beyond t is the product of (1 - ended / at risk) over all times up to t. What has not ended is at risk until then.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

PERCENTILES = (Fraction(50, 100), Fraction(90, 100), Fraction(99, 100))


def percentiles(
    durations: Iterable[tuple[int, bool]], shares: Sequence[Fraction] = PERCENTILES
) -> tuple[int | None, ...]:
    """The first duration by which each share has ended; None where that is not reached.

    `durations` are (milliseconds, whether it has ended). One that ends and one that goes on at the same time: the end
    comes first, as the authors have it.
    """
    ended: Counter[int] = Counter()
    gone_on: Counter[int] = Counter()
    for duration, has_ended in durations:
        (ended if has_ended else gone_on)[duration] += 1
    at_risk = ended.total() + gone_on.total()
    lasting = Fraction(1)
    steps: list[tuple[int, Fraction]] = []
    for duration in sorted(ended.keys() | gone_on.keys()):
        if ended[duration]:
            lasting *= Fraction(at_risk - ended[duration], at_risk)
            steps.append((duration, 1 - lasting))
        at_risk -= ended[duration] + gone_on[duration]
    return tuple(next((duration for duration, share in steps if share >= wanted), None) for wanted in shares)
