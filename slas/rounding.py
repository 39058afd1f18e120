"""How exact shares are shown: half to even at four places in files, down at two places to people. Pure, no Django."""

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

_EXACT = Context(prec=60)


def percent_4(share: Fraction | None) -> Decimal | None:
    """A share as a percentage with four places, rounded half to even; None stays None."""
    return None if share is None else _rounded(share, 4)


def percent_2(share: Fraction | None) -> Decimal | None:
    """A share as a percentage with two places, rounded down: 99.999 never shows as 100."""
    if share is None:
        return None
    scaled = share * 100 * 100
    return Decimal(scaled.numerator // scaled.denominator).scaleb(-2, _EXACT).quantize(Decimal("0.01"), ROUND_DOWN)


def _rounded(share: Fraction, places: int) -> Decimal:
    scaled = share * 100 * 10**places
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest
    if twice > scaled.denominator or (twice == scaled.denominator and whole % 2):
        whole += 1
    return Decimal(whole).scaleb(-places, _EXACT).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
