"""Rules 4 and 5: what a wave must show, and what is done when it does not."""

import pytest

from fleet.rollouts.engine import commands
from fleet.rollouts.engine.commands import Choice, RefusedError
from fleet.rollouts.gates import (
    Deadline,
    FailureLimit,
    Human,
    Measure,
    MetricLimit,
    MinSample,
    SlaBudget,
    Soak,
    SuccessShare,
)
from fleet.rollouts.plan import Action, Caps, Times, Wave
from fleet.rollouts.states import Failure, Pause, RolloutState, StepState
from tests.fleet.rollouts.stage import STRICT, Stage, held_stage, make_plan, wave


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


def test_after_a_retry_a_person_is_asked_again():
    stage = Stage(make_plan([wave(1, 3, Human(), STRICT)]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    stage.do(commands.answer, 0, yes=False)
    stage.do(commands.resume, Choice.RETRY)
    assert stage.rollout.reason == "inconclusive: a person has not answered"


def test_the_sla_budget_gate_says_that_it_is_not_configured():
    stage = Stage(make_plan([wave(1, 3, SlaBudget(0.5))]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    assert stage.rollout.reason == (
        "inconclusive: the SLA budget is not configured: no contract promises availability for sites of this wave"
    )


@pytest.mark.parametrize(
    ("measure", "state", "sentence"),
    [
        (Measure(0.4), "passed", ""),
        (Measure(0.95), "held", "fail: cpu_ratio is 0.95, at most 0.9 allowed"),
        (Measure(None), "held", "inconclusive: cpu_ratio: there is no figure"),
        (Measure(None, "no answer from the database"), "held", "error: cpu_ratio: no answer from the database"),
    ],
)
def test_a_figure_that_lacks_or_cannot_be_asked_for_holds(measure, state, sentence):
    stage = Stage(make_plan([wave(1, 3, MetricLimit("cpu_ratio", at_most=0.9))]))
    stage.db.metrics["cpu_ratio"] = measure
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    assert (stage.waves(), stage.rollout.reason) == (state, sentence)


def test_the_sla_budget_gate_has_its_plug():
    for left, state in ((0.6, "passed"), (0.4, "held")):
        stage = Stage(make_plan([wave(1, 3, SlaBudget(0.5))]))
        stage.db.budget_left = Measure(left)
        stage.tick()
        stage.applied(1, 2, 3)
        stage.tick()
        assert stage.waves() == state


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


def test_the_worst_of_the_classes_that_failed_decides_what_is_done():
    actions = {Failure.PULL_FAILED: Action.CONTINUE, Failure.UNHEALTHY: Action.ROLL_BACK_ALL}
    stage = Stage(make_plan([wave(1, 5, FailureLimit((), count=2)), wave(6, 9)], actions=actions))
    stage.tick()
    stage.fails(1, failure=Failure.PULL_FAILED)
    stage.fails(2, failure=Failure.APPLY_FAILED)
    stage.fails(3, failure=Failure.UNHEALTHY)
    stage.tick()
    assert stage.rollout.state is RolloutState.ROLLING_BACK
