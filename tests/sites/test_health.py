"""sites.health: two axes, written back begins, hysteresis of what is shown."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.health import AVAILABILITY, REACHABILITY, Change, Health, Policy, backoff, first, missed, report

T0 = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def play(events: str, health: Health | None = None, policy: Policy | None = None) -> tuple[Health, list[Change]]:
    """u, e, d: reports of up, degraded, down; x: a missed poll. One event every 30 s from T0 on."""
    health, changes = health or first(T0), []
    for number, event in enumerate(events):
        now = at(30 * number)
        verdict = {"u": "up", "e": "degraded", "d": "down"}.get(event)
        decision = (
            report(health, verdict, now, policy or Policy()) if verdict else missed(health, now, policy or Policy())
        )
        health = decision.health
        changes += decision.changes
    return health, changes


def test_first_good_report_begins_both_axes() -> None:
    health, changes = play("u")
    assert changes == [Change(REACHABILITY, "reachable", T0), Change(AVAILABILITY, "up", T0)]
    assert (health.shown, health.reachability, health.last_good_at) == ("up", "reachable", T0)


def test_two_misses_change_nothing() -> None:
    health, changes = play("uxx")
    assert changes[2:] == []
    assert (health.availability, health.reachability, health.shown, health.misses) == ("up", "reachable", "up", 2)


def test_third_miss_is_unreachable_and_unknown_from_the_last_good_report_and_never_down() -> None:
    health, changes = play("uuxxx")
    assert changes[2:] == [Change(REACHABILITY, "unreachable", at(30)), Change(AVAILABILITY, "unknown", at(30))]
    assert (health.availability, health.availability_since) == ("unknown", at(30))
    assert (health.shown, health.shown_since) == ("unknown", at(30))


def test_first_good_report_ends_unreachable() -> None:
    _, changes = play("uxxxxu")
    assert changes[4:] == [Change(REACHABILITY, "reachable", at(150)), Change(AVAILABILITY, "up", at(150))]


def test_further_misses_add_no_facts() -> None:
    assert len(play("uxxx")[1]) == len(play("uxxxxxxx")[1]) == 4


def test_site_that_never_answered_becomes_unreachable_from_its_begin() -> None:
    health, changes = play("xxx")
    assert changes == [Change(REACHABILITY, "unreachable", T0)]
    assert health.availability == "unknown"


def test_worse_is_shown_at_once() -> None:
    health, changes = play("ud")
    assert (health.shown, health.shown_since) == ("down", at(30))
    assert changes[-1] == Change(AVAILABILITY, "down", at(30))


def test_better_is_recorded_at_once_and_shown_after_two_reports_from_its_true_begin() -> None:
    health, changes = play("udu")
    assert health.shown == "down"
    assert changes[-1] == Change(AVAILABILITY, "up", at(60))
    health, _ = play("uduu")
    assert (health.shown, health.shown_since) == ("up", at(60))


def test_flapping_site_keeps_its_worse_state_on_display_while_every_flap_is_recorded() -> None:
    health, changes = play("u" + "du" * 10)
    assert health.shown == "down"
    assert len([change for change in changes if change.axis == AVAILABILITY]) == 21


def test_change_of_the_better_candidate_counts_anew() -> None:
    health, _ = play("udeu")
    assert (health.shown, health.candidate, health.candidate_count) == ("down", "up", 1)


def test_state_of_the_last_report_before_silence_may_last_no_time() -> None:
    _, changes = play("udxxx")
    assert [change.at for change in changes[2:]] == [at(30), at(30), at(30)]
    assert changes[-1] == Change(AVAILABILITY, "unknown", at(30))


@pytest.mark.parametrize(("misses", "intervals"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 4), (5, 4), (1000, 4)])
def test_backoff_never_exceeds_four_intervals(misses: int, intervals: int) -> None:
    assert backoff(misses) == intervals


@given(st.text("uedx", max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_whatever_happens_facts_are_in_order_and_axes_agree(events: str, misses: int, improve: int) -> None:
    policy = Policy(misses, improve)
    health, changes = play(events, policy=policy)
    for axis in (AVAILABILITY, REACHABILITY):
        own = [change for change in changes if change.axis == axis]
        assert all(one.at <= two.at and one.state != two.state for one, two in pairwise(own))
    assert "down" not in {change.state for change in changes} or "d" in events
    assert (health.reachability == "unreachable") <= (health.availability == "unknown")
    assert (health.availability == "unknown") <= (health.shown == "unknown")
    if events.endswith("u" * improve) and improve:
        assert health.shown == "up"
