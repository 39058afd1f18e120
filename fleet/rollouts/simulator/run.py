"""Lets time pass in a simulated rollout, from its start to its end. Pure."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from fleet.rollouts.engine.actions import MoveWave, Watch
from fleet.rollouts.engine.asks import needs_ticks
from fleet.rollouts.engine.facts import RolloutRow, Site
from fleet.rollouts.plan import Plan, plan_hash
from fleet.rollouts.simulator.database import Database
from fleet.rollouts.simulator.world import Behaviour, World
from fleet.rollouts.states import ENDED_ROLLOUTS, RolloutState, StepState

_IDLE_S: Final = 30.0


class WaveReport(Struct, frozen=True):
    """What became of a wave; None where it never opened or never ended."""

    name: str
    sites: int
    state: str
    opened_at: datetime | None
    ended_at: datetime | None
    proven: int


class Report(Struct, frozen=True, kw_only=True):
    """What became of a rollout. `steps` by state; `worst_tick_ms` and `ticks` are the engine's, with its database."""

    state: RolloutState
    reason: str
    began_at: datetime
    ended_at: datetime
    steps: dict[str, int]
    waves: list[WaveReport]
    ticks: int
    worst_tick_ms: float


def simulate(
    plan: Plan,
    sites: Iterable[Site],
    behaviour: Behaviour,
    now: datetime,
    *,
    seed: int = 1,
    tick_s: float = 2.0,
    longest: timedelta = timedelta(days=60),
    wait_for_lane: bool = False,
    meanwhile: Callable[[Database, datetime], None] | None = None,
) -> Report:
    """Play the plan, as approved, from `now` to its end, or for `longest`.

    `wait_for_lane`: go on until the lane is empty too. `meanwhile` is called before each tick: it may act as people do.
    """
    rollout = RolloutRow(id=1, state=RolloutState.RUNNING, since=now, approved_hash=plan_hash(plan))
    database = Database(plan, sites, now, rollout)
    world = World(database, behaviour, seed, now)
    clock = _Clock(tick_s)
    began_at = now
    ended: dict[int, datetime] = {}
    while now - began_at < longest:
        world.run(now)
        if meanwhile:
            meanwhile(database, now)
        ended |= clock.tick(database, now)
        is_over = database.rollout.state in ENDED_ROLLOUTS
        if is_over and not (wait_for_lane and needs_ticks(database.head())):
            break
        now = clock.next(database, world, now)
    return _report(database, clock, began_at, now, ended)


class _Clock:
    """Ticks while something happens; in between it jumps to what comes next."""

    def __init__(self, tick_s: float) -> None:
        self.tick_s, self.ticks, self.worst_ms, self._is_idle = timedelta(seconds=tick_s), 0, 0.0, False

    def tick(self, database: Database, now: datetime) -> dict[int, datetime]:
        """One tick; gives the waves that moved. The simulated centre watches without a hole, however far it jumps."""
        if database.rollout.watched_at:
            database.rollout = replace(database.rollout, watched_at=now)
        begin = time.perf_counter()
        actions = database.tick(now)
        self.worst_ms = max(self.worst_ms, (time.perf_counter() - begin) * 1_000)
        self.ticks += 1
        self._is_idle = all(isinstance(action, Watch) for action in actions)
        return {action.after.index: now for action in actions if isinstance(action, MoveWave)}

    def next(self, database: Database, world: World, now: datetime) -> datetime:
        """When to tick again."""
        if not self._is_idle or database.given:
            return now + self.tick_s
        coming = [at for at in (world.next_event(), database.next_due()) if at is not None]
        return max(now + self.tick_s, min([*coming, now + timedelta(seconds=_IDLE_S)]))


def _report(database: Database, clock: _Clock, began_at: datetime, now: datetime, moved: dict[int, datetime]) -> Report:
    waves = [
        WaveReport(
            name=planned.name,
            sites=len(planned.sites),
            state=row.state,
            opened_at=row.opened_at,
            ended_at=moved.get(row.index) if row.opened_at else None,
            proven=database.count(StepState.PROVEN, wave=row.index),
        )
        for planned, row in zip(database.plan.waves, database.waves, strict=True)
    ]
    steps = {state.value: database.count(state) for state in StepState if database.count(state)}
    rollout = database.rollout
    return Report(
        state=rollout.state,
        reason=rollout.reason,
        began_at=began_at,
        ended_at=now,
        steps=steps,
        waves=waves,
        ticks=clock.ticks,
        worst_tick_ms=clock.worst_ms,
    )
