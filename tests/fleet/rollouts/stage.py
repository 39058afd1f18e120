"""A rollout on a stage: the engine on its simulated database, with sites and people that the test plays itself."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from fleet.rollouts.engine.actions import Action, DocumentKind
from fleet.rollouts.engine.facts import Approval, Progress, RolloutRow, Site, Step
from fleet.rollouts.gates import FailureLimit, Gate, SuccessShare
from fleet.rollouts.plan import Caps, Plan, Times, Wave, plan_hash
from fleet.rollouts.simulator import Database
from fleet.rollouts.states import Failure, RolloutState, StepState

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
SHA = "sha256:" + "0" * 64


def wave(first: int, last: int, *gates: Gate, canary: bool = False, name: str = "") -> Wave:
    """Sites `first` to `last`; what the test does not name lets nearly everything pass, but lost sites hold."""
    has_share = any(isinstance(gate, SuccessShare) for gate in gates)
    has_limit = any(isinstance(gate, FailureLimit) and not gate.classes for gate in gates)
    lax = (*[SuccessShare(0.01)] * (not has_share), *[FailureLimit((), share=1.0)] * (not has_limit))
    return Wave(name or f"{first} to {last}", tuple(range(first, last + 1)), (*gates, *lax), canary=canary)


def make_plan(waves: Sequence[Wave] = (wave(1, 3), wave(4, 6)), **changes: Any) -> Plan:
    """A plan with room for all and no soak, but as the test wants it."""
    fresh: dict[str, Any] = {
        "name": "spring",
        "author": 1,
        "standard": "2026.11-r3",
        "standard_sha256": SHA,
        "caps": Caps(in_flight=100),
        "times": Times(soak_s=0),
    }
    return Plan(waves=tuple(waves), **(fresh | changes))


class Stage:
    """A running rollout. Sites are named by their ids; time passes by `tick`."""

    def __init__(self, plan: Plan | None = None, *, running: bool = True, **site_changes: Any) -> None:
        self.plan = plan or make_plan()
        self.now = START
        ids = [site for planned in self.plan.waves for site in planned.sites]
        sites = [Site(**{"id": i, "provider": 1, "components": f"before {i}", **site_changes}) for i in ids]
        state = RolloutState.RUNNING if running else RolloutState.DRAFT
        approved = plan_hash(self.plan) if running else ""
        self.db = Database(self.plan, sites, START, RolloutRow(id=1, state=state, since=START, approved_hash=approved))

    # Time ---------------------------------------------------------------------------------------------------
    def tick(self, seconds: float = 1) -> list[Action]:
        """One tick, `seconds` after the one before."""
        self.now += timedelta(seconds=seconds)
        return self.db.tick(self.now)

    def run(self, seconds: float, every: float = 30) -> None:
        """Ticks without a hole, until `seconds` have passed."""
        until = self.now + timedelta(seconds=seconds)
        while self.now < until:
            self.tick(min(every, (until - self.now).total_seconds()))

    def do(self, command: Any, *args: Any, **options: Any) -> None:
        """A person's command, and the tick after it."""
        self.db.apply(command(self.db.head(), self.now, *args, **options))
        self.tick()

    # Sites --------------------------------------------------------------------------------------------------
    def site(self, site: int, **changes: Any) -> None:
        """The site's facts change."""
        self.db.set_site(site, **changes)

    def says(self, *sites: int, progress: Progress, **changes: Any) -> None:
        """Sites take their document and speak of it."""
        for site in sites:
            self.db.set_sent(self.step(site))
            told = {"document": self.step(site).document, "progress": progress, "report_at": self.now}
            self.site(site, **(told | changes))

    def applied(self, *sites: int, **changes: Any) -> None:
        """Sites do what their document asks for, and prove it."""
        self.now += timedelta(milliseconds=10)
        for site in sites:
            told = {"progress": Progress.APPLIED, "boot": f"after {self.now}", "reachable": True}
            proof = {**told, "conforms": True, "components": "standard"}
            self.says(site, **(proof | changes))

    def fails(self, *sites: int, failure: Failure = Failure.APPLY_FAILED) -> None:
        """Sites say that they failed."""
        self.says(*sites, progress=Progress.FAILED, failure=failure, detail="it broke")

    def dark(self, *sites: int, sent: bool = True) -> None:
        """Sites fall silent, after their document was sent (or before)."""
        for site in sites:
            if sent:
                self.db.set_sent(self.step(site))
            self.site(site, reachable=False, dark_since=self.now)

    def goes_back(self, *sites: int) -> None:
        """Sites prove their origin."""
        self.now += timedelta(milliseconds=10)
        for site in sites:
            self.says(site, progress=Progress.APPLIED, conforms=False, components=self.step(site).origin_components)

    # What is seen -------------------------------------------------------------------------------------------
    def step(self, site: int) -> Step:
        """The site's step."""
        return self.db.steps[self.db.step_of[site]]

    def state(self, site: int) -> StepState:
        """The state of the site's step."""
        return self.step(site).state

    def states(self) -> str:
        """States of all steps, in order."""
        return " ".join(step.state for step in self.db.steps.values())

    def waves(self) -> str:
        """States of all waves, in order."""
        return " ".join(row.state for row in self.db.waves)

    @property
    def rollout(self) -> RolloutRow:
        """The rollout's row."""
        return self.db.rollout

    def given(self) -> list[tuple[int, DocumentKind]]:
        """Documents that were given out since this was asked last."""
        found = [(step.site, kind) for step, kind in self.db.given]
        self.db.given.clear()
        return found

    def change_step(self, site: int, **changes: Any) -> None:
        """What planning wrote into the step's row."""
        self.db._put(replace(self.step(site), **changes))

    def approve(self, person: int, *, yes: bool = True, provider: int | None = None, days: float = 7) -> None:
        """A person's word on the plan as it is."""
        expires_at = self.now + timedelta(days=days)
        self.db.approvals.append(
            Approval(person=person, plan_hash=self.db.hash, yes=yes, provider=provider, expires_at=expires_at)
        )
