"""How rollouts end: what was not touched is let go when one is given up, and what end it is when all is still. Pure."""

from fleet.rollouts.counting import sites as counted
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.states import (
    ACTIVE_WAVE,
    ENDED_WAVES,
    TOUCHED,
    UNSETTLED,
    UNTOUCHED,
    WAITING,
    LaneEvent,
    LaneState,
    RolloutEvent,
    RolloutState,
    StepEvent,
    StepState,
    WaveEvent,
    WaveState,
)

_AMISS = (
    *(StepState.FAILED, StepState.SKIPPED, StepState.ROLLED_BACK),
    *(StepState.ROLLBACK_FAILED, StepState.ROLLBACK_WAITING),
)


def let_go(t: Tick) -> None:
    """In a rollout that is given up nothing new begins: untouched steps are skipped, waves and the lane closed."""
    if not t.is_draining:
        return
    reason = t.rollout.reason or next((w.reason for w in t.waves if w.state is WaveState.FAILED), "")
    for wave in list(t.waves):
        if wave.state in ACTIVE_WAVE:
            t.move_wave(wave, WaveEvent.FAIL, reason=reason)
        elif wave.state is WaveState.PENDING:
            t.move_wave(wave, WaveEvent.CANCEL, reason=reason)
    if t.rollout.lane is not LaneState.CLOSED:
        t.move_lane(LaneEvent.CLOSE)
    for state in UNTOUCHED:
        t.move_all(StepEvent.SKIP, state, reason=reason or "the rollout was given up")


def end(t: Tick) -> None:
    """End the rollout if nothing is left to do; steps in the lane, and sites that do not answer, keep none open."""
    match t.rollout.state:
        case RolloutState.RUNNING | RolloutState.PAUSED:
            _end_of_waves(t)
        case RolloutState.ABORTING if not t.tally.count(UNSETTLED):
            t.move_rollout(RolloutEvent.ABORT_DONE, reason=t.rollout.reason)
        case RolloutState.ROLLING_BACK if not t.tally.count((*TOUCHED, StepState.ROLLING_BACK)):
            failed = t.tally.count((StepState.ROLLBACK_FAILED,))
            event = RolloutEvent.ROLLBACK_FAIL if failed else RolloutEvent.ROLLBACK_DONE
            t.move_rollout(event, reason=f"{counted(failed)} could not go back" if failed else "")


def _end_of_waves(t: Tick) -> None:
    is_over = all(wave.state in ENDED_WAVES for wave in t.waves)
    if not is_over or t.tally.count((*WAITING, *UNSETTLED), lane=False):
        return
    failed = next((wave for wave in t.waves if wave.state is WaveState.FAILED), None)
    if failed:
        t.move_rollout(RolloutEvent.FAIL, reason=failed.reason)
    elif t.tally.count(_AMISS, lane=False):
        t.move_rollout(RolloutEvent.SUCCEED_PARTLY)
    else:
        t.move_rollout(RolloutEvent.SUCCEED)
