"""The engine against whatever sites, people and clocks may do: a stateful search for a rule that can be broken.

Hypothesis plays sites that work, lie, fail, fall silent and come back, people who press every button at any time, a
clock that jumps, and a second tick at the same moment. After each step the rules are checked against what the test
itself knows; in the end everybody falls silent, and the rollout must end.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fleet.rollouts.engine import actions as say
from fleet.rollouts.engine import commands, decide
from fleet.rollouts.engine.asks import needs_ticks
from fleet.rollouts.engine.commands import Choice, RefusedError
from fleet.rollouts.engine.facts import Document, Hold, Origin, Progress, Snapshot, Taken
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waits import covers, is_overridden
from fleet.rollouts.gates import FailureLimit, Gate, Human, MinSample, Outcome, Soak, SuccessShare
from fleet.rollouts.plan import Action, Approvals, Caps, Expiries, Lane, Patience, Plan, Retry, Rollback, Times, Wave
from fleet.rollouts.states import (
    ENDED_ROLLOUTS,
    ENDED_STEPS,
    UNSETTLED,
    AttemptState,
    Failure,
    Pause,
    RolloutState,
    StepEvent,
    StepState,
    WaveEvent,
    WaveState,
)
from tests.fleet.rollouts.stage import SHA, Stage

TOLD = [failure for failure in Failure if failure not in (Failure.LOST, Failure.TIMED_OUT, Failure.REGRESSED)]


@st.composite
def gate_lists(draw: st.DrawFn, size: int) -> tuple[Gate, ...]:
    """Gates of a wave of `size` sites, of each kind one at most; most of them let much pass."""
    lax, strict = FailureLimit((), share=1.0), [FailureLimit((), 1), FailureLimit((), share=0.5)]
    kinds: list[list[Gate | None]] = [
        [None, MinSample(min(2, size))],
        [SuccessShare(0.01), SuccessShare(0.01), SuccessShare(0.5), None],
        [None, None, Human()],
        [None, Soak(300)],
        [lax, lax, None, *strict],
        [FailureLimit((Failure.LOST,), 3), None],
    ]
    chosen = [draw(st.sampled_from(kind)) for kind in kinds]
    return tuple(gate for gate in chosen if gate)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Small plans with every way to go, all of whose waits are short."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    waves, first = [], 1
    for index, size in enumerate(sizes):
        chosen = draw(gate_lists(size))
        waves.append(Wave(f"wave {index}", tuple(range(first, first + size)), chosen, canary=draw(st.booleans())))
        first += size
    few = st.none() | st.integers(1, 4)
    return Plan(
        name="searched",
        author=1,
        standard="2026.11-r3",
        standard_sha256=SHA,
        severity=draw(st.sampled_from(["routine", "security"])),
        reboots=draw(st.booleans()),
        waves=tuple(waves),
        caps=Caps(draw(few), draw(few), draw(few), draw(few)),
        times=Times(
            apply_s=600, verify_s=120, soak_s=draw(st.sampled_from([0, 300])), dark_after_s=300, document_s=3_600
        ),
        patience=Patience(defer_s=600, escalate_s=1_200),
        retries=draw(st.dictionaries(st.sampled_from(TOLD), st.just(Retry(2, after_s=30)), max_size=3)),
        actions=draw(st.dictionaries(st.sampled_from(TOLD), st.sampled_from(list(Action)), max_size=3)),
        lane=Lane(in_flight=draw(st.integers(1, 3)), max_failed=2, expiry_s=7_200),
        abort=draw(st.sampled_from(["finish", "roll_back"])),
        rollback=Rollback(respects=draw(st.sampled_from([(), ("holds", "busy", "windows")])), expiry_s=7_200),
        approvals=Approvals(needed=draw(st.integers(1, 2))),
        expiries=Expiries(3_600, 1_800, on_expiry=draw(st.sampled_from(["fail", "abort"]))),
    )


class Engine(RuleBasedStateMachine):
    """What may happen, and what must hold."""

    @initialize(
        plan=plans(),
        offline=st.sets(st.integers(1, 24), max_size=6),
        waiting=st.sampled_from([False, False, False, True]),
    )
    def begin(self, plan: Plan, offline: set[int], waiting: bool) -> None:
        self.stage = Stage(plan, running=False)
        self.db = self.stage.db
        self.truth: dict[int, Document | None] = {}
        self.agreed: set[int] = set()
        self.latest = self.stage.now
        for site in self.db.sites:
            provider = 1 + site % 2
            self.db.sites[site] = type(self.db.sites[site])(
                id=site, provider=provider, region=f"region {site % 3}", components=f"before {site}", boot="first"
            )
            origin = Origin.NONE if site % 7 == 0 else Origin.PROVEN
            self.stage.change_step(site, provider=provider, region=f"region {site % 3}", origin=origin)
            if site in offline:
                self.stage.site(site, reachable=False, dark_since=self.stage.now)
        self.db.apply(commands.plan(self.db.head(), self.stage.now))
        self.command(commands.submit)
        if not waiting:
            for person in (2, 3):
                self.approve(person, True)
            self.tick(1)
            self.tick(1)

    # Time and ticks -----------------------------------------------------------------------------------------
    @rule(seconds=st.integers(1, 60))
    def tick(self, seconds: int) -> None:
        self.stage.now += timedelta(seconds=seconds)
        self.check(self.db.tick(self.stage.now))

    @rule(ticks=st.integers(2, 20))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick(55)

    @rule(rounds=st.integers(1, 6), share=st.sampled_from([1, 1, 2]))
    def all_goes_well(self, rounds: int, share: int) -> None:
        for _ in range(rounds):
            for site in self.sites_with_a_document(share):
                if self.db.sites[site].document <= self.stage.step(site).document:
                    self.applies(site)
            self.tick(50)

    @rule(rounds=st.integers(3, 9))
    def all_goes_well_for_long(self, rounds: int) -> None:
        self.all_goes_well(rounds, 1)

    @rule(rounds=st.integers(3, 9))
    def a_quiet_night(self, rounds: int) -> None:
        self.sites_come_back(1)
        self.all_goes_well(rounds, 1)

    @rule(hours=st.sampled_from([0, 0, 0, -48, -2, 2, 48]))
    def the_clock_jumps(self, hours: int) -> None:
        self.latest = max(self.latest, self.stage.now)
        self.stage.now += timedelta(hours=hours)
        self.tick(1)

    @rule()
    def two_ticks_at_once(self) -> None:
        self.stage.now += timedelta(seconds=1)
        self.db.now = self.stage.now
        snapshot = self.db.snapshot()
        one, two = decide(snapshot, self.stage.now), decide(snapshot, self.stage.now)
        assert one == two
        self.check(one)
        self.db.apply(one)
        self.db.apply([action for action in two if isinstance(action, say.MoveStep | say.GiveOut)])

    # Sites --------------------------------------------------------------------------------------------------
    @rule(share=st.sampled_from([1, 4, 5]), progress=st.sampled_from(Progress))
    def sites_work(self, share: int, progress: Progress) -> None:
        for site in self.sites_with_a_document(share):
            if progress is Progress.APPLIED:
                self.applies(site)
            elif progress is Progress.FAILED:
                self.stage.fails(site, failure=TOLD[site % len(TOLD)])
            else:
                self.stage.says(site, progress=progress)

    @rule(lie=st.sampled_from([{"conforms": False}, {"up": False}, {"boot": "first"}, {"document": (0, 1)}]))
    def sites_lie(self, lie: dict[str, object]) -> None:
        at_work = [site for site in self.sites_with_a_document(1) if self.stage.step(site).slot]
        for site in at_work[::4]:
            is_true = "up" in lie or ("boot" in lie and not self.db.plan.reboots)
            self.truth[site] = self.stage.step(site).document if is_true else None
            self.stage.applied(site, **lie)

    @rule(share=st.sampled_from([1, 4, 6, 6]), sent=st.booleans())
    def sites_fall_silent(self, share: int, sent: bool) -> None:
        for site in list(self.db.sites)[::share]:
            if self.db.sites[site].reachable:
                self.stage.dark(site, sent=sent)

    @rule(share=st.sampled_from([1, 3]))
    def sites_come_back(self, share: int) -> None:
        for site in list(self.db.sites)[::share]:
            self.stage.site(site, reachable=True, report_at=self.stage.now)

    @rule(
        site=st.integers(1, 24),
        change=st.sampled_from(["regress", "down", "up", "refuse", "overtake", "newer", "free"]),
    )
    def a_site_changes(self, site: int, change: str) -> None:
        if site not in self.db.sites:
            return
        if change in ("regress", "overtake"):
            self.truth[site] = None
        document = self.stage.step(site).document or (0, 0)
        self.stage.site(
            site,
            **{
                "regress": {"conforms": False},
                "down": {"up": False},
                "up": {"up": True},
                "refuse": {"refused": document},
                "overtake": {"document": (1, 900)},
                "newer": {"taken": Taken.NEWER},
                "free": {"taken": Taken.FREE},
            }[change],
        )

    @rule(minutes=st.integers(0, 90), share=st.sampled_from([1, 2]))
    def sites_are_busy(self, minutes: int, share: int) -> None:
        for site in list(self.db.sites)[::share]:
            self.stage.site(site, busy_until=self.stage.now + timedelta(minutes=minutes))

    def sites_with_a_document(self, share: int) -> list[int]:
        found = [s.site for s in self.db.steps.values() if s.document and s.state in UNSETTLED]
        return found[::share]

    def applies(self, site: int) -> None:
        """The site does what its document says: the truth that a proof must be about."""
        step = self.stage.step(site)
        if step.undoing:
            self.stage.goes_back(site)
        else:
            self.stage.applied(site, up=True)
            self.truth[site] = step.document

    # People -------------------------------------------------------------------------------------------------
    def command(self, command: object, *args: object, **options: object) -> None:
        try:
            said = command(self.db.head(), self.stage.now, *args, **options)  # type: ignore[operator]
        except RefusedError:
            return
        self.db.apply(said)

    @precondition(lambda self: self.stage.rollout.state in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED))
    @rule(person=st.sampled_from([1, 1, 2, 3]), yes=st.sampled_from([True, True, True, False]))
    def approve(self, person: int, yes: bool) -> None:
        self.stage.approve(person, yes=yes)
        self.agreed |= {person} if yes and person != 1 else set()

    @precondition(lambda self: self.stage.rollout.state is RolloutState.RUNNING)
    @rule(kind=st.sampled_from(Pause))
    def pause(self, kind: Pause) -> None:
        self.command(commands.pause, kind, "because")

    @precondition(lambda self: self.stage.rollout.state is RolloutState.PAUSED)
    @rule(choice=st.none() | st.sampled_from(Choice))
    def resume(self, choice: Choice | None) -> None:
        self.command(commands.resume, choice, "because")

    @precondition(lambda self: self.stage.rollout.state is not RolloutState.DRAFT)
    @rule(
        verb=st.sampled_from(
            [*["reopen_lane", "answer"] * 4, "abort", "roll_back", "roll_back", "roll_back_wave", "edit"]
        )
    )
    def press(self, verb: str) -> None:
        match verb:
            case "answer":
                wave = next((w for w in self.db.waves if w.state is WaveState.HELD), None)
                self.command(commands.answer, wave.index if wave else 0, yes=True)
            case "edit":
                self.command(commands.edit)
                if self.stage.rollout.state is RolloutState.DRAFT:
                    self.db.hash = f"sha256:{len(self.db.hash) * 'f'}{len(self.agreed)}"
                    self.agreed.clear()
                    self.command(commands.plan)
                    self.command(commands.submit)
            case _:
                self.command(getattr(commands, verb), "because")

    @rule(minutes=st.integers(1, 40), provider=st.sampled_from([None, 1, 2, 3, 3]), people=st.sets(st.integers(1, 3)))
    def hold(self, minutes: int, provider: int | None, people: set[int]) -> None:
        until = self.stage.now + timedelta(minutes=minutes)
        self.db.holds.append(Hold(id=1, reason="no", until=until, provider=provider, overridden_by=frozenset(people)))

    # What must hold -----------------------------------------------------------------------------------------
    def check(self, said: list[say.Action]) -> None:
        """Each action, against what the test itself knows."""
        for before, action in zip([None, *said], said, strict=False):
            match action:
                case say.MoveStep(StepEvent.PROVE, _, after):
                    assert self.truth.get(after.site) == after.document, "proven without proof"
                case say.MoveStep(StepEvent.CLAIM, _, after):
                    self.check_claim(after.site)
                case say.GiveOut():
                    assert self.stage.rollout.approved_hash == self.db.hash, "an effect that nobody approved"
                    assert len(self.agreed) >= self.db.plan.approvals.needed
                case say.MoveWave(WaveEvent.GO_ON, _, after_wave):
                    assert isinstance(before, say.Evaluated)
                    assert (before.wave, before.evaluation.outcome) == (after_wave.index, Outcome.GOES)

    def check_claim(self, site_id: int) -> None:
        site = self.db.sites[site_id]
        t = Tick(Snapshot(self.db.head()), self.stage.now)
        assert site.taken is not Taken.NEWER
        assert not site.busy_until or site.busy_until <= self.stage.now
        for hold in self.db.holds:
            assert hold.until <= self.stage.now or not covers(hold, site) or is_overridden(t, hold)

    @invariant()
    def waves_open_in_their_order(self) -> None:
        for index, wave in enumerate(self.db.waves):
            if wave.opened_at:
                assert all(before.state is WaveState.PASSED for before in self.db.waves[:index])

    @invariant()
    def caps_are_kept(self) -> None:
        caps, lane = self.db.plan.caps, self.db.plan.lane.in_flight
        slots = [self.db.steps[i] for i in self.db.flight.slots]
        most = caps.in_flight or 20
        assert len([step for step in slots if not step.lane]) <= most
        assert len([step for step in slots if step.lane and not step.undoing]) <= lane
        assert len(slots) <= most + lane
        for cap, counted in ((caps.per_provider, "provider"), (caps.per_region, "region")):
            busiest = max(Counter(getattr(step, counted) for step in slots).values(), default=0)
            assert cap is None or busiest <= cap

    @invariant()
    def rows_agree_with_themselves(self) -> None:
        counted: dict[int, Counter[object]] = {i: Counter() for i in range(len(self.db.waves))}
        for step in self.db.steps.values():
            counted[step.wave][step.lane, step.state, step.failure] += 1
            assert not step.slot or step.state in UNSETTLED, "a slot is held by a step that is not at work"
            assert step.state not in ENDED_STEPS or step.due_at is None or step.state in (StepState.PROVEN,)
            assert (step.state is StepState.FAILED) <= (step.failure is not None)
        assert counted == {i: Counter(keys) for i, keys in self.db.counts.items()}

    @invariant()
    def a_step_at_work_has_one_open_attempt_and_no_other_has(self) -> None:
        for step in self.db.steps.values():
            attempt = self.db.attempts.get(step.id)
            is_open = attempt in (AttemptState.GIVEN_OUT, AttemptState.ACCEPTED)
            assert not is_open or step.state in UNSETTLED, (step.state, attempt)
            assert is_open or not step.slot, (step.state, attempt)

    def teardown(self) -> None:
        """The clock is put right, people and sites do nothing more: it must end all the same."""
        if not hasattr(self, "db"):
            return
        self.stage.now = max(self.latest, self.stage.now)
        for _ in range(800):
            if self.stage.rollout.state is RolloutState.DRAFT or not needs_ticks(self.db.head()):
                break
            self.tick(55)
            self.caps_are_kept()
        state = self.stage.rollout.state
        assert state in ENDED_ROLLOUTS or state is RolloutState.DRAFT
        assert not needs_ticks(self.db.head()) or state is RolloutState.DRAFT


QUIET: dict[str, Any] = {
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.target],  # shrinking takes minutes
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}


def test_no_rule_is_broken_whatever_happens():
    run_state_machine_as_test(Engine, settings=settings(max_examples=30, stateful_step_count=25, **QUIET))


@pytest.mark.full
def test_no_rule_is_broken_in_10_000_steps_and_more():
    run_state_machine_as_test(Engine, settings=settings(max_examples=600, stateful_step_count=50, **QUIET))
