"""From figures to money: the settled figure of a burden of proof, the credit tier that it falls into, the amount. Pure.

Under `provider` the floor settles, under `operator` the ceiling. Under `open` what is proven stands and the ceiling
chooses the tier; what is not proven is UNDETERMINED, and yields nothing, until a manager decides on a figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction

from slas.engine import Figures, Verdict, verdict

_PRECISE = Context(prec=60, rounding=ROUND_HALF_EVEN)


class Burden(StrEnum):
    """Who bears time of which nothing is known."""

    PROVIDER = "provider"
    OPERATOR = "operator"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Settled:
    """`figure` chooses the tier; both are None where nothing was to be measured."""

    verdict: Verdict | None
    figure: Fraction | None


@dataclass(frozen=True, slots=True)
class Tier:
    """Below this share (between 0 and 1) so much of the fee is credited, as a share too."""

    below: Fraction
    credit: Fraction


def settle(shares: Figures, target: Fraction, burden: Burden, *, decided: Fraction | None = None) -> Settled:
    """What the contract makes of the figures. `decided` is a manager's, heard under `open` where nothing is proven."""
    found = verdict(shares, target)
    if found is None:
        return Settled(None, None)
    if burden is Burden.OPEN and found is Verdict.UNDETERMINED:
        if decided is None:
            return Settled(found, shares.ceiling)
        return Settled(Verdict.MET if decided >= target else Verdict.MISSED, decided)
    figure = shares.floor if burden is Burden.PROVIDER else shares.ceiling
    is_met = found is Verdict.MET if burden is Burden.PROVIDER else found is not Verdict.MISSED
    return Settled(Verdict.MET if is_met else Verdict.MISSED, figure)


def credit_share(settled: Settled, tiers: Sequence[Tier]) -> Fraction:
    """The share of the fee that is credited: that of the lowest tier that the figure is below, if it was MISSED."""
    if settled.verdict is not Verdict.MISSED or settled.figure is None:
        return Fraction(0)
    fitting = [tier for tier in tiers if settled.figure < tier.below]
    return min(fitting, key=lambda tier: tier.below).credit if fitting else Fraction(0)


def amount(
    fee: Decimal, share: Fraction, *, cap: Fraction = Fraction(1), part: Fraction = Fraction(1), places: int
) -> Decimal:
    """The credit in the fee's currency, of `places` decimal places, rounded half to even; at most `cap` of the fee.

    `part` is how much of the period the segment had, by calendar milliseconds: fee and cap count pro rata.
    """
    exact = Fraction(fee) * part * min(share, cap)
    with localcontext(_PRECISE):
        return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal(1).scaleb(-places))
