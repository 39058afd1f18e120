"""What users of other engines ask for and do not get: a test named after each request that belongs to rollouts."""

import re
from datetime import datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from fleet.rollouts.engine import commands
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.commands import RefusedError
from fleet.rollouts.engine.facts import Progress
from fleet.rollouts.gates import Human
from fleet.rollouts.plan import Approvals, Caps, Lane, Patience, Retry, Times
from fleet.rollouts.states import Failure, Pause, RolloutState, StepState, Wait
from fleet.rollouts.windows import Calendar, Weekly
from fleet.stack.state import ROOT
from tests.fleet.rollouts.stage import START, Stage, make_plan, wave


def test_hawkbit_693_a_stuck_device_times_out():
    stage = Stage(make_plan([wave(1, 10)], times=Times(soak_s=0, apply_s=1_800)))
    stage.tick()
    stage.says(1, progress=Progress.APPLYING)
    stage.applied(*range(2, 11))
    stage.run(1_900)
    assert (stage.step(1).failure, stage.rollout.state) == (Failure.TIMED_OUT, RolloutState.PARTIALLY_SUCCEEDED)


def test_hawkbit_3185_success_is_not_recorded_while_the_old_image_runs():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.tick()
    stage.applied(1, conforms=False, components="before 1")
    for _ in range(9):
        stage.run(30)
        assert stage.state(1) is StepState.VERIFYING
    stage.run(60)
    assert (stage.state(1), stage.rollout.state) == ("failed", "paused")


def test_hawkbit_672_a_rollout_keeps_to_time_windows():
    calendar = Calendar((Weekly((5, 6), time(1), time(5)),))  # at the weekend, at night, where the site is
    stage = Stage(make_plan([wave(1, 1)], calendar=calendar, patience=Patience(defer_s=30 * 86_400)), zone="Asia/Tokyo")
    begun = None
    while begun is None:
        stage.tick(60)
        begun = stage.step(1).begun_at
    opens = datetime(2026, 11, 27, 16, tzinfo=START.tzinfo)  # Saturday, 1:00 in Tokyo
    assert opens <= begun <= opens + timedelta(minutes=1)


def test_hawkbit_3251_a_failure_is_tried_again_with_back_off():
    stage = Stage(make_plan([wave(1, 1)], retries={Failure.PULL_FAILED: Retry(2, after_s=60)}))
    begun = []
    for _ in range(3):
        while stage.state(1) is not StepState.CLAIMED:
            stage.tick()
        begun.append(stage.step(1).begun_at)
        stage.fails(1, failure=Failure.PULL_FAILED)
        stage.tick()
    assert [round((b - a).total_seconds()) for a, b in pairwise(begun)] == [61, 121]
    assert (stage.state(1), stage.step(1).tries) == (StepState.FAILED, 2)


def test_hawkbit_offline_devices_do_not_stall_the_gate():
    stage = Stage()
    stage.dark(1, sent=False)
    stage.tick()
    stage.applied(2, 3)
    stage.tick()
    assert stage.waves() == "passed open"


def test_hawkbit_resume_after_an_error_does_not_silently_start_the_next_group():
    stage = Stage()
    stage.tick()
    stage.fails(1, 2, 3)
    stage.run(60)
    assert stage.waves() == "held pending"
    with pytest.raises(RefusedError):
        commands.resume(stage.db.head(), stage.now)


def test_rancher_fleet_2066_a_site_defers_while_it_is_busy():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.site(1, busy_until=START + timedelta(minutes=30))
    stage.run(1_750)
    assert (stage.state(1), stage.step(1).wait) == (StepState.DEFERRED, Wait.BUSY)
    stage.run(120)
    assert stage.state(1) is StepState.CLAIMED


def test_rancher_fleet_2066_a_site_that_is_not_busy_any_more_need_not_wait_for_its_lease():
    stage = Stage(make_plan([wave(1, 1)]))
    stage.site(1, busy_until=START + timedelta(hours=3))
    stage.tick()
    stage.site(1, busy_until=None)
    stage.run(2, every=1)
    assert stage.state(1) is StepState.CLAIMED


def test_rancher_fleet_594_one_offline_site_changes_nothing_for_the_others():
    stage = Stage(make_plan([wave(1, 5), wave(6, 10)]))
    stage.dark(3, sent=False)
    stage.tick()
    stage.applied(1, 2, 4, 5)
    stage.tick()
    stage.applied(*range(6, 11))
    stage.tick()
    assert stage.states() == "proven proven catch_up " + " ".join(["proven"] * 7)
    assert stage.rollout.state is RolloutState.SUCCEEDED


def test_argo_cd_17974_there_is_a_pause_button():
    stage = Stage(make_plan([wave(1, 4)], caps=Caps(in_flight=1)))
    stage.tick()
    stage.do(commands.pause, Pause.STOPPED, "the phone rings")
    stage.applied(1)
    stage.run(600)
    assert stage.states() == "proven queued queued queued"
    stage.do(commands.resume)
    assert stage.states() == "proven claimed queued queued"


def test_ocm_1198_a_wave_is_tested_before_the_next_and_can_be_rolled_back():
    stage = Stage(make_plan([wave(1, 3, Human("has the test team said yes?")), wave(4, 6)]))
    stage.tick()
    stage.applied(1, 2, 3)
    stage.tick()
    assert stage.waves() == "held pending"
    stage.do(commands.answer, 0, yes=False)
    stage.given()
    stage.do(commands.roll_back, "the test team said no")
    stage.tick()
    assert stage.given() == [(site, DocumentKind.ROLLBACK) for site in (1, 2, 3)]
    stage.goes_back(1, 2, 3)
    stage.tick()
    assert (stage.rollout.state, stage.states().split()[3:]) == ("rolled_back", ["skipped"] * 3)


def test_openwisp_firmware_upgrader_379_offline_devices_are_upgraded_when_they_come_back():
    stage = Stage(make_plan([wave(1, 2)], lane=Lane(expiry_s=30 * 86_400)))
    stage.dark(2, sent=False)
    stage.tick()
    stage.applied(1)
    stage.tick()
    stage.run(5 * 86_400, every=60)
    stage.site(2, reachable=True)
    stage.run(2, every=1)
    stage.applied(2)
    stage.tick()
    assert stage.states() == "proven proven"


def test_openwisp_firmware_upgrader_380_an_upgrade_can_be_scheduled():
    stage = Stage(make_plan([wave(1, 1)], start_at=START + timedelta(days=2)), running=False)
    stage.do(commands.plan)
    stage.do(commands.submit)
    stage.approve(2)
    stage.run(2 * 86_400 - 60)
    assert (stage.rollout.state, stage.given()) == (RolloutState.SCHEDULED, [])
    stage.run(120)
    assert stage.given() == [(1, DocumentKind.APPLY)]


def test_uptane_server_13_several_must_approve_and_each_may_veto():
    def waiting() -> Stage:
        stage = Stage(make_plan(approvals=Approvals(needed=3)), running=False)
        stage.do(commands.plan)
        stage.do(commands.submit)
        stage.approve(2)
        stage.approve(3)
        stage.run(60)
        assert stage.rollout.state is RolloutState.AWAITING_APPROVAL
        return stage

    agreed, vetoed = waiting(), waiting()
    agreed.approve(4)
    agreed.run(2, every=1)
    assert agreed.rollout.state is RolloutState.RUNNING
    vetoed.approve(4, yes=False)
    vetoed.approve(5)
    vetoed.run(2, every=1)
    assert (vetoed.rollout.state, vetoed.given()) == (RolloutState.REJECTED, [])


def test_uptane_server_13_a_veto_counts_until_the_start():
    stage = Stage(make_plan(start_at=START + timedelta(hours=1)), running=False)
    stage.do(commands.plan)
    stage.do(commands.submit)
    stage.approve(2)
    stage.tick()
    assert stage.rollout.state is RolloutState.SCHEDULED
    stage.approve(3, yes=False)
    stage.run(3_700)
    assert (stage.rollout.state, stage.given()) == (RolloutState.EXPIRED, [])


def test_the_docs_name_a_test_for_each_request():
    text = (ROOT / "docs" / "rollouts.md").read_text()
    listed = re.findall(r"`(test_\w+)`", text.partition("<!-- asked: begin -->")[2].partition("<!-- asked: end -->")[0])
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert len(listed) == 15
    assert [name for name in listed if f"def {name}(" not in written] == []
