"""Rollouts: how soon many sites are changed, how soon a button stops them, what a tick and a plan cost."""

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import polling
from bench.result import Figure, machine
from bench.stack import Stack
from fleet.stack.process import Program
from fleet.stack.state import ROOT

AT_REST, AT_REST_QUICK = 10_000, 2_000
ROLLED, ROLLED_QUICK, WAVES = 2_000, 400, 10
SIMULATED, SIMULATED_QUICK = (100_000, 50), (20_000, 20)
PLAN_AIM_S, TICK_AIM_MS, RATE_AIM, STOP_AIM_S, SIMULATOR_AIM_S, SIMULATOR_AIM_MIB = 2.0, 250.0, 50.0, 2.0, 60.0, 1024
AT_MOST_S = 900
Say = Callable[[str], None]
_STATE = "SELECT state, started_at, since FROM rollouts_rollout WHERE id = %s"
_STEPS = "SELECT state, count(*) FROM rollouts_sitestep WHERE rollout_id = %s GROUP BY 1 ORDER BY 1"
_WAVES = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
    SELECT extract(epoch FROM max(e.at) - w.opened_at)::float8 AS seconds FROM rollouts_wave w
    JOIN rollouts_rolloutevent e ON e.rollout_id = w.rollout_id AND e.wave = w.index AND e.event = 'go_on'
    WHERE w.rollout_id = %s GROUP BY w.index, w.opened_at) x
"""
_PRINTED = re.compile(r"computed in ([\d.]+) s of processor time, (\d+) MiB at most; (.*)")


def rollout_plan(say: Say, *, quick: bool) -> Figure:
    """Seconds from a recipe for all sites to its plan, its preview and its rows."""
    with AtRest(say, quick=quick) as stack:
        found = _roll(stack, "plan", WAVES)
    total_s = found["draft_s"] + found["preview_s"] + found["plan_s"]
    said = (
        f"{found['sites']:,} sites in {WAVES} waves: selected and cut {found['draft_s']:.2f} s, previewed "
        f"{found['preview_s']:.2f} s, checked and kept {found['plan_s']:.2f} s; {machine()}"
    )
    return Figure("rollout_plan", round(total_s, 2), "s", f"below {PLAN_AIM_S:g}", said, met=total_s < PLAN_AIM_S)


def rollout_tick(say: Say, *, quick: bool) -> Figure:
    """Milliseconds of one tick over steps that all run, 100 of whose sites have changed."""
    with AtRest(say, quick=quick) as stack:
        found = _roll(stack, "tick", 0, 10, 100)
    changed = {int(count): ms for count, ms in found["changed"].items()}
    parts = ", ".join(f"{count} changed {ms:.0f} ms" for count, ms in changed.items())
    said = (
        f"{stack.sites:,} running steps, by the clock, PostgreSQL included: {parts}; all claimed within "
        f"{found['claims_s']:.1f} s of ticks; steps at the end {found['steps']}; {machine()}"
    )
    value = changed[100]
    return Figure("rollout_tick", round(value), "ms", f"below {TICK_AIM_MS:g}", said, met=value < TICK_AIM_MS)


def rollout(say: Say, *, quick: bool) -> Figure:
    """Sites a second, from the first claim to the last proof, with no soak."""
    sites = ROLLED_QUICK if quick else ROLLED
    with Stack() as stack:
        _running(stack, sites)
        made = _roll(stack, "begin", WAVES, sites)
        say(f"{made['sites']:,} sites in {WAVES} waves")
        took_s, state = _until_over(stack, made["id"])
        (wave_s,) = stack.execute(_WAVES, [made["id"]])[0]
        steps = dict(stack.execute(_STEPS, [made["id"]]))
    rate = steps.get("proven", 0) / took_s
    said = (
        f"{made['sites']:,} simulated sites over mutual TLS in {WAVES} waves, one workload each: signed, handed over, "
        f"applied (0.5 to 2.5 s at the site), proven by its report, gates passed; {took_s:.1f} s, {wave_s:.1f} a wave; "
        f"{state}, {steps}; {machine()}"
    )
    is_met = rate > RATE_AIM and state == "succeeded"
    return Figure("rollout", round(rate, 1), "sites/s", f"above {RATE_AIM:g}", said, met=is_met)


def rollout_stop(say: Say, *, quick: bool) -> Figure:
    """Seconds from a press of the button to the moment after which no further site is claimed: the worst of several."""
    sites = ROLLED_QUICK if quick else ROLLED
    with Stack() as stack:
        _running(stack, sites)
        made = _roll(stack, "begin", 2, max(1, sites // 100))
        say("pressed again and again")
        presses = _roll(stack, "press", made["id"])["presses"]
    worst_s = max(max(press["answered_s"], press["last_claim_s"]) for press in presses)
    answered_s = max(press["answered_s"] for press in presses)
    late = sum(press["claims_after"] for press in presses)
    said = (
        f"{len(presses)} presses while {made['sites']:,} sites are rolled out to, {max(1, sites // 100)} at once: the "
        f"answer came within {answered_s:.2f} s, {late} claims after it; {machine()}"
    )
    return Figure(
        "rollout_stop", round(worst_s, 2), "s", f"below {STOP_AIM_S:g}", said, met=worst_s < STOP_AIM_S and not late
    )


def simulator(say: Say, *, quick: bool) -> list[Figure]:
    """Processor seconds and memory of a rollout that is played through with a virtual clock."""
    sites, waves = SIMULATED_QUICK if quick else SIMULATED
    with Stack() as stack:
        say(f"{sites:,} sites in {waves} waves")
        answer = stack.state.base / "simulator.txt"
        command = f"exec {sys.executable} manage.py simulate_rollout --sites {sites} --waves {waves} > {answer}"
        stack.run(Program("simulate", ("/bin/sh", "-c", command), ROOT, stack.environ))
        found = _PRINTED.search(answer.read_text())
    assert found is not None
    seconds, mib = float(found[1]), float(found[2])
    said = f"{sites:,} sites in {waves} waves, 5 % offline, 0.5 % failing: {found[3]}; {machine()}"
    return [
        Figure("simulator", seconds, "s", f"below {SIMULATOR_AIM_S:g}", said, met=seconds < SIMULATOR_AIM_S),
        Figure("simulator_memory", mib, "MiB", f"below {SIMULATOR_AIM_MIB}", said, met=mib < SIMULATOR_AIM_MIB),
    ]


# ------------------------------------------------------------------------------------------------------------
class AtRest(Stack):
    """Sites in the database that nobody polls; bench.roll lets each of them report once."""

    def __init__(self, say: Say, *, quick: bool) -> None:
        super().__init__()
        self._say, self.sites = say, AT_REST_QUICK if quick else AT_REST

    def __enter__(self) -> "AtRest":
        super().__enter__()
        try:
            self._say(f"{self.sites:,} sites")
            self.environ["SITES"] = str(self.sites)
            self.manage("demo_seed")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self


def _running(stack: Stack, sites: int) -> None:
    """All sites polled, the pollers at rest."""
    stack.grow(sites)
    stack.start(pollers=polling.pollers_for(sites))
    stack.warm_up(at_most_s=240, settle_s=5)


def _roll(stack: Stack, what: str, *options: int) -> Any:
    """What bench.roll finds in a process of its own."""
    answer = stack.state.base / f"{what}.json"
    argv = (sys.executable, "-m", "bench.roll", what, str(answer), *(str(one) for one in options))
    stack.run(Program(f"roll {what}", argv, ROOT, stack.environ))
    return json.loads(answer.read_text())


def _until_over(stack: Stack, pk: int) -> tuple[float, str]:
    """Seconds from its start to its end, and how it ended. Raises RuntimeError for one that does not."""
    deadline = time.monotonic() + AT_MOST_S
    while True:
        ((state, started_at, since),) = stack.execute(_STATE, [pk])
        if state not in ("awaiting_approval", "scheduled", "running"):
            return max(0.001, (since - started_at).total_seconds()), state
        if time.monotonic() > deadline:
            raise RuntimeError(f"still {state} after {AT_MOST_S} s: {dict(stack.execute(_STEPS, [pk]))}")
        stack.rest(0.5)
