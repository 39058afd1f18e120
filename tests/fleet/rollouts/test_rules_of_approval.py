"""Rule 10: who must agree, and to what."""

from datetime import timedelta

from msgspec.structs import replace

from fleet.rollouts.engine import commands
from fleet.rollouts.engine.approvals import Verdict, verdict
from fleet.rollouts.engine.facts import Approval
from fleet.rollouts.plan import Approvals, Expiries
from fleet.rollouts.states import RolloutState
from tests.fleet.rollouts.stage import START, Stage, make_plan, wave


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
    stage.run(4 * 86_400, every=60)
    assert (stage.rollout.state, stage.given()) == ("aborted", [])


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


def test_what_is_lacking_is_said_with_the_names_of_providers():
    plan = make_plan(approvals=Approvals(needed=3, providers=(7, 9)))
    said = Approval(person=2, plan_hash="h", yes=True, provider=9, expires_at=START + timedelta(hours=1))
    found = verdict(plan, "h", [said], START)
    assert (found.people, found.providers, found.is_approved) == (2, (7,), False)
    assert found.missing({7: "North"}) == "2 more people must approve; provider North must approve"
    assert found.missing() == "2 more people must approve; provider 7 must approve"
    assert verdict(plan, "h", [replace(said, yes=False)], START) == Verdict(rejected=True)
    assert verdict(make_plan(), "h", [said], START) == Verdict()
    assert Verdict().missing() == ""
