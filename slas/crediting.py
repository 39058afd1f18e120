"""What an objective that was missed brings back of the fee, by its scope. Pure.

Where the promise is for each site, the fee is spread over the sites by how long each was measured, and each site's own
figure finds its tier; else the figure of all of them together does.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from slas.currencies import PLACES
from slas.engine import Verdict
from slas.measuring import Result
from slas.settlement import Settled, amount, credit_share
from slas.states import Reach
from slas.terms import Objective


def share_of(result: Result) -> Fraction:
    """The share of the fee, between 0 and 1, before its cap."""
    tiers = result.objective.tiers
    if result.objective.reach is not Reach.EACH_SITE:
        return credit_share(result.settled, tiers) if result.verdict is Verdict.MISSED else Fraction(0)
    scheduled = sum(site.totals.scheduled_ms for site in result.sites)
    owed = sum((site.totals.scheduled_ms * credit_share(site.settled, tiers) for site in result.sites), Fraction(0))
    return owed / scheduled if scheduled else Fraction(0)


def share_by_count(objective: Objective, settled: Settled, sites: Iterable[Settled]) -> Fraction:
    """The same where the figure counts events, by what all of them and what each site's come to.

    Where the promise is for each site, every one of which anything is settled has the same part of the fee.
    """
    if objective.reach is not Reach.EACH_SITE:
        return credit_share(settled, objective.tiers)
    found = [credit_share(one, objective.tiers) for one in sites if one.verdict is not None]
    return sum(found, Fraction(0)) / len(found) if found else Fraction(0)


def part_of(begins: datetime, ends: datetime | None, begin: datetime, end: datetime) -> Fraction:
    """How much of `[begin, end)` a segment had: fees and caps count pro rata."""
    first, last = max(begins, begin), end if ends is None else min(ends, end)
    if last <= first:
        return Fraction(0)
    whole, own = end - begin, last - first
    return Fraction(round(own.total_seconds() * 1000), round(whole.total_seconds() * 1000))


def credit_of(result: Result, *, fee: Decimal, currency: str, part: Fraction) -> Decimal:
    """The credit in the fee's currency."""
    return credit_by(share_of(result), result.objective, fee=fee, currency=currency, part=part)


def credit_by(share: Fraction, objective: Objective, *, fee: Decimal, currency: str, part: Fraction) -> Decimal:
    """A share of the fee as money, at most the objective's cap."""
    return amount(fee, share, cap=objective.cap, part=part, places=PLACES[currency])
