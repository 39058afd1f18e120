"""The database of a simulated rollout: rows, counters, due times; what asks.py asks for, and actions with their guards.

It does what the tables do and no more, in the way they do it: counters are kept, never counted; a tick reads the rows
that are due or changed and as many candidates as are asked for; a change whose guard fails is dropped.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from fleet.rollouts.engine import actions as say
from fleet.rollouts.engine import asks, decide, wants_another
from fleet.rollouts.engine.actions import Action
from fleet.rollouts.engine.asks import Asks
from fleet.rollouts.engine.facts import (
    Approval,
    CountKey,
    Document,
    Flight,
    Head,
    Hold,
    Look,
    RolloutRow,
    Rows,
    Site,
    Snapshot,
    Step,
    WaveRow,
)
from fleet.rollouts.gates import Evaluation, Measure
from fleet.rollouts.plan import Plan, plan_hash
from fleet.rollouts.states import ENDED_STEPS, Failure, RolloutState, StepState
from fleet.rollouts.windows import Calendar

_MOST_AT_ONCE = 4
_MINUTE = timedelta(seconds=60)
_OPEN = (RolloutState.RUNNING, RolloutState.PAUSED)


class Database:
    """One rollout in memory. `steps` by id, `sites` by id; `given` is called with each document that is given out."""

    def __init__(self, plan: Plan, sites: Iterable[Site], now: datetime, rollout: RolloutRow | None = None) -> None:
        self.plan, self.hash, self.now = plan, plan_hash(plan), now
        self.sites = {site.id: site for site in sites}
        self.rollout = rollout or RolloutRow(id=1, since=now)
        self.waves = [WaveRow(index=i, since=now) for i in range(len(plan.waves))]
        self.approvals: list[Approval] = []
        self.holds: list[Hold] = []
        self.calendars: dict[int, Calendar] = {}
        self.metrics: dict[str, Measure] = {}
        self.budget_left: Measure | None = None
        self.steps: dict[int, Step] = {}
        self.step_of: dict[int, int] = {}
        self.versions: Counter[int] = Counter()
        self.counts: dict[int, Counter[CountKey]] = {i: Counter() for i in range(len(plan.waves))}
        self.flight = _Flight()
        self.evaluations: list[tuple[int, Evaluation]] = []
        self.escalations: list[tuple[int, str]] = []
        self.given: deque[tuple[Step, say.DocumentKind]] = deque()
        self.dropped = 0
        self._index: dict[tuple[int, bool, StepState], dict[int, None]] = {}
        self._due: list[tuple[datetime, int]] = []
        self._changed: dict[int, None] = {}
        self._make_steps()

    def _make_steps(self) -> None:
        ids = iter(range(1, self.plan.site_count + 1))
        for index, wave in enumerate(self.plan.waves):
            for site_id in wave.sites:
                site = self.sites[site_id]
                step = Step(
                    id=next(ids),
                    site=site.id,
                    wave=index,
                    provider=site.provider,
                    region=site.region,
                    since=self.now,
                    origin_components=site.components,
                )
                self.step_of[site.id] = step.id
                self._put(step)

    # Reading ------------------------------------------------------------------------------------------------
    def head(self) -> Head:
        """What every tick reads."""
        return Head(
            rollout=self.rollout,
            plan=self.plan,
            plan_hash=self.hash,
            waves=tuple(self.waves),
            counts=self.counts,
            flight=self.flight.at(self.now),
            approvals=tuple(self.approvals),
            holds=tuple(self.holds),
            calendars=self.calendars,
            metrics=self.metrics,
            budget_left=self.budget_left,
        )

    def snapshot(self) -> Snapshot:
        """What the tick at `now` sees; what it saw of changes is not shown again."""
        head = self.head()
        wanted = asks(head, self.now)
        due = [self._look(i) for i in self._due_ids()]
        queued = self._queued(wanted, lane=False) if wanted.queued else []
        lane = self._queued(wanted, lane=True) if wanted.lane else []
        undo = self._undo(wanted) if wanted.undo else []
        turn = [] if wanted.frozen is None else self._turn(frozen=wanted.frozen)
        return Snapshot(head, Rows(due=due, queued=queued, lane=lane, undo=undo, turn=turn))

    def tick(self, now: datetime) -> list[Action]:
        """One tick: read, decide, carry out; and another at once where that is worth while."""
        self.now = now
        said: list[Action] = []
        for _ in range(_MOST_AT_ONCE):
            actions = decide(self.snapshot(), now)
            self.apply(actions)
            said += actions
            if not wants_another(actions):
                break
        return said

    def next_due(self) -> datetime | None:
        """When the next step is due."""
        return self._due[0][0] if self._due else None

    def count(self, *states: StepState, wave: int | None = None, lane: bool | None = None) -> int:
        """Steps in these states."""
        waves = self.counts.values() if wave is None else [self.counts[wave]]
        return sum(n for keys in waves for (la, s, _), n in keys.items() if s in states and lane in (None, la))

    def _look(self, step_id: int) -> Look:
        step = self.steps[step_id]
        return Look(step, self.sites[step.site])

    def _due_ids(self) -> Iterator[int]:
        found = self._changed
        self._changed = {}
        while self._due and self._due[0][0] <= self.now:
            due_at, step_id = heappop(self._due)
            if self.steps[step_id].due_at == due_at:
                found[step_id] = None
        for step_id in found:
            step = self.steps[step_id]
            is_watched = self.rollout.state in _OPEN and _is_watched(step)
            if step.state is not StepState.QUEUED and (is_watched or step.state not in ENDED_STEPS):
                yield step_id

    def _queued(self, wanted: Asks, *, lane: bool) -> list[Look]:
        limit = wanted.lane if lane else wanted.queued
        found: list[Look] = []
        for wave in wanted.waves:
            for step_id in self._index.get((wave, lane, StepState.QUEUED), ()):
                step = self.steps[step_id]
                is_full = step.provider in wanted.full_providers or step.region in wanted.full_regions
                if not is_full and (step.due_at is None or step.due_at <= self.now):
                    found.append(self._look(step_id))
                    if len(found) == limit:
                        return found
        return found

    def _undo(self, wanted: Asks) -> list[Look]:
        keys = [
            (wave, lane, state) for wave in wanted.undo_waves for lane in (False, True) for state in wanted.undo_states
        ]
        ids = [step_id for key in keys for step_id in self._index.get(key, ())]
        ids.sort(key=lambda step_id: not self.steps[step_id].slot)
        return [self._look(step_id) for step_id in ids[: wanted.undo]]

    def _turn(self, *, frozen: bool) -> list[Look]:
        return [self._look(i) for i in sorted(self.flight.slots) if self.steps[i].frozen is not frozen]

    # Writing ------------------------------------------------------------------------------------------------
    def set_site(self, site_id: int, **changes: Any) -> None:
        """Facts about a site changed."""
        self.sites[site_id] = replace(self.sites[site_id], **changes)
        self._changed[self.step_of[site_id]] = None

    def set_sent(self, step: Step) -> None:
        """The step's document is on its way to the site."""
        now = self.steps[step.id]
        if now.document == step.document:
            self._put(replace(now, sent=True))

    def apply(self, actions: Iterable[Action]) -> None:
        """Carry out actions in their order. Where a guard fails, all that follows for that row is dropped too."""
        stale: set[int] = set()
        for action in actions:
            match action:
                case say.Watch(_, after) | say.MoveRollout(_, _, after):
                    self.rollout = after
                case say.MoveWave(_, _, after_wave):
                    self.waves[after_wave.index] = after_wave
                case say.MoveSteps():
                    self._move_all(action)
                case say.LookAtAll(wave, states):
                    self._look_at_all(wave, states)
                case say.Evaluated(wave, evaluation):
                    self.evaluations.append((wave, evaluation))
                case _:
                    self._apply_to_step(action, stale)

    def _apply_to_step(
        self, action: say.MoveStep | say.LookAgain | say.GiveOut | say.Escalate, stale: set[int]
    ) -> None:
        match action:
            case say.MoveStep(_, before, after):
                self._guarded(before, after, stale)
            case say.LookAgain(before, due_at):
                self._guarded(before, replace(self.steps[before.id], due_at=due_at), stale)
            case say.GiveOut(step, kind, expires_at):
                self._give_out(step, kind, expires_at, stale)
            case say.Escalate(step, sentence):
                self.escalations.append((step.id, sentence))
                self._guarded(step, replace(self.steps[step.id], escalated=True), stale)

    def _guarded(self, before: Step, after: Step, stale: set[int]) -> bool:
        now = self.steps[before.id]
        if before.id in stale or (now.state, now.lease) != (before.state, before.lease):
            stale.add(before.id)
            self.dropped += 1
            return False
        if before.state is StepState.QUEUED and after.state is StepState.CLAIMED:
            self.flight.start(self.now, lane=after.lane)
        self._put(after)
        return True

    def _give_out(self, step: Step, kind: say.DocumentKind, expires_at: datetime, stale: set[int]) -> None:
        self.versions[step.site] += 1
        document: Document = (1, self.versions[step.site])
        row = replace(step, document=document, given_at=self.now, sent=False, expires_at=expires_at)
        if self._guarded(step, row, stale):
            self.given.append((row, kind))

    def _move_all(self, action: say.MoveSteps) -> None:
        waves = range(len(self.waves)) if action.wave is None else (action.wave,)
        lanes = (False, True) if action.lane is None else (action.lane,)
        for step_id in [i for w in waves for la in lanes for i in self._index.get((w, la, action.state), ())]:
            step = self.steps[step_id]
            fresh = {"slot": False, "failure": None, "wait": None, "tries": 0, "undoing": False, "frozen": False}
            lane = step.lane and action.target is not StepState.QUEUED
            changes = {"state": action.target, "since": self.now, "reason": action.reason, "due_at": action.due_at}
            self._put(replace(step, lane=lane, **(fresh | changes)))

    def _look_at_all(self, wave: int | None, states: tuple[StepState, ...]) -> None:
        for (index, _, state), ids in list(self._index.items()):
            if state in states and wave in (None, index):
                for step_id in list(ids):
                    self._put(replace(self.steps[step_id], due_at=self.now))

    def _put(self, step: Step) -> None:
        before = self.steps.get(step.id)
        self.steps[step.id] = step
        if before is None or _key(before) != _key(step):
            if before is not None:
                del self._index[before.wave, before.lane, before.state][step.id]
            self._index.setdefault((step.wave, step.lane, step.state), {})[step.id] = None
        if before is None or (_key(before), before.failure, before.slot) != (_key(step), step.failure, step.slot):
            if before is not None:
                self._count(before, -1)
            self._count(step, 1)
        if (
            step.due_at is not None
            and step.state is not StepState.QUEUED
            and (before is None or before.due_at != step.due_at)
        ):
            heappush(self._due, (step.due_at, step.id))

    def _count(self, step: Step, change: int) -> None:
        keys, key = self.counts[step.wave], (step.lane, step.state, step.failure)
        keys[key] += change
        if not keys[key]:
            del keys[key]
        if step.slot:
            self.flight.slot(step, change)


class _Flight:
    """Slots and starts, kept as the database keeps them."""

    def __init__(self) -> None:
        self.slots: set[int] = set()
        self.by_lane = {False: 0, True: 0}
        self.providers: Counter[int] = Counter()
        self.regions: Counter[str] = Counter()
        self._starts: dict[bool, deque[datetime]] = {False: deque(), True: deque()}

    def slot(self, step: Step, change: int) -> None:
        """A step takes a slot (1) or frees it (-1)."""
        (self.slots.add if change > 0 else self.slots.discard)(step.id)
        self.by_lane[step.lane] += change
        self.providers[step.provider] += change
        self.regions[step.region] += change

    def start(self, now: datetime, *, lane: bool) -> None:
        """A step was claimed."""
        self._starts[lane].append(now)

    def at(self, now: datetime) -> Flight:
        """The counters as a tick reads them."""
        for starts in self._starts.values():
            while starts and not timedelta() <= now - starts[0] < _MINUTE:
                starts.popleft()
        return Flight(
            wave=self.by_lane[False],
            lane=self.by_lane[True],
            by_provider=self.providers,
            by_region=self.regions,
            started=len(self._starts[False]),
            lane_started=len(self._starts[True]),
        )


def _key(step: Step) -> tuple[int, bool, StepState]:
    return step.wave, step.lane, step.state


def _is_watched(step: Step) -> bool:
    """Ended steps that a change of their site may still move."""
    return step.state is StepState.PROVEN or (step.state is StepState.FAILED and step.failure is Failure.LOST)
