"""`manage.py simulate_rollout`: play a rollout through on a laptop, with the engine that would run it."""

import resource
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.rollouts.engine.facts import Site
from fleet.rollouts.gates import FailureLimit, Gate, SuccessShare
from fleet.rollouts.plan import Caps, Plan, PlanError, Times, Wave, read_plan
from fleet.rollouts.plan_check import faults
from fleet.rollouts.simulator import Behaviour, Report, simulate
from fleet.rollouts.states import Failure

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
PROVIDERS = 10


class Command(BaseCommand):
    """Prints what became of each wave, how long it took, and what it cost to compute."""

    help = "Play a rollout through with a virtual clock."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--plan", type=Path, help="a plan as JSON; without one, --sites and --waves make one")
        parser.add_argument("--sites", type=int, default=10_000)
        parser.add_argument("--waves", type=int, default=10)
        parser.add_argument("--in-flight", type=int, default=2_000)
        parser.add_argument("--soak", type=int, default=600, help="seconds that each site must stay up")
        parser.add_argument("--offline", type=float, default=0.05, help="share of sites that are offline at first")
        parser.add_argument("--failing", type=float, default=0.005, help="share of sites at which applying fails")
        parser.add_argument("--lost", type=float, default=0.0, help="share of sites that fall silent for ever")
        parser.add_argument("--seed", type=int, default=1)

    def handle(self, *args: Any, **options: Any) -> None:
        plan = _read(options["plan"]) if options["plan"] else made_up_plan(options)
        for fault in faults(plan):
            self.stderr.write(fault)
        ids = [site for wave in plan.waves for site in wave.sites]
        sites = [Site(id=i, provider=i % PROVIDERS + 1, components=f"origin {i % 7}") for i in ids]
        failing = {Failure.APPLY_FAILED: options["failing"], Failure.LOST: options["lost"]}
        begin = time.perf_counter()
        report = simulate(
            plan, sites, Behaviour(offline=options["offline"], failing=failing), START, seed=options["seed"]
        )
        self._print(report, time.perf_counter() - begin)

    def _print(self, report: Report, took_s: float) -> None:
        for wave in report.waves:
            lasted = wave.ended_at - wave.opened_at if wave.ended_at and wave.opened_at else ""
            self.stdout.write(f"{wave.name:16} {wave.state:8} {wave.proven:7} of {wave.sites:7} proven  {lasted}")
        steps = ", ".join(f"{n} {state}" for state, n in report.steps.items())
        self.stdout.write(f"{report.state} after {report.ended_at - report.began_at}: {steps}")
        if report.reason:
            self.stdout.write(f"reason: {report.reason}")
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        ticks = f"{report.ticks} ticks, the longest {report.worst_tick_ms:.0f} ms"
        self.stdout.write(f"computed in {took_s:.1f} s, {peak_mib} MiB at most; {ticks}")


def made_up_plan(options: dict[str, Any]) -> Plan:
    """A canary of a hundredth, and waves of equal size that pass with 95 % proven."""
    sites, waves = options["sites"], options["waves"]
    if not 2 <= waves <= sites:
        raise CommandError("At least two waves, and a site for each.")
    canary = max(1, sites // 100) if waves > 1 else sites
    rest = list(range(canary + 1, sites + 1))
    gates: tuple[Gate, ...] = (
        SuccessShare(0.95),
        FailureLimit((), share=0.05),
        FailureLimit((Failure.LOST,), share=0.02),
    )
    cut = [rest[i :: waves - 1] for i in range(waves - 1)]
    return Plan(
        name="simulated",
        author=1,
        standard="simulated",
        standard_sha256="sha256:" + "0" * 64,
        waves=(
            Wave("canary", tuple(range(1, canary + 1)), gates, canary=True),
            *(Wave(f"wave {i}", tuple(ids), gates) for i, ids in enumerate(cut, 1)),
        ),
        caps=Caps(in_flight=options["in_flight"]),
        times=Times(soak_s=options["soak"]),
    )


def _read(path: Path) -> Plan:
    try:
        return read_plan(path.read_bytes())
    except (OSError, PlanError) as error:
        raise CommandError(str(error)) from error
