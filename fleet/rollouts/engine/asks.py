"""Which rows a tick wants to see, told from the head alone: so a tick reads what changed and what it has room for.

The reader (the database layer, or the simulator) fills `Rows` so:

- `due`: steps, but queued ones, whose `due_at` has come or whose site's facts changed since they were last seen. Of the
  ended ones only `proven` and `failed(lost)`, while the rollout is running or paused.
- `queued`: up to `queued` steps of `waves`, outside the lane, due, not of a full provider or region; in order of wave.
- `lane`: the same of the lane.
- `undo`: up to `undo` steps of `undo_waves` in `undo_states`, newest wave first; those that hold a slot come first.
- `turn`: steps with a slot whose `frozen` is not `frozen`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from fleet.rollouts.engine import claims
from fleet.rollouts.engine.actions import Action, LookAtAll, MoveWave
from fleet.rollouts.engine.facts import Head, Snapshot
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.states import (
    AT_WORK,
    ENDED_ROLLOUTS,
    TOUCHED,
    UNSETTLED,
    UNTOUCHED,
    RolloutState,
    StepState,
    WaveState,
)

MAX_ROWS: Final = 500


class Asks(Struct, frozen=True, kw_only=True):
    """What to read. Numbers are limits, 0 for none at all; `frozen` None: no steps to turn."""

    queued: int
    lane: int
    waves: tuple[int, ...]
    full_providers: frozenset[int]
    full_regions: frozenset[str]
    undo: int
    undo_waves: tuple[int, ...]
    undo_states: tuple[StepState, ...]
    frozen: bool | None


def asks(head: Head, now: datetime) -> Asks:
    """What the tick at `now` wants to see."""
    t = Tick(Snapshot(head), now)
    providers, regions = t.tally.full(t.plan.caps)
    undo_waves, undo_states = undoing(t)
    return Asks(
        queued=_candidates(t, claims.wave_room(t), lane=False) if claims.waves_claim(t) else 0,
        lane=_candidates(t, claims.lane_room(t), lane=True) if claims.lane_claims(t) else 0,
        waves=tuple(w.index for w in t.waves if w.state not in (WaveState.PENDING, WaveState.HELD)),
        full_providers=providers,
        full_regions=regions,
        undo=MAX_ROWS if undo_waves else 0,
        undo_waves=undo_waves,
        undo_states=undo_states,
        frozen=t.is_frozen if t.tally.count((*AT_WORK, StepState.IN_DOUBT)) else None,
    )


def undoing(t: Tick) -> tuple[tuple[int, ...], tuple[StepState, ...]]:
    """Which steps are to be sent back: the waves (newest first) and the states."""
    every = tuple(wave.index for wave in reversed(t.waves))
    if t.rollout.state is RolloutState.ROLLING_BACK:
        return every, TOUCHED
    if t.is_draining and t.plan.abort == "roll_back":
        return every, (*AT_WORK, StepState.SOAKING, StepState.IN_DOUBT)
    return tuple(wave.index for wave in reversed(t.waves) if wave.undoing), TOUCHED


def needs_ticks(head: Head) -> bool:
    """Whether anything can still happen: an ended rollout may have sites that catch up, or have yet to go back."""
    if head.rollout.state not in ENDED_ROLLOUTS:
        return True
    waiting = (*UNTOUCHED, *UNSETTLED, StepState.ROLLBACK_WAITING)
    return Tick(Snapshot(head), head.rollout.since).tally.count(waiting) > 0


def wants_another(actions: Sequence[Action]) -> bool:
    """Whether another tick should follow at once: a wave opened, whose steps were not asked for, or all became due."""
    return any(
        isinstance(action, LookAtAll) or (isinstance(action, MoveWave) and action.after.state is WaveState.OPEN)
        for action in actions
    )


def _candidates(t: Tick, room: int, *, lane: bool) -> int:
    """More than there is room for: slots become free in this very tick, and some will be offline, busy or held."""
    return min(MAX_ROWS, 4 * room + 50) if t.tally.count((StepState.QUEUED,), lane=lane) else 0
