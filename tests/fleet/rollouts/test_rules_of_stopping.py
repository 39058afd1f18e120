"""Rules 6, 7 and 12: pauses, abort, expiries, rollback and ends."""

from datetime import timedelta

import pytest

from fleet.rollouts.engine import commands
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.commands import Choice, RefusedError
from fleet.rollouts.engine.facts import Origin, Progress, Taken
from fleet.rollouts.plan import Action, Caps, Expiries, Retry, Rollback, Times
from fleet.rollouts.states import Failure, Pause, RolloutState, StepState
from tests.fleet.rollouts.stage import START, STRICT, Stage, done_stage, held_stage, make_plan, wave


# Rule 6: pauses, abort, expiries ----------------------------------------------------------------------------
def test_stop_claims_nothing_more_and_lets_what_is_at_work_finish():
    stage = Stage(make_plan([wave(1, 6)], caps=Caps(in_flight=2)))
    stage.tick()
    stage.do(commands.pause, Pause.STOPPED, "lunch")
    stage.applied(1, 2)
    stage.run(60)
    assert stage.states() == "proven proven queued queued queued queued"
    stage.do(commands.resume)
    assert stage.states() == "proven proven claimed claimed queued queued"


def test_freeze_holds_sites_at_their_next_safe_point_and_thaw_lets_them_go_on():
    stage = Stage(make_plan([wave(1, 3)]))
    stage.tick()
    stage.says(1, 2, progress=Progress.STAGING)
    stage.applied(3)
    stage.tick()
    stage.given()
    stage.do(commands.pause, Pause.FROZEN, "strange smell")
    assert stage.given() == [(1, DocumentKind.FREEZE), (2, DocumentKind.FREEZE)]
    stage.says(1, 2, progress=Progress.HELD)
    stage.run(3 * 3_600)
    assert stage.states() == "staging staging proven"
    stage.do(commands.resume)
    assert stage.given() == [(1, DocumentKind.THAW), (2, DocumentKind.THAW)]
    stage.run(60)
    assert stage.states() == "staging staging proven"
    stage.applied(1, 2)
    stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED


def test_abort_lets_what_is_at_work_finish():
    stage = Stage(make_plan([wave(1, 4)], caps=Caps(in_flight=2)))
    stage.tick()
    stage.do(commands.abort, "wrong standard")
    assert (stage.rollout.state, stage.states()) == ("aborting", "claimed claimed skipped skipped")
    stage.applied(1, 2)
    stage.tick()
    assert (stage.rollout.state, stage.states()) == ("aborted", "proven proven skipped skipped")


def test_what_fails_after_an_abort_is_not_tried_again():
    stage = Stage(make_plan([wave(1, 2)], retries={Failure.PULL_FAILED: Retry(3)}))
    stage.tick()
    stage.do(commands.abort, "wrong standard")
    stage.fails(1, 2, failure=Failure.PULL_FAILED)
    stage.tick()
    assert (stage.rollout.state, stage.states()) == ("aborted", "failed failed")


def test_abort_may_send_back_what_is_at_work():
    stage = Stage(make_plan([wave(1, 4)], caps=Caps(in_flight=2), abort="roll_back", times=Times(soak_s=600)))
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.do(commands.abort, "wrong standard")
    stage.tick()
    assert stage.states() == "soaking rolling_back rolling_back skipped"
    stage.goes_back(2, 3)
    stage.tick()
    stage.tick()
    assert stage.states() == "rolling_back rolled_back rolled_back skipped"
    stage.goes_back(1)
    stage.tick()
    assert stage.rollout.state is RolloutState.ABORTED


@pytest.mark.parametrize("before", ["running", "held", Pause.STOPPED, Pause.FROZEN])
def test_a_person_sends_one_wave_back_and_chooses_then(before: str | Pause):
    stage = Stage(make_plan([wave(1, 2), wave(3, 4, STRICT), wave(7, 8)]))
    stage.tick()
    stage.applied(1, 2)
    stage.tick()
    assert (stage.waves(), stage.states()) == (
        "passed open pending",
        "proven proven claimed claimed queued queued",
    )
    if before == "held":
        stage.fails(3)
        stage.tick()
    elif isinstance(before, Pause):
        stage.do(commands.pause, before, "let us look")
        stage.tick()
    stage.do(commands.roll_back_wave, "the tills are slow")
    stage.tick()
    assert (str(stage.rollout.state), stage.rollout.pause, stage.waves()) == ("paused", "held", "passed held pending")
    assert stage.rollout.reason == "the tills are slow"
    assert stage.states() == "proven proven rolling_back rolling_back queued queued"
    with pytest.raises(RefusedError, match="was rolled back"):
        commands.roll_back_wave(stage.db.head(), stage.now, "again")
    with pytest.raises(RefusedError, match="still going back"):
        commands.resume(stage.db.head(), stage.now, Choice.RETRY)
    stage.goes_back(3, 4)
    stage.tick()
    assert stage.states() == "proven proven rolled_back rolled_back queued queued"
    stage.do(commands.resume, Choice.SKIP_WAVE, "not in this region")
    stage.tick()
    assert stage.waves() == "passed passed open"


def test_no_wave_is_sent_back_where_none_is_open_and_never_without_a_reason():
    stage = done_stage()
    with pytest.raises(RefusedError, match="cannot pause"):
        commands.roll_back_wave(stage.db.head(), stage.now, "too late")
    stage = Stage(make_plan([wave(1, 2)]))
    stage.tick()
    with pytest.raises(RefusedError, match="reason is needed"):
        commands.roll_back_wave(stage.db.head(), stage.now, " ")


def test_a_row_that_is_in_two_lists_of_a_tick_is_moved_once():
    stage = Stage(make_plan([wave(1, 4)], caps=Caps(in_flight=2), abort="roll_back"))
    stage.tick()
    stage.given()
    stage.fails(1)
    stage.do(commands.abort, "wrong standard")
    assert (stage.states(), stage.db.dropped) == ("failed rolling_back skipped skipped", 0)
    assert stage.given() == [(2, DocumentKind.ROLLBACK)]


def test_a_site_that_falls_silent_before_its_rollback_was_sent_frees_its_slot_at_once():
    stage = done_stage()
    stage.db.plan = make_plan(caps=Caps(in_flight=1))
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    first = next(step.site for step in stage.db.steps.values() if step.state is StepState.ROLLING_BACK)
    stage.dark(first, sent=False)
    stage.tick()
    assert stage.state(first) is StepState.ROLLBACK_WAITING
    second = next(step.site for step in stage.db.steps.values() if step.state is StepState.ROLLING_BACK)
    stage.dark(second, sent=True)
    stage.run(300)
    assert stage.state(second) is StepState.ROLLING_BACK
    stage.run(400)
    assert stage.state(second) is StepState.ROLLBACK_WAITING


def test_abort_of_a_frozen_rollout_thaws_what_is_to_finish():
    stage = Stage(make_plan([wave(1, 2)]))
    stage.tick()
    stage.do(commands.pause, Pause.FROZEN, "strange smell")
    stage.given()
    stage.do(commands.abort, "wrong standard")
    assert stage.given() == [(1, DocumentKind.THAW), (2, DocumentKind.THAW)]


@pytest.mark.parametrize(("on_expiry", "state"), [("abort", "aborted"), ("fail", "failed")])
def test_a_pause_expires_so_a_rollout_always_ends(on_expiry, state):
    stage = held_stage(expiries=Expiries(pause_s=3_600, on_expiry=on_expiry))
    stage.run(3_700)
    assert (stage.rollout.state, stage.rollout.reason) == (state, "nobody decided in time")
    assert stage.states() == "proven proven failed skipped skipped skipped"


def test_a_pause_is_never_longer_than_the_plan_allows():
    stage = Stage(make_plan(expiries=Expiries(pause_s=3_600)))
    stage.tick()
    stage.do(commands.pause, Pause.STOPPED, "holidays", 90 * 86_400)
    assert stage.rollout.until == stage.now - timedelta(seconds=1) + timedelta(hours=1)


# Rule 7: rollback -------------------------------------------------------------------------------------------
def test_a_rollback_leads_each_site_to_its_own_origin():
    stage = done_stage()
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert {step.origin_components for step in stage.db.steps.values()} == {f"before {i}" for i in range(1, 7)}
    stage.goes_back(1, 2, 3, 4, 5)
    stage.says(6, progress=Progress.APPLIED, components="before 1")
    stage.tick()
    assert stage.states() == "rolled_back rolled_back rolled_back rolled_back rolled_back rolling_back"
    stage.goes_back(6)
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLED_BACK


def test_a_rollback_goes_newest_wave_first_and_keeps_the_caps():
    stage = done_stage(caps=Caps(in_flight=4))
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert stage.given() == [(site, DocumentKind.ROLLBACK) for site in (4, 5, 6, 1)]


def test_without_an_origin_a_site_is_left_or_trusts_its_agents_last_good_state():
    stage = done_stage()
    stage.change_step(1, origin=Origin.NONE)
    stage.change_step(2, origin=Origin.LAST_GOOD)
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert (stage.state(1), stage.step(1).reason) == (StepState.SKIPPED, "no_origin")
    stage.goes_back(3, 4, 5, 6)
    stage.says(2, progress=Progress.APPLIED, components="whatever it had")
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLED_BACK


def test_offline_sites_wait_and_go_back_when_they_return_after_the_rollback_has_ended():
    stage = done_stage()
    stage.dark(2)
    stage.tick()
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert stage.state(2) is StepState.ROLLBACK_WAITING
    stage.goes_back(1, 3, 4, 5, 6)
    stage.tick()
    assert (stage.rollout.state, stage.state(2)) == ("rolled_back", "rollback_waiting")
    stage.site(2, reachable=True)
    stage.tick()
    assert stage.state(2) is StepState.ROLLING_BACK
    stage.goes_back(2)
    stage.tick()
    assert (stage.rollout.state, stage.state(2)) == ("rolled_back", "rolled_back")


def test_a_rollback_waits_for_nothing_unless_the_plan_says_so():
    for respects, state in (((), "rolling_back"), (("busy",), "rollback_waiting")):
        stage = done_stage(rollback=Rollback(respects=respects))
        stage.site(1, busy_until=stage.now + timedelta(hours=1))
        stage.tick()
        stage.do(commands.roll_back, "the tills are slow")
        stage.tick()
        assert stage.state(1) == state


def test_a_rollback_that_fails_can_be_tried_again():
    stage = done_stage()
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    stage.goes_back(1, 2, 3, 4, 5)
    stage.fails(6)
    stage.tick()
    assert (stage.rollout.state, stage.rollout.reason) == ("rollback_failed", "1 site could not go back")
    stage.do(commands.roll_back, "disk is free again")
    stage.tick()
    assert (stage.rollout.state, stage.state(6)) == ("rolling_back", "rolling_back")
    stage.goes_back(6)
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLED_BACK


def test_a_rollback_keeps_the_start_rate():
    stage = done_stage(caps=Caps(in_flight=100))
    stage.db.plan = stage.plan = make_plan(caps=Caps(in_flight=100, starts_per_minute=2))
    stage.run(60)
    stage.do(commands.roll_back, "the tills are slow")
    stage.run(50, every=1)
    assert stage.states().split().count("rolling_back") == 2
    stage.run(15, every=1)
    assert stage.states().split().count("rolling_back") == 4


def test_a_wave_that_was_rolled_back_is_not_asked_again():
    stage = held_stage(actions={Failure.APPLY_FAILED: Action.ROLL_BACK_WAVE})
    stage.tick()
    stage.goes_back(1, 2, 3)
    stage.tick()
    with pytest.raises(RefusedError, match="was rolled back"):
        commands.resume(stage.db.head(), stage.now, Choice.RECHECK)
    with pytest.raises(RefusedError, match="was rolled back"):
        commands.answer(stage.db.head(), stage.now, 0, yes=True)


def test_a_rollback_does_not_touch_a_site_that_a_newer_rollout_has():
    stage = done_stage()
    stage.site(1, taken=Taken.NEWER)
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert stage.state(1) is StepState.SUPERSEDED
    assert 1 not in [site for site, _ in stage.given()]


# Rule 12: ends ----------------------------------------------------------------------------------------------
def test_a_rollout_with_failures_within_its_limits_succeeds_partly():
    stage = Stage(make_plan([wave(1, 3)]))
    stage.tick()
    stage.applied(1, 2)
    stage.fails(3)
    stage.tick()
    assert stage.rollout.state is RolloutState.PARTIALLY_SUCCEEDED


def test_a_deferred_step_keeps_the_rollout_open_and_a_lane_step_does_not():
    stage = Stage(make_plan([wave(1, 3)]))
    stage.site(3, busy_until=START + timedelta(hours=1))
    stage.tick()
    stage.applied(1, 2)
    stage.tick()
    assert stage.rollout.state is RolloutState.RUNNING
    stage.dark(3, sent=False)
    stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED
