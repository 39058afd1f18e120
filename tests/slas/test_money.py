"""Settlement, credits, budgets, burn alerts and percentiles, with numbers worked out by hand."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slas.budgets import DAY_MS, HOUR_MS, MINUTE_MS, PAIRS, budget, burn_rate, burns, pairs_for
from slas.engine import Figures, Rules, Totals, Verdict, figures
from slas.settlement import Burden, Settled, Tier, amount, credit_share, settle
from slas.survival import percentiles

TARGET = Fraction(999, 1000)
TIERS = (
    Tier(Fraction("0.999"), Fraction("0.05")),
    Tier(Fraction("0.995"), Fraction("0.10")),
    Tier(Fraction("0.98"), Fraction("0.25")),
)
# 1,000 ms of calendar: 2 ms down and 10 ms of which nothing is known.
UNSURE = figures(Totals(1000, 0, 10, 0, 0, 990))
PROVEN = figures(Totals(1000, 0, 10, 2, 0, 988))


# Settlement -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shares", "burden", "decided", "settled"),
    [
        (UNSURE, Burden.PROVIDER, None, Settled(Verdict.MISSED, Fraction(990, 1000))),
        (UNSURE, Burden.OPERATOR, None, Settled(Verdict.MET, Fraction(1))),
        (UNSURE, Burden.OPEN, None, Settled(Verdict.UNDETERMINED, Fraction(1))),
        (UNSURE, Burden.OPEN, Fraction(9985, 10000), Settled(Verdict.MISSED, Fraction(9985, 10000))),
        (UNSURE, Burden.OPEN, Fraction(1), Settled(Verdict.MET, Fraction(1))),
        (PROVEN, Burden.OPERATOR, None, Settled(Verdict.MISSED, Fraction(998, 1000))),
        (PROVEN, Burden.OPEN, Fraction(1), Settled(Verdict.MISSED, Fraction(998, 1000))),
        (Figures(None, None, None, None), Burden.PROVIDER, None, Settled(None, None)),
    ],
)
def test_the_burden_of_proof_settles(shares: Figures, burden: Burden, decided: Any, settled: Settled):
    assert settle(shares, TARGET, burden, decided=decided) == settled


@pytest.mark.parametrize(
    ("figure", "credit"),
    [("0.9989", "0.05"), ("0.995", "0.05"), ("0.99499", "0.10"), ("0.98", "0.10"), ("0.9799", "0.25"), ("0", "0.25")],
)
def test_the_lowest_tier_that_the_figure_is_below_counts(figure: str, credit: str):
    assert credit_share(Settled(Verdict.MISSED, Fraction(figure)), TIERS) == Fraction(credit)
    assert credit_share(Settled(Verdict.MISSED, Fraction(figure)), TIERS[::-1]) == Fraction(credit)


@pytest.mark.parametrize("verdict", [Verdict.MET, Verdict.UNDETERMINED, None])
def test_what_was_not_missed_is_not_credited(verdict: Verdict | None):
    assert credit_share(Settled(verdict, Fraction(1, 2)), TIERS) == 0


@pytest.mark.parametrize(
    ("fee", "share", "more", "places", "paid"),
    [
        ("1000.00", "0.05", {}, 2, "50.00"),
        ("0.50", "0.05", {}, 2, "0.02"),  # 0.025: half goes to the even cent
        ("0.30", "0.05", {}, 2, "0.02"),  # 0.015
        ("12345", "0.1", {}, 0, "1234"),  # yen: 1234.5
        ("1000.000", "0.0333335", {}, 3, "33.334"),  # dinar: 33.3335
        ("1000.00", "0.25", {"cap": Fraction("0.2")}, 2, "200.00"),
        ("900.00", "0.1", {"part": Fraction(15, 30)}, 2, "45.00"),
        ("100.00", "0.1", {"part": Fraction(1, 3)}, 2, "3.33"),
    ],
)
def test_credits_are_exact_to_the_minor_unit(fee: str, share: str, more: Any, places: int, paid: str):
    assert str(amount(Decimal(fee), Fraction(share), places=places, **more)) == paid


# Budgets ----------------------------------------------------------------------------------------------------
def test_a_budget_is_signed_and_of_the_whole_period():
    month = 30 * DAY_MS
    half = Totals(month // 2, DAY_MS, 0, 60 * MINUTE_MS, 5 * MINUTE_MS, month // 2 - DAY_MS - 65 * MINUTE_MS)
    found = budget(half, month, TARGET)
    assert found.allowed_ms == Fraction(29 * DAY_MS, 1000) == 2_505_600
    assert (found.spent_ms, found.left_ms) == (3_600_000, -1_094_400)
    assert found.left == Fraction(-1_094_400, 2_505_600)
    assert budget(half, month, TARGET, Rules(degraded="down")).spent_ms == 3_900_000
    assert budget(half, month, Fraction(1)).left is None


def test_windows_grow_and_shrink_with_the_period():
    assert pairs_for(30 * DAY_MS, TARGET) == PAIRS
    week = pairs_for(7 * DAY_MS, TARGET)
    assert (week[0].short_ms, week[0].long_ms) == (70_000, 840_000)
    assert [pair.threshold * pair.long_ms / (7 * DAY_MS) for pair in week] == [
        Fraction("0.02"),
        Fraction("0.05"),
        Fraction("0.1"),
        Fraction("0.1"),
    ]


def test_a_threshold_that_could_never_fire_is_capped():
    found = pairs_for(30 * DAY_MS, Fraction("0.9"))
    assert [(pair.threshold, pair.is_capped) for pair in found] == [(10, True), (6, False), (3, False), (1, False)]


def test_burn_rates_by_hand():
    assert burn_rate(Totals(100_000, 0, 0, 720, 0, 99_280), TARGET) == Fraction("7.2")
    assert burn_rate(Totals(100_000, 0, 50_000, 720, 0, 49_280), TARGET) == Fraction("14.4")
    assert burn_rate(Totals(100, 0, 100, 0, 0, 0), TARGET) is None
    assert burn_rate(Totals(100, 0, 0, 1, 0, 99), Fraction(1)) is None


def test_alerts_need_both_windows_history_and_coverage():
    now, target = 10 * DAY_MS, Fraction("0.99")

    def down_since(begin: int, unknown: int = 0) -> Any:
        def totals_of(a: int, b: int) -> Totals:
            down = max(0, b - max(a, begin))
            hidden = min(b - a - down, unknown)
            return Totals(b - a, 0, hidden, down, 0, b - a - down - hidden)

        return totals_of

    def fires(totals_of: Any, began: int = 0) -> list[bool]:
        return [one.fires for one in burns(totals_of, now, began, PAIRS, target)]

    assert fires(down_since(now)) == [False] * 4
    # 14.4 % of an hour are 518.4 s; 6 % of six hours 1,296 s; 3 % of a day 2,592 s; 1 % of three days 2,592 s.
    assert fires(down_since(now - 519_000)) == [True, False, False, False]
    assert fires(down_since(now - 1_300_000)) == [True, True, False, False]
    assert fires(down_since(now - 2_600_000)) == [True, True, True, True]
    assert fires(down_since(now - 2_600_000), began=now - 6 * HOUR_MS) == [True, True, False, False]
    assert fires(down_since(now - 519_000, unknown=2_000_000)) == [False, False, False, False]


# Percentiles ------------------------------------------------------------------------------------------------
def test_percentiles_with_some_that_go_on():
    # The example of the method: 1, 2 and 4 ended, 3 and 5 go on. Lasting: 4/5, 3/5, and at 4 a half of the rest.
    found = [(1, True), (2, True), (3, False), (4, True), (5, False)]
    shares = [Fraction(1, 5), Fraction(2, 5), Fraction(1, 2), Fraction(7, 10), Fraction(3, 4)]
    assert percentiles(found, shares) == (1, 2, 4, 4, None)


def test_nothing_and_nothing_ended_have_no_percentiles():
    assert percentiles([]) == (None, None, None)
    assert percentiles([(5, False)] * 3) == (None, None, None)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_when_all_ended_it_is_the_plain_percentile(durations: list[int]):
    ordered = sorted(durations)
    wanted = tuple(ordered[-(-len(ordered) * share // 100) - 1] for share in (50, 90, 99))
    assert percentiles((one, True) for one in durations) == wanted


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=30), st.randoms())
def test_order_does_not_matter(durations: list[tuple[int, bool]], dice: Any):
    before = percentiles(durations)
    dice.shuffle(durations)
    assert percentiles(durations) == before
