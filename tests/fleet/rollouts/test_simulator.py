"""The simulator: the same engine with a virtual clock, and what it costs."""

import gc
import io
import resource
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from fleet.rollouts.engine import commands
from fleet.rollouts.engine.facts import Site
from fleet.rollouts.gates import FailureLimit, SuccessShare
from fleet.rollouts.management.commands.simulate_rollout import made_up_plan
from fleet.rollouts.plan import Caps, Plan, Times, Wave, canonical
from fleet.rollouts.simulator import Behaviour, Database, Report, simulate
from fleet.rollouts.states import Failure, RolloutState, StepState
from tests.fleet.rollouts.stage import START, Stage, make_plan, wave


def play(plan: Plan, behaviour: Behaviour, **options: object) -> Report:
    ids = [site for planned in plan.waves for site in planned.sites]
    sites = [Site(id=i, provider=1 + i % 3, components=f"before {i}") for i in ids]
    return simulate(plan, sites, behaviour, START, **options)


def default_plan(sites: int, canary: int = 5, **changes: object) -> Plan:
    """A canary and the rest, with no gates but those that no wave goes without."""
    rest = tuple(range(canary + 1, sites + 1))
    waves = [Wave("canary", tuple(range(1, canary + 1)), canary=True), Wave("rest", rest)]
    return make_plan(waves, **{"caps": Caps(), "times": Times(soak_s=600), **changes})


def test_a_rollout_on_sites_that_work_succeeds():
    report = play(default_plan(60), Behaviour())
    assert (report.state, report.steps) == (RolloutState.SUCCEEDED, {"proven": 60})
    assert [(w.name, w.state, w.proven) for w in report.waves] == [("canary", "passed", 5), ("rest", "passed", 55)]


def test_the_same_seed_gives_the_same_rollout():
    behaviour = Behaviour(offline=0.2, failing={Failure.PULL_FAILED: 0.05}, darkenings=2.0)
    plan = default_plan(40, caps=Caps(in_flight=10))
    one, two, other = (play(plan, behaviour, seed=seed) for seed in (7, 7, 8))
    assert (one.steps, one.ended_at, one.ticks) == (two.steps, two.ended_at, two.ticks)
    assert one.ended_at != other.ended_at


def test_an_update_that_cuts_the_uplink_of_every_site_stops_in_wave_1():
    report = play(default_plan(1_000, canary=10), Behaviour(failing={Failure.LOST: 1.0}))
    assert [w.state for w in report.waves] == ["failed", "skipped"]
    assert (report.steps["failed"] <= 2, report.steps["failed"] + report.steps["skipped"]) == (True, 1_000)


def test_an_update_that_makes_every_site_ill_stops_in_wave_1():
    report = play(default_plan(1_000, canary=10), Behaviour(failing={Failure.UNHEALTHY: 1.0}))
    assert [w.state for w in report.waves] == ["failed", "skipped"]
    assert report.steps["failed"] <= 2


def test_an_update_that_cuts_uplinks_in_a_fleet_wide_wave_holds_at_the_default_limit():
    plan = make_plan([Wave("all", tuple(range(1, 1_001)))], caps=Caps())
    report = play(plan, Behaviour(failing={Failure.LOST: 1.0}))
    assert report.waves[0].state == "failed"
    assert report.steps["failed"] <= 22  # 20 in flight, and the slots that the first two freed


def test_liars_are_never_proven():
    report = play(default_plan(100, canary=10), Behaviour(liars=1.0))
    assert "proven" not in report.steps


def test_with_30_percent_offline_the_others_finish_and_the_rest_catches_up():
    plan = default_plan(300, caps=Caps(in_flight=100))
    behaviour = Behaviour(offline=0.3, never_back=0.2, back_after_s=86_400)
    report = play(plan, behaviour, wait_for_lane=True)
    assert report.state is RolloutState.SUCCEEDED
    assert report.steps["proven"] + report.steps["skipped"] == 300
    assert 5 <= report.steps["skipped"] <= 40  # those that never came back, when the lane expired
    assert report.ended_at - report.began_at >= timedelta(days=30)


def test_a_standard_that_reboots_is_proven_by_newer_boots():
    plan = default_plan(60, reboots=True, times=Times(soak_s=0, reboot_s=300))
    report = play(plan, Behaviour(reboot_s=(30.0, 240.0)))
    assert (report.state, report.steps) == (RolloutState.SUCCEEDED, {"proven": 60})


def test_a_rollback_in_the_middle_leads_every_touched_site_to_its_own_origin():
    def roll_back(database: Database, now: object) -> None:
        if database.rollout.state is RolloutState.RUNNING and database.count(StepState.PROVEN) >= 100:
            database.apply(commands.roll_back(database.head(), database.now, "slow tills"))
        databases.append(database)

    databases: list[Database] = []
    plan = default_plan(300, caps=Caps(in_flight=50), times=Times(soak_s=0))
    report = play(plan, Behaviour(), meanwhile=roll_back)
    assert report.state is RolloutState.ROLLED_BACK
    assert set(report.steps) == {"rolled_back", "skipped"}
    assert {site.components for site in databases[-1].sites.values()} == {f"before {i}" for i in range(1, 301)}


def test_a_tick_over_10_000_running_steps_costs_what_changed_and_not_what_is():
    """The engine's share of the 250 ms, with a database in memory; the fastest of several, on a shared machine."""
    stage = Stage(make_plan([wave(1, 10_000)], caps=Caps(in_flight=10_000)))
    while stage.db.count(StepState.CLAIMED) < 10_000:
        stage.tick()
    idle, busy = [], []
    gc.collect()
    for round_ in range(5):
        for times, changed in ((idle, range(0)), (busy, range(1 + 300 * round_, 301 + 300 * round_))):
            stage.applied(*changed)
            begin = time.perf_counter()
            stage.tick()
            times.append((time.perf_counter() - begin) * 1_000)
    assert stage.db.count(StepState.PROVEN) == 1_500
    assert min(idle) < 20
    assert min(busy) < 100


def test_the_command_plays_a_made_up_plan():
    out = io.StringIO()
    call_command("simulate_rollout", "--sites=200", "--waves=3", "--failing=0", "--offline=0", stdout=out)
    lines = out.getvalue().splitlines()
    assert [line.split()[:1] for line in lines[:3]] == [["canary"], ["wave"], ["wave"]]
    assert lines[3].startswith("succeeded after 0:")
    assert lines[3].endswith(": 200 proven")


def test_the_command_plays_a_plan_from_a_file_and_says_what_is_wrong_with_one(tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(canonical(default_plan(30)))
    out = io.StringIO()
    call_command("simulate_rollout", f"--plan={path}", "--failing=0", "--offline=0", stdout=out)
    assert "30 proven" in out.getvalue()
    path.write_text('{"name": 1}')
    with pytest.raises(CommandError, match="name: expected `str`, got `int`"):
        call_command("simulate_rollout", f"--plan={path}")
    with pytest.raises(CommandError, match="At least two waves"):
        call_command("simulate_rollout", "--waves=1")


@pytest.mark.full
def test_100_000_sites_in_50_waves_within_60_seconds_and_1_gib():
    plan = made_up_plan({"sites": 100_000, "waves": 50, "in_flight": 2_000, "soak": 600})
    begin = time.process_time()  # the machine's other work is not the simulator's
    report = play(plan, Behaviour(offline=0.05, failing={Failure.APPLY_FAILED: 0.005}))
    took_s = time.process_time() - begin
    assert {w.state for w in report.waves} == {"passed"}
    assert report.steps["proven"] > 95_000
    assert took_s < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20


def test_gates_of_a_made_up_plan_bound_failures():
    plan = made_up_plan({"sites": 100, "waves": 3, "in_flight": 10, "soak": 0})
    assert plan.waves[1].gates[:2] == (SuccessShare(0.95), FailureLimit((), share=0.05))
    assert plan.site_count == 100
