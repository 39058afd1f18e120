"""Rules 8, 9 and 11: caps, windows, holds, attempts, and the clock."""

from datetime import datetime, time, timedelta

import pytest

from fleet.rollouts.engine import decide
from fleet.rollouts.engine.facts import Hold, Progress, Taken
from fleet.rollouts.plan import Caps, Lane, Patience, Retry, Times
from fleet.rollouts.states import Failure, StepState, Wait
from fleet.rollouts.windows import Calendar, Freeze, Weekly
from tests.fleet.rollouts.stage import START, Stage, make_plan, wave


# Rule 8: caps, windows, leases ------------------------------------------------------------------------------
def test_a_canary_wave_begins_with_one_site():
    stage = Stage(make_plan([wave(1, 50, canary=True)], caps=Caps()))
    stage.run(59, every=1)
    assert stage.states().split().count("claimed") == 1
    stage.run(3, every=1)
    assert stage.states().split().count("claimed") == 5


@pytest.mark.parametrize(("sites", "in_flight"), [(5, 1), (100, 10), (1_000, 20)])
def test_by_default_10_percent_or_20_sites_are_in_flight(sites, in_flight):
    stage = Stage(make_plan([wave(1, sites)], caps=Caps()))
    stage.run(30, every=1)
    assert stage.states().split().count("claimed") == in_flight


def test_soaking_frees_the_slot():
    stage = Stage(make_plan([wave(1, 3)], caps=Caps(in_flight=1), times=Times(soak_s=600)))
    stage.tick()
    stage.applied(1)
    stage.tick()
    assert stage.states() == "soaking claimed queued"


def test_a_cap_per_provider_does_not_hold_up_the_others():
    stage = Stage(make_plan([wave(1, 300)], caps=Caps(in_flight=100, per_provider=2)))
    for site in range(251, 301):
        stage.db.sites[site] = type(stage.db.sites[site])(id=site, provider=2)
        stage.change_step(site, provider=2)
    stage.run(3, every=1)
    claimed = [step.provider for step in stage.db.steps.values() if step.state is StepState.CLAIMED]
    assert sorted(claimed) == [1, 1, 2, 2]


def test_a_cap_per_region():
    stage = Stage(make_plan([wave(1, 9)], caps=Caps(in_flight=100, per_region=3)), region="north")
    stage.run(3, every=1)
    assert stage.states().split().count("claimed") == 3


def test_starts_per_minute():
    stage = Stage(make_plan([wave(1, 20)], caps=Caps(in_flight=100, starts_per_minute=5)))
    stage.run(50, every=1)
    assert stage.states().split().count("claimed") == 5
    stage.run(15, every=1)
    assert stage.states().split().count("claimed") == 10


def test_a_closed_window_defers_until_it_opens():
    night = Calendar((Weekly((0, 1, 2, 3, 4, 5, 6), time(22), time(23)),))
    stage = Stage(make_plan([wave(1, 2)], patience=Patience(defer_s=86_400)), zone="Europe/Berlin")
    stage.db.calendars[1] = night
    stage.tick()
    assert (stage.state(1), stage.step(1).wait) == (StepState.DEFERRED, Wait.WINDOW)
    assert stage.step(1).due_at == datetime(2026, 11, 23, 21, tzinfo=START.tzinfo)
    stage.run(13 * 3_600 - 60)
    assert stage.state(1) is StepState.DEFERRED
    stage.run(120)
    assert stage.states() == "claimed claimed"


def test_a_freeze_of_the_plan_defers_everywhere():
    calendar = Calendar(freezes=(Freeze(datetime.fromisoformat("2026-11-01T00:00"), None),))
    stage = Stage(make_plan(calendar=calendar))
    stage.tick()
    assert stage.states().split()[:3] == ["deferred"] * 3


def test_a_provider_that_holds_for_ever_does_not_hold_up_the_others_and_people_hear_of_it():
    stage = Stage(make_plan([wave(1, 3), wave(4, 6)], lane=Lane(expiry_s=5 * 86_400)))
    stage.site(2, provider=9)
    hold = Hold(id=1, reason="our busy season", until=START + timedelta(days=3_650), provider=9)
    stage.db.holds.append(hold)
    stage.tick()
    assert (stage.state(2), stage.step(2).reason) == (StepState.DEFERRED, "our busy season")
    stage.applied(1, 3)
    stage.run(4 * 3_600 + 60)
    assert (stage.state(2), stage.waves()) == ("catch_up", "passed open")
    stage.applied(4, 5, 6)
    stage.tick()
    assert (stage.rollout.state, stage.db.escalations) == ("succeeded", [])
    stage.run(72 * 3_600, every=60)
    assert stage.db.escalations == [(2, "not changed for 72 h: our busy season")]
    stage.run(2 * 86_400, every=60)
    assert (stage.state(2), stage.step(2).reason) == ("skipped", "held until the lane's time was over")


@pytest.mark.parametrize(
    ("severity", "people", "state"),
    [("security", {5, 6}, "claimed"), ("security", {5}, "deferred"), ("routine", {5, 6}, "deferred")],
)
def test_a_hold_is_overridden_by_two_people_for_a_standard_of_security_severity(severity, people, state):
    stage = Stage(make_plan([wave(1, 1)], severity=severity))
    until = START + timedelta(days=1)
    stage.db.holds.append(Hold(id=1, reason="no", until=until, overridden_by=frozenset(people)))
    stage.tick()
    assert stage.state(1) == state


def test_a_site_whose_budget_is_used_up_is_deferred():
    stage = Stage(make_plan([wave(1, 1)]), over_budget=True)
    stage.tick()
    assert (stage.state(1), stage.step(1).wait) == (StepState.DEFERRED, Wait.OVER_BUDGET)


def test_a_hold_ends_with_its_expiry():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.db.holds.append(Hold(id=1, reason="stock-taking", until=START + timedelta(hours=1)))
    stage.run(3_590)
    assert stage.state(1) is StepState.DEFERRED
    stage.run(40)
    assert stage.state(1) is StepState.CLAIMED


# Rule 9 and 11: concurrency, attempts -----------------------------------------------------------------------
def test_a_site_that_another_rollout_is_changing_waits():
    stage = Stage(taken=Taken.LOCKED)
    stage.tick()
    assert (stage.state(1), stage.step(1).reason) == (StepState.DEFERRED, "another rollout is changing it")


def test_two_ticks_at_once_claim_each_site_once():
    stage = Stage()
    stage.db.now = stage.now = stage.now + timedelta(seconds=1)
    stage.db.apply(decide(stage.db.snapshot(), stage.now))
    one, two = (decide(stage.db.snapshot(), stage.now) for _ in range(2))
    stage.db.apply(one)
    stage.db.apply(two)
    assert (len(stage.given()), stage.db.dropped) == (3, 6)
    assert [step.lease for step in stage.db.steps.values()] == [1, 1, 1, 0, 0, 0]


def test_a_site_that_still_says_applying_at_its_deadline_has_timed_out():
    stage = Stage(make_plan([wave(1, 1)], times=Times(soak_s=0, apply_s=1_800)))
    stage.tick()
    stage.says(1, progress=Progress.APPLYING)
    stage.run(1_790)
    assert stage.state(1) is StepState.APPLYING
    stage.run(40)
    assert stage.step(1).failure is Failure.TIMED_OUT


def test_an_expired_document_ends_its_attempt():
    stage = Stage(make_plan([wave(1, 1)], times=Times(soak_s=0, apply_s=86_400, document_s=600)))
    stage.run(590)
    assert stage.state(1) is StepState.CLAIMED
    stage.run(60)
    assert (stage.step(1).failure, stage.step(1).reason) == (Failure.TIMED_OUT, "its document expired")


def test_a_refused_document_is_a_failure_of_its_own_class():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.tick()
    stage.site(1, refused=stage.step(1).document, detail="signature")
    stage.tick()
    assert (stage.step(1).failure, stage.step(1).reason) == (Failure.REFUSED, "signature")


def test_a_document_that_overtakes_ours_supersedes_the_step():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.tick()
    stage.says(1, progress=Progress.APPLIED, document=(1, 99))
    stage.tick()
    assert stage.state(1) is StepState.SUPERSEDED


def test_retries_back_off_and_end():
    stage = Stage(make_plan([wave(1, 1)], retries={Failure.PULL_FAILED: Retry(3, after_s=60, max_s=150)}))
    waits = []
    for _ in range(4):
        stage.run(200, every=5)
        stage.fails(1, failure=Failure.PULL_FAILED)
        stage.tick()
        waits.append((stage.step(1).due_at - stage.now).total_seconds() if stage.step(1).due_at else None)
    assert waits == [60, 120, 150, None]
    assert stage.state(1) is StepState.FAILED


# The clock --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jump", [timedelta(hours=5), timedelta(hours=-5), timedelta(days=400)], ids=str)
def test_a_jump_of_the_clock_times_nobody_out(jump):
    stage = Stage(make_plan([wave(1, 2)]))
    stage.tick()
    stage.says(1, progress=Progress.APPLYING)
    stage.dark(2)
    stage.run(300)
    assert stage.states() == "applying in_doubt"
    stage.tick(jump.total_seconds())
    stage.run(300)
    assert stage.states() == "applying in_doubt"
    stage.run(301)
    assert stage.step(2).failure is Failure.LOST
    stage.run(1_300)
    assert stage.step(1).failure is Failure.TIMED_OUT


def test_time_in_which_nobody_watched_is_not_soaked():
    stage = Stage(make_plan([wave(1, 1)], times=Times(soak_s=600)))
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.tick(7_200)
    stage.run(590)
    assert stage.state(1) is StepState.SOAKING
    stage.run(20)
    assert stage.state(1) is StepState.PROVEN
