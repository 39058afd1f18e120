"""Rules 1 to 3: success is proof, denominators are honest, and silence after a change is a failure."""

from datetime import timedelta
from typing import get_args

import pytest

from agent.protocol.desired import DesiredState
from fleet.rollouts.engine import commands
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.facts import PROGRESS_OF_AGENT, Progress, Taken
from fleet.rollouts.gates import FailureLimit
from fleet.rollouts.plan import Caps, Lane, Patience, Retry, Times
from fleet.rollouts.states import Failure, LaneState, RolloutState, StepState, Wait
from tests.fleet.rollouts.stage import Stage, make_plan, wave

ONE = [wave(1, 1)]
SOAK = Times(soak_s=600)


# Rule 1 -----------------------------------------------------------------------------------------------------
def test_a_rollout_succeeds_wave_by_wave():
    stage = Stage()
    stage.tick()
    assert stage.given() == [(1, DocumentKind.APPLY), (2, DocumentKind.APPLY), (3, DocumentKind.APPLY)]
    assert (stage.waves(), stage.rollout.state) == ("open pending", "running")
    stage.applied(1, 2, 3)
    stage.tick()
    assert stage.waves() == "passed open"
    stage.applied(4, 5, 6)
    stage.tick()
    assert (stage.waves(), stage.rollout.state) == ("passed passed", "succeeded")
    assert set(stage.states().split()) == {"proven"}


def test_a_step_goes_through_its_states_as_the_site_tells_them():
    stage = Stage(make_plan(ONE, times=SOAK, reboots=True))
    seen = []
    for progress in (Progress.STAGING, Progress.APPLYING, Progress.REBOOTING):
        stage.tick()
        seen.append(stage.state(1))
        stage.says(1, progress=progress)
    stage.tick()
    seen.append(stage.state(1))
    stage.says(1, progress=Progress.APPLIED)
    stage.tick()
    seen.append(stage.state(1))
    stage.applied(1)
    stage.tick()
    seen.append(stage.state(1))
    stage.run(601)
    seen.append(stage.state(1))
    assert seen == ["claimed", "staging", "applying", "rebooting", "verifying", "soaking", "proven"]


@pytest.mark.parametrize(
    "lacking",
    [
        {"conforms": False},
        {"up": False},
        {"document": (0, 0)},
        {"progress": Progress.APPLYING},
        {"report_at": None},
    ],
    ids=lambda lacking: next(iter(lacking)),
)
def test_without_each_part_of_the_proof_a_step_is_not_proven(lacking):
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.applied(1, **lacking)
    stage.run(120)
    assert stage.state(1) in (StepState.CLAIMED, StepState.APPLYING, StepState.VERIFYING)


def test_a_report_from_before_the_change_proves_nothing():
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.applied(1, report_at=stage.step(1).given_at - timedelta(seconds=1))
    stage.tick()
    assert stage.state(1) is StepState.VERIFYING


def test_a_kernel_is_proven_by_a_newer_boot():
    stage = Stage(make_plan(ONE, reboots=True), boot="first")
    stage.tick()
    stage.applied(1, boot="first")
    stage.tick()
    assert stage.state(1) is StepState.VERIFYING
    stage.applied(1, boot="second")
    stage.tick()
    assert stage.state(1) is StepState.PROVEN


def test_a_site_that_had_the_kernel_when_it_was_claimed_needs_no_newer_boot():
    stage = Stage(make_plan(ONE, reboots=True), boot="first", has_kernel=True)
    stage.tick()
    stage.applied(1, boot="first")
    stage.tick()
    assert stage.state(1) is StepState.PROVEN


def test_what_runs_the_standard_and_is_not_up_is_unhealthy():
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.applied(1, up=False)
    stage.run(400)
    assert (stage.state(1), stage.step(1).failure) == (StepState.FAILED, Failure.UNHEALTHY)


def test_a_site_that_says_applied_and_reports_the_old_digest_is_not_proven():
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.applied(1, conforms=False, components="before 1")
    stage.run(400)
    assert (stage.state(1), stage.step(1).failure) == (StepState.FAILED, Failure.APPLY_FAILED)
    assert stage.step(1).reason == "says that it applied, and does not run the standard"


def test_a_regress_in_the_soak_fails_the_step():
    stage = Stage(make_plan(ONE, times=SOAK))
    stage.tick()
    stage.applied(1)
    stage.run(300)
    assert stage.state(1) is StepState.SOAKING
    stage.site(1, conforms=False)
    stage.tick()
    assert (stage.state(1), stage.step(1).failure) == (StepState.FAILED, Failure.REGRESSED)


def test_a_site_that_does_not_stay_up_in_its_soak_is_unhealthy():
    stage = Stage(make_plan(ONE, times=SOAK))
    stage.tick()
    stage.applied(1)
    stage.run(300)
    stage.site(1, up=False)
    stage.tick()
    assert stage.step(1).failure is Failure.UNHEALTHY


def test_a_regress_after_the_proof_reopens_the_step_while_the_rollout_is_open():
    plan = make_plan(retries={Failure.REGRESSED: Retry(1, after_s=60)})
    stage = Stage(plan)
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    stage.site(2, conforms=False)
    stage.tick()
    assert (stage.waves(), stage.state(2)) == ("passed open", StepState.QUEUED)
    stage.run(61)
    assert stage.state(2) is StepState.CLAIMED
    stage.applied(2, 4, 5, 6)
    stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED


def test_after_the_end_a_regress_is_drift_and_not_the_rollouts():
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.site(1, conforms=False)
    stage.tick()
    assert (stage.rollout.state, stage.state(1)) == ("succeeded", "proven")


# Rule 2 -----------------------------------------------------------------------------------------------------
def test_offline_sites_wait_in_the_lane_and_keep_no_wave_open():
    stage = Stage()
    stage.dark(2, sent=False)
    stage.tick()
    assert stage.state(2) is StepState.CATCH_UP
    stage.applied(1, 3)
    stage.tick()
    assert stage.waves() == "passed open"
    stage.applied(4, 5, 6)
    stage.tick()
    assert (stage.rollout.state, stage.state(2)) == ("succeeded", "catch_up")


def test_a_site_that_comes_back_while_its_wave_is_open_joins_it_again():
    stage = Stage()
    stage.dark(2, sent=False)
    stage.tick()
    stage.site(2, reachable=True)
    stage.run(2, every=1)
    assert (stage.state(2), stage.step(2).lane) == (StepState.CLAIMED, False)


def test_after_the_end_a_site_catches_up_in_the_lane_and_changes_no_state():
    stage = Stage(make_plan([wave(1, 2)]))
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED
    stage.site(2, reachable=True)
    stage.run(2, every=1)
    assert (stage.state(2), stage.step(2).lane, stage.db.flight.by_lane) == ("claimed", True, {False: 0, True: 1})
    stage.fails(2)
    stage.tick()
    assert (stage.rollout.state, stage.state(2)) == ("succeeded", "failed")


def test_what_fails_in_the_lane_holds_no_wave():
    stage = Stage(make_plan([wave(1, 2, FailureLimit((), count=1)), wave(3, 4)]))
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.site(2, reachable=True)
    stage.run(2, every=1)
    stage.fails(2)
    stage.run(60)
    assert (stage.state(2), stage.waves()) == ("failed", "passed open")
    stage.applied(3, 4)
    stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED


def test_a_step_at_work_in_the_lane_keeps_no_rollout_open():
    stage = Stage()
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1, 3)
    stage.tick()
    stage.site(2, reachable=True)
    stage.run(2, every=1)
    stage.applied(4, 5, 6)
    stage.tick()
    assert (stage.rollout.state, stage.state(2), stage.step(2).lane) == ("succeeded", "claimed", True)
    stage.applied(2)
    stage.tick()
    assert stage.state(2) is StepState.PROVEN


def test_a_site_that_was_left_behind_for_more_than_silence_does_not_join_its_wave_again():
    plan = make_plan([wave(1, 2)], patience=Patience(defer_s=600), times=Times(soak_s=0, apply_s=7_200))
    stage = Stage(plan)
    stage.site(2, busy_until=stage.now + timedelta(days=1))
    stage.run(700)
    assert stage.state(2) is StepState.CATCH_UP
    stage.site(2, busy_until=None)
    stage.run(60)
    assert (stage.state(2), stage.waves()) == ("catch_up", "open")
    stage.applied(1)
    stage.run(3, every=1)
    assert (stage.state(2), stage.step(2).lane) == ("claimed", True)


def test_a_site_that_comes_back_while_its_wave_is_held_waits_for_what_people_choose():
    stage = Stage(make_plan([wave(1, 3, FailureLimit((), count=1))]))
    stage.dark(2, sent=False)
    stage.tick()
    stage.fails(1)
    stage.tick()
    stage.site(2, reachable=True)
    stage.run(60)
    assert (stage.waves(), stage.state(2)) == ("held", "catch_up")
    stage.do(commands.resume, commands.Choice.RETRY)
    stage.run(2, every=1)
    assert (stage.state(2), stage.step(2).lane) == ("claimed", False)


def test_the_lane_has_its_own_cap():
    stage = Stage(make_plan([wave(1, 9)], lane=Lane(in_flight=2)))
    stage.dark(*range(2, 10), sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    for site in range(2, 10):
        stage.site(site, reachable=True)
    stage.tick()
    stage.tick()
    assert stage.states().split().count("claimed") == 2


def test_the_lane_halts_at_its_own_failure_limit_until_a_person_reopens_it():
    stage = Stage(make_plan([wave(1, 5)], lane=Lane(in_flight=1, max_failed=2)))
    stage.dark(2, 3, 4, 5, sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    for site in (2, 3, 4, 5):
        stage.site(site, reachable=True)
    for site in (2, 3):
        stage.run(2, every=1)
        stage.fails(site)
    stage.run(60)
    assert (stage.rollout.lane, stage.rollout.state) == (LaneState.HALTED, RolloutState.SUCCEEDED)
    assert stage.states() == "proven failed failed catch_up catch_up"
    stage.do(commands.reopen_lane, "the registry was down")
    stage.tick()
    stage.tick()
    assert stage.states() == "proven skipped skipped claimed queued"


def test_the_lane_expires():
    stage = Stage(make_plan([wave(1, 2)], lane=Lane(expiry_s=3_600)))
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1)
    stage.run(3_700)
    assert (stage.state(2), stage.step(2).reason) == ("skipped", "offline until the lane's time was over")


def test_catch_up_met_by_a_newer_rollout_is_superseded():
    stage = Stage(make_plan([wave(1, 2)]))
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.site(2, taken=Taken.NEWER, reachable=True)
    stage.tick()
    assert (stage.state(2), stage.rollout.state) == (StepState.SUPERSEDED, RolloutState.SUCCEEDED)
    assert stage.given() == [(1, DocumentKind.APPLY)]


def test_with_30_percent_of_the_sites_offline_the_others_finish():
    stage = Stage(make_plan([wave(1, 10, canary=True), wave(11, 100)]))
    offline = [site for site in range(1, 101) if site % 10 in (1, 2, 3)]
    stage.dark(*offline, sent=False)
    stage.run(120)
    for _ in range(2):
        stage.applied(*[site for site in range(1, 101) if stage.state(site) is StepState.CLAIMED])
        stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED
    assert {state: stage.states().split().count(state) for state in ("proven", "catch_up")} == {
        "proven": 70,
        "catch_up": 30,
    }


# Rule 3 -----------------------------------------------------------------------------------------------------
def test_a_site_that_goes_dark_after_its_document_was_sent_is_in_doubt_and_then_lost():
    stage = Stage(make_plan(ONE, times=Times(soak_s=0, dark_after_s=600)))
    stage.tick()
    stage.dark(1)
    stage.tick()
    assert (stage.state(1), stage.step(1).slot) == (StepState.IN_DOUBT, True)
    stage.run(599)
    assert stage.state(1) is StepState.IN_DOUBT
    stage.run(2)
    assert (stage.state(1), stage.step(1).failure, stage.step(1).slot) == ("failed", "lost", False)
    assert (stage.waves(), stage.rollout.pause) == ("held", "held")


def test_a_declared_reboot_gives_the_silence_more_time():
    stage = Stage(make_plan(ONE, reboots=True, times=Times(soak_s=0, dark_after_s=600, reboot_s=900)))
    stage.tick()
    stage.dark(1)
    stage.tick()
    stage.run(1_490)
    assert stage.state(1) is StepState.IN_DOUBT
    stage.run(20)
    assert stage.step(1).failure is Failure.LOST


def test_a_site_that_was_dark_before_its_document_was_sent_was_offline():
    """The centre notices an absence late: such a step is withdrawn, and its document is never sent."""
    stage = Stage()
    stage.tick()
    stage.dark(2, sent=False)
    stage.tick()
    assert (stage.state(2), stage.step(2).wait, stage.step(2).slot) == ("catch_up", Wait.OFFLINE, False)


@pytest.mark.parametrize(
    ("progress", "state"),
    [(Progress.STAGING, "staging"), (Progress.APPLYING, "applying"), (Progress.APPLIED, "proven")],
)
def test_a_site_in_doubt_that_answers_is_where_it_says(progress, state):
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.dark(1)
    stage.tick()
    stage.applied(1, progress=progress)
    stage.tick()
    assert stage.state(1) == state


def test_a_site_in_doubt_that_has_not_begun_is_claimed_again_with_the_same_document():
    stage = Stage(make_plan(ONE))
    stage.tick()
    document = stage.step(1).document
    stage.dark(1)
    stage.tick()
    stage.site(1, reachable=True)
    stage.tick()
    assert (stage.state(1), stage.step(1).document) == (StepState.CLAIMED, document)


def test_a_lost_site_that_returns_on_this_tuple_is_verified_and_takes_no_slot():
    stage = Stage(make_plan([wave(1, 2)]))
    stage.tick()
    stage.applied(2)
    stage.dark(1)
    stage.run(700)
    assert stage.step(1).failure is Failure.LOST
    stage.applied(1)
    stage.tick()
    assert (stage.state(1), stage.step(1).failure, stage.step(1).slot) == (StepState.PROVEN, None, False)


def test_a_lost_site_that_returns_on_the_old_tuple_stays_lost():
    stage = Stage(make_plan(ONE))
    stage.tick()
    stage.dark(1)
    stage.run(700)
    stage.site(1, reachable=True)
    stage.tick()
    assert (stage.state(1), stage.step(1).failure) == (StepState.FAILED, Failure.LOST)


def test_a_site_that_is_silent_in_its_soak_begins_its_soak_anew_and_takes_no_slot():
    stage = Stage(make_plan(ONE, times=SOAK))
    stage.tick()
    stage.applied(1)
    stage.run(500)
    stage.dark(1)
    stage.tick()
    assert (stage.state(1), stage.step(1).slot) == (StepState.IN_DOUBT, False)
    stage.site(1, reachable=True)
    stage.tick()
    stage.run(590)
    assert (stage.state(1), stage.step(1).slot) == (StepState.SOAKING, False)
    stage.run(20)
    assert stage.state(1) is StepState.PROVEN


@pytest.mark.parametrize(
    ("changes", "failure"), [({"conforms": False}, Failure.REGRESSED), ({"up": False}, Failure.UNHEALTHY)]
)
def test_a_site_that_was_silent_in_its_soak_and_comes_back_worse_has_failed(changes, failure):
    stage = Stage(make_plan(ONE, times=SOAK))
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.dark(1)
    stage.tick()
    stage.site(1, reachable=True, **changes)
    stage.tick()
    assert (stage.state(1), stage.step(1).failure) == (StepState.FAILED, failure)


def test_an_update_that_cuts_the_uplink_of_every_site_stops_in_wave_1():
    stage = Stage(make_plan([wave(1, 5, canary=True), wave(6, 1_000)], caps=Caps()))
    for _ in range(40):
        claimed = [s.site for s in stage.db.steps.values() if s.state is StepState.CLAIMED]
        stage.dark(*claimed)
        stage.tick(30)
    touched = [step.site for step in stage.db.steps.values() if step.state is not StepState.QUEUED]
    assert (stage.waves(), stage.rollout.state, stage.rollout.pause) == ("held pending", "paused", "held")
    assert len(touched) <= 3
    assert set(touched) <= {1, 2, 3, 4, 5}
    assert stage.db.evaluations[-1][1].sentence == "1 failed (lost), held at 1"


@pytest.mark.parametrize(
    ("sites", "lost", "holds"), [(1_000, 2, False), (1_000, 3, True), (100, 1, False), (100, 2, True), (120, 2, False)]
)
def test_elsewhere_three_lost_sites_or_2_percent_hold(sites, lost, holds):
    stage = Stage(make_plan([wave(1, sites)], caps=Caps(in_flight=sites)))
    stage.run(5, every=1)
    stage.dark(*range(1, lost + 1))
    stage.run(700)
    assert stage.waves() == ("held" if holds else "open")


def test_patience_with_a_busy_site_ends_in_the_lane():
    stage = Stage(make_plan(patience=Patience(defer_s=600)))
    stage.site(2, busy_until=stage.now + timedelta(days=1))
    stage.tick()
    assert (stage.state(2), stage.step(2).wait) == (StepState.DEFERRED, Wait.BUSY)
    stage.applied(1, 3)
    stage.tick()
    assert stage.waves() == "open pending"
    stage.run(620)
    assert (stage.state(2), stage.step(2).wait, stage.waves()) == ("catch_up", Wait.BUSY, "passed open")


def test_every_word_of_an_agent_about_its_document_has_a_meaning():
    assert set(PROGRESS_OF_AGENT) == set(get_args(DesiredState))
