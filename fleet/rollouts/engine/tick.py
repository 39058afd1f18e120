"""One tick at work: what it sees, what it has said so far, and the only doors through which it changes anything. Pure.

Every change goes through the table in states.py and through the counters, so that whatever is asked later in the same
tick sees it. Time in which nobody watched is not held against a site: see `elapsed`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from msgspec.structs import replace

from fleet.rollouts.engine.actions import (
    Action,
    DocumentKind,
    Escalate,
    Evaluated,
    GiveOut,
    LookAgain,
    LookAtAll,
    MoveRollout,
    MoveStep,
    MoveSteps,
    MoveWave,
    Watch,
)
from fleet.rollouts.engine.facts import Look, RolloutRow, Snapshot, Step, WaveRow
from fleet.rollouts.engine.tally import Tally
from fleet.rollouts.gates import Evaluation
from fleet.rollouts.states import (
    ACTIVE_WAVE,
    ENDED_STEPS,
    GIVEN_UP,
    UNSETTLED,
    AttemptEvent,
    LaneEvent,
    Pause,
    RolloutEvent,
    StepEvent,
    StepState,
    WaveEvent,
    WaveState,
    after,
)

HOLE: Final = timedelta(seconds=60)
"""A longer time between two ticks, or one that runs backwards by more than SLEW, is a hole: nobody watched."""
SLEW: Final = timedelta(seconds=5)


class Tick:
    """What one tick sees and says. `rollout` and `waves` are the rows as this tick has left them so far."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        head = snapshot.head
        self.head, self.rows, self.plan, self.now = head, snapshot.rows, head.plan, now
        self.rollout: RolloutRow = head.rollout
        self.waves: list[WaveRow] = list(head.waves)
        self._has_failed_wave = any(wave.state is WaveState.FAILED for wave in self.waves)
        self.tally = Tally(head.counts, head.flight)
        self.actions: list[Action] = []
        self._moved: set[int] = set()
        self.obstacles: dict[tuple[int, str], datetime | None] = {}

    # What there is ------------------------------------------------------------------------------------------
    @property
    def active_wave(self) -> WaveRow | None:
        """The one wave that is neither pending nor over."""
        return next((wave for wave in self.waves if wave.state in ACTIVE_WAVE), None)

    @property
    def is_draining(self) -> bool:
        """Whether nothing new is begun any more: the rollout is given up, and what is at work comes to its end."""
        return self.rollout.state in GIVEN_UP or self._has_failed_wave

    @property
    def is_frozen(self) -> bool:
        """Whether sites are held at their next safe point."""
        return self.rollout.pause is Pause.FROZEN and not self.is_draining

    @cached_property
    def reboot(self) -> timedelta:
        """The time that a reboot is allowed to take."""
        return timedelta(seconds=self.plan.times.reboot_s if self.plan.reboots else 0)

    def begun(self, since: datetime) -> datetime:
        """`since`, or if later the moment from which on somebody watched without a hole.

        A `since` in the future was written before the clock went back.
        """
        watching = self.rollout.watching_since or since
        return watching if since > self.now else max(since, watching)

    def until(self, since: datetime, seconds: float | timedelta) -> datetime:
        """The moment at which `seconds` have passed from `since` on, with somebody watching."""
        return self.begun(since) + (seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds))

    def elapsed(self, since: datetime) -> float:
        """Seconds from `since` on, with somebody watching."""
        return (self.now - self.begun(since)).total_seconds()

    def still(self, looks: Iterable[Look]) -> Iterator[Look]:
        """Those that this tick has not moved yet: a row may be in several lists, and is read but once."""
        return (look for look in looks if look.step.id not in self._moved)

    # What it says -------------------------------------------------------------------------------------------
    def move_rollout(self, event: RolloutEvent, **changes: Any) -> None:
        """The rollout moves; its pause and its expiry are over unless `changes` says otherwise."""
        state = after(self.rollout.state, event)
        fresh: dict[str, Any] = {"state": state, "since": self.now, "pause": None, "until": None, "reason": ""}
        self._rollout(event, replace(self.rollout, **(fresh | changes)))

    def move_lane(self, event: LaneEvent) -> None:
        """The lane moves."""
        self._rollout(event, replace(self.rollout, lane=after(self.rollout.lane, event)))

    def _rollout(self, event: RolloutEvent | LaneEvent, row: RolloutRow) -> None:
        self.actions.append(MoveRollout(event, self.rollout, row))
        self.rollout = row

    def move_wave(self, wave: WaveRow, event: WaveEvent, **changes: Any) -> WaveRow:
        """The wave moves, and is given back as it now is."""
        fresh: dict[str, Any] = {"state": after(wave.state, event), "since": self.now, "reason": ""}
        row = replace(wave, **(fresh | changes))
        self.actions.append(MoveWave(event, wave, row))
        self.waves[wave.index] = row
        self._has_failed_wave |= row.state is WaveState.FAILED
        return row

    def move(self, step: Step, event: StepEvent, attempt: AttemptEvent | None = None, **changes: Any) -> Step:
        """The step moves, and is given back as it now is. A step that ends frees its slot and is not due again."""
        state = after(step.state, event)
        fresh: dict[str, Any] = {"state": state, "since": self.now, "reason": ""}
        if state in ENDED_STEPS:
            fresh |= {"slot": False, "due_at": None, "wait": None}
        if attempt is None and step.state in UNSETTLED and state not in UNSETTLED:
            attempt = AttemptEvent.REPLACE
        row = replace(step, **(fresh | changes))
        self._moved.add(step.id)
        self.actions.append(MoveStep(event, step, row, attempt))
        self.tally.moved(step, row)
        return row

    def move_all(self, event: StepEvent, state: StepState, *, wave: int | None = None, **options: Any) -> None:
        """All steps in `state` move, if there are any. Options: lane, reason, due_at."""
        lane = options.pop("lane", None)
        if self.tally.count((state,), wave, lane=lane):
            target = after(state, event)
            self.actions.append(MoveSteps(event, wave, state, lane, target, **options))
            self.tally.moved_all(wave, state, lane, target)

    def give_out(self, step: Step, kind: DocumentKind, *, before: Step | None = None) -> None:
        """The site gets its next document; with it, `before` turns into `step`."""
        expires_at = self.now + timedelta(seconds=self.plan.times.document_s)
        self.actions.append(GiveOut(step, kind, expires_at, before or step))

    def look_again(self, step: Step, due_at: datetime | None) -> None:
        """Look at the step again at `due_at`, if nothing happens before."""
        if step.due_at != due_at:
            self.actions.append(LookAgain(step, due_at))

    def look_at_all(self, wave: int | None, *states: StepState) -> None:
        """Look at all these steps in the next tick, if there are any."""
        if self.tally.count(states, wave):
            self.actions.append(LookAtAll(wave, states))

    def evaluated(self, wave: WaveRow, evaluation: Evaluation) -> None:
        """Keep what the gates answered."""
        self.actions.append(Evaluated(wave.index, evaluation))

    def escalate(self, step: Step, sentence: str) -> Step:
        """Tell people, once a step."""
        if step.escalated:
            return step
        row = replace(step, escalated=True)
        self.actions.append(Escalate(row, sentence))
        return row

    def watch(self) -> bool:
        """Note that somebody watched; False after a hole, or when the clock jumped: then nothing is judged yet."""
        row = self.rollout
        gap = self.now - row.watched_at if row.watched_at else HOLE
        whole = -SLEW <= gap <= HOLE and row.watching_since is not None
        since = row.watching_since if whole else self.now
        self.rollout = replace(row, watched_at=self.now, watching_since=since)
        self.actions.append(Watch(row, self.rollout))
        return whole or row.watched_at is None
