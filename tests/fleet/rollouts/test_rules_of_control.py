"""Rules 4 to 12: gates, failures, pauses, rollback, caps, windows, approvals, attempts and ends."""

from datetime import datetime, time, timedelta

import pytest

from fleet.rollouts.engine import commands, decide
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.commands import Choice, RefusedError
from fleet.rollouts.engine.facts import Hold, Origin, Progress, Taken
from fleet.rollouts.gates import Deadline, FailureLimit, Human, MinSample, SlaBudget, Soak, SuccessShare
from fleet.rollouts.plan import Action, Approvals, Caps, Expiries, Lane, Patience, Retry, Rollback, Times, Wave
from fleet.rollouts.states import Failure, Pause, RolloutState, StepState, Wait
from fleet.rollouts.windows import Calendar, Freeze, Weekly
from tests.fleet.rollouts.stage import START, Stage, make_plan, wave

STRICT = FailureLimit((), count=1)


def held_stage(**changes: object) -> Stage:
    """Wave 1 is held: one of its three sites failed."""
    stage = Stage(make_plan([wave(1, 3, STRICT), wave(4, 6)], **changes))
    stage.tick()
    stage.applied(1, 2)
    stage.fails(3)
    stage.tick()
    assert (stage.waves(), stage.rollout.state, stage.rollout.pause) == ("held pending", "paused", "held")
    return stage


# Rule 4: gates ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("canary", "failed", "state"), [(True, 1, "held"), (False, 1, "passed"), (False, 2, "held")])
def test_a_plan_that_names_no_gates_still_has_safe_ones(canary, failed, state):
    stage = Stage(make_plan([Wave("all", tuple(range(1, 21)), canary=canary)]))
    stage.tick()
    stage.applied(*range(1, 21 - failed))
    stage.fails(*range(21 - failed, 21))
    stage.tick()
    assert stage.waves() == state


def test_too_small_a_sample_is_inconclusive_and_holds():
    stage = Stage(make_plan([wave(1, 3, MinSample(3)), wave(4, 6)]))
    stage.dark(3, sent=False)
    stage.tick()
    stage.applied(1, 2)
    stage.tick()
    assert (stage.waves(), stage.rollout.pause) == ("held pending", "held")
    assert stage.rollout.reason == "inconclusive: 2 sites tried, 3 needed"


def test_a_wave_whose_sites_are_all_offline_is_held_and_never_passes():
    stage = Stage()
    stage.dark(1, 2, 3, sent=False)
    stage.run(2, every=1)
    assert (stage.waves(), stage.states()) == ("held pending", "catch_up catch_up catch_up queued queued queued")


def test_the_success_share_is_looked_at_only_at_the_gate():
    stage = Stage(make_plan([wave(1, 3, SuccessShare(0.6)), wave(4, 6)]))
    stage.tick()
    stage.fails(1)
    stage.tick()
    assert stage.waves() == "open pending"
    stage.applied(2, 3)
    stage.tick()
    assert stage.waves() == "passed open"


def test_a_limit_on_one_class_is_not_crossed_by_another():
    limit = FailureLimit((Failure.PULL_FAILED,), count=1)
    stage = Stage(make_plan([wave(1, 3, limit)]))
    stage.tick()
    stage.fails(1, failure=Failure.APPLY_FAILED)
    stage.tick()
    assert stage.waves() == "open"
    stage.fails(2, failure=Failure.PULL_FAILED)
    stage.tick()
    assert (stage.waves(), stage.db.evaluations[-1][1].sentence) == ("held", "1 failed (pull_failed), held at 1")


def test_a_crossed_limit_stops_the_claims_of_the_same_tick():
    stage = Stage(make_plan([wave(1, 9, STRICT)], caps=Caps(in_flight=2)))
    stage.tick()
    stage.fails(1)
    stage.tick()
    assert stage.states().split().count("queued") == 7


def test_limits_are_watched_while_the_rollout_is_paused():
    stage = Stage(make_plan([wave(1, 3, STRICT)]))
    stage.tick()
    stage.do(commands.pause, Pause.STOPPED, "lunch")
    stage.fails(1)
    stage.tick()
    assert (stage.waves(), stage.rollout.pause) == ("held", "stopped")
    with pytest.raises(RefusedError, match="choose to retry"):
        commands.resume(stage.db.head(), stage.now)


def test_limits_are_watched_in_the_soak():
    stage = Stage(make_plan([wave(1, 3, STRICT, Soak(3_600))]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.run(600)
    assert stage.waves() == "soaking"
    stage.site(2, conforms=False)
    stage.tick()
    assert stage.waves() == "held"


def test_a_regress_in_an_early_wave_holds_the_present_one():
    stage = Stage(make_plan([wave(1, 3, STRICT), wave(4, 6)]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    stage.site(1, conforms=False)
    stage.tick()
    assert stage.waves() == "passed held"


def test_a_wave_soaks_before_its_gate():
    stage = Stage(make_plan([wave(1, 3, Soak(3_600)), wave(4, 6)]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    stage.run(3_590)
    assert stage.waves() == "soaking pending"
    stage.run(40)
    assert stage.waves() == "passed open"


def test_a_wave_that_is_not_through_at_its_deadline_is_held():
    stage = Stage(make_plan([wave(1, 3, Deadline(3_600)), wave(4, 6)], times=Times(soak_s=0, apply_s=86_400)))
    stage.run(3_590)
    assert stage.waves() == "open pending"
    stage.run(90)
    assert stage.waves() == "held pending"


def test_a_person_at_the_gate():
    stage = Stage(make_plan([wave(1, 3, Human("are the tills well?")), wave(4, 6)]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    assert stage.rollout.reason == "inconclusive: a person has not answered"
    stage.do(commands.answer, 0, yes=False)
    assert stage.rollout.reason == "fail: a person said no"
    stage.do(commands.answer, 0, yes=True)
    assert stage.waves() == "passed open"


def test_the_sla_budget_gate_says_that_it_is_not_configured():
    stage = Stage(make_plan([wave(1, 3, SlaBudget(0.5))]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    assert stage.rollout.reason == "inconclusive: the SLA budget is not configured"


def test_every_evaluation_that_decided_is_kept_with_what_it_saw():
    stage = Stage()
    stage.tick()
    stage.applied(1, 2)
    stage.fails(3)
    stage.tick()
    (index, evaluation), *_ = stage.db.evaluations
    assert (index, evaluation.outcome) == (0, "pass")
    assert (evaluation.seen.proven, evaluation.seen.failed, evaluation.seen.size) == (2, {"apply_failed": 1}, 3)


# Rule 5: on failure -----------------------------------------------------------------------------------------
def test_resume_of_a_held_wave_must_choose():
    stage = held_stage()
    with pytest.raises(RefusedError, match="choose to retry what failed, to skip it, or to abort"):
        commands.resume(stage.db.head(), stage.now)
    with pytest.raises(RefusedError, match="A reason is needed"):
        commands.resume(stage.db.head(), stage.now, Choice.SKIP_FAILED)


def test_resume_with_retry_tries_what_failed_again_with_a_new_document():
    stage = held_stage()
    before = stage.step(3).document
    stage.do(commands.resume, Choice.RETRY)
    stage.tick()
    assert (stage.state(3), stage.step(3).document) == (StepState.CLAIMED, (before[0], before[1] + 1))
    stage.applied(3)
    stage.tick()
    assert stage.waves() == "passed open"


def test_resume_with_skip_goes_on_without_what_failed():
    stage = held_stage()
    stage.do(commands.resume, Choice.SKIP_FAILED, "shop is being rebuilt")
    assert (stage.state(3), stage.step(3).reason) == ("skipped", "shop is being rebuilt")
    assert stage.waves() == "passed open"


def test_skipping_the_wave_skips_what_is_left_of_it():
    stage = Stage(make_plan([wave(1, 9, STRICT), wave(10, 11)], caps=Caps(in_flight=2)))
    stage.tick()
    stage.fails(1)
    stage.tick()
    stage.do(commands.resume, Choice.SKIP_WAVE, "the region is closed")
    assert stage.states().split()[:9] == ["skipped", "claimed", *["skipped"] * 7]
    assert stage.waves() == "passed open"


def test_the_action_of_a_class_may_be_to_go_on():
    stage = Stage(make_plan([wave(1, 3, STRICT), wave(4, 6)], actions={Failure.NO_SPACE: Action.CONTINUE}))
    stage.tick()
    stage.fails(1, failure=Failure.NO_SPACE)
    stage.applied(2, 3)
    stage.tick()
    assert stage.waves() == "passed open"
    stage.applied(4, 5, 6)
    stage.tick()
    assert stage.rollout.state is RolloutState.PARTIALLY_SUCCEEDED


def test_the_action_of_a_class_may_be_to_roll_back_the_wave():
    stage = held_stage(actions={Failure.APPLY_FAILED: Action.ROLL_BACK_WAVE})
    stage.tick()
    assert stage.states() == "rolling_back rolling_back rolling_back queued queued queued"
    with pytest.raises(RefusedError, match="still going back"):
        commands.resume(stage.db.head(), stage.now, Choice.RETRY)
    stage.goes_back(1, 2, 3)
    stage.tick()
    assert (stage.rollout.state, stage.states().split()[:3]) == ("paused", ["rolled_back"] * 3)
    stage.do(commands.resume, Choice.RETRY)
    stage.tick()
    assert stage.states().split()[:3] == ["claimed"] * 3


def test_the_action_of_a_class_may_be_to_roll_back_all():
    plan = make_plan([wave(1, 3), wave(4, 6, STRICT), wave(7, 9)], actions={Failure.UNHEALTHY: Action.ROLL_BACK_ALL})
    stage = Stage(plan)
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    stage.fails(4, failure=Failure.UNHEALTHY)
    stage.run(3, every=1)
    assert (stage.rollout.state, stage.waves()) == ("rolling_back", "passed failed skipped")
    assert stage.states() == " ".join(["rolling_back"] * 6 + ["skipped"] * 3)
    stage.goes_back(*range(1, 7))
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLED_BACK


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
def done_stage(**changes: object) -> Stage:
    """Two waves of three sites, all proven."""
    stage = Stage(make_plan(**changes))
    for sites in ((1, 2, 3), (4, 5, 6)):
        stage.tick()
        stage.applied(*sites)
        stage.tick()
    assert stage.rollout.state is RolloutState.SUCCEEDED
    stage.given()
    return stage


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
    assert (stage.rollout.state, stage.rollout.reason) == ("rollback_failed", "1 sites could not go back")
    stage.do(commands.roll_back, "disk is free again")
    stage.tick()
    assert (stage.rollout.state, stage.state(6)) == ("rolling_back", "rolling_back")
    stage.goes_back(6)
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLED_BACK


def test_a_rollback_does_not_touch_a_site_that_a_newer_rollout_has():
    stage = done_stage()
    stage.site(1, taken=Taken.NEWER)
    stage.do(commands.roll_back, "the tills are slow")
    stage.tick()
    assert stage.state(1) is StepState.SUPERSEDED
    assert 1 not in [site for site, _ in stage.given()]


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


# Rule 10: approval ------------------------------------------------------------------------------------------
def waiting_stage(**changes: object) -> Stage:
    stage = Stage(make_plan(**changes), running=False)
    stage.do(commands.plan)
    stage.do(commands.submit)
    assert stage.rollout.state is RolloutState.AWAITING_APPROVAL
    return stage


def test_the_author_never_counts():
    stage = waiting_stage()
    stage.approve(1)
    stage.run(60)
    assert stage.rollout.state is RolloutState.AWAITING_APPROVAL
    stage.approve(2)
    stage.run(2, every=1)
    assert (stage.rollout.state, stage.rollout.approved_hash) == (RolloutState.RUNNING, stage.db.hash)


def test_one_person_counts_once_and_many_sites_need_two():
    stage = waiting_stage(waves=[wave(1, 51)])
    stage.approve(2)
    stage.approve(2)
    stage.run(60)
    assert stage.rollout.state is RolloutState.AWAITING_APPROVAL
    stage.approve(3)
    stage.run(2, every=1)
    assert stage.rollout.state is RolloutState.RUNNING


def test_a_plan_edited_after_approval_is_not_approved():
    stage = waiting_stage(start_at=START + timedelta(hours=1))
    stage.approve(2)
    stage.tick()
    assert stage.rollout.state is RolloutState.SCHEDULED
    stage.do(commands.edit)
    stage.db.hash = "sha256:" + "1" * 64
    stage.do(commands.plan)
    stage.do(commands.submit)
    stage.run(3_700)
    assert (stage.rollout.state, stage.given()) == (RolloutState.AWAITING_APPROVAL, [])


def test_a_running_rollout_whose_plan_is_not_the_approved_one_is_stopped():
    stage = Stage()
    stage.db.hash = "sha256:" + "1" * 64
    stage.run(60)
    assert (stage.rollout.state, stage.rollout.reason) == ("paused", "the plan is not the one that was approved")
    assert stage.given() == []


def test_a_provider_may_have_to_agree_for_its_own_sites():
    stage = waiting_stage(approvals=Approvals(providers=(7,)))
    stage.approve(2)
    stage.run(60)
    assert stage.rollout.state is RolloutState.AWAITING_APPROVAL
    stage.approve(3, provider=7)
    stage.run(2, every=1)
    assert stage.rollout.state is RolloutState.RUNNING


def test_approval_expires_before_the_start():
    stage = waiting_stage(start_at=START + timedelta(days=10))
    stage.approve(2, days=7)
    stage.run(8 * 86_400, every=3_600)
    assert (stage.rollout.state, stage.given()) == (RolloutState.EXPIRED, [])


def test_a_plan_that_nobody_approves_expires():
    stage = waiting_stage(expiries=Expiries(approval_s=3_600))
    stage.run(3_700)
    assert (stage.rollout.state, stage.rollout.reason) == ("expired", "1 more person must approve")


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
