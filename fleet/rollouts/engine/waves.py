"""Waves: what is watched while they are open, when they settle, what their gates say, and which opens next. Pure."""

from datetime import timedelta

from fleet.rollouts.engine.facts import WaveRow
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.gates import Evaluation, FailureLimit, Outcome, Seen, Soak, crossed, evaluate
from fleet.rollouts.plan import Action
from fleet.rollouts.states import (
    AT_WORK,
    WAITING,
    Failure,
    Pause,
    RolloutEvent,
    RolloutState,
    StepState,
    WaveEvent,
    WaveState,
)

_SEVERITY = list(Action)


def seen(t: Tick, wave: WaveRow) -> Seen:
    """What the wave has shown so far; the lane counts apart."""
    failed = t.tally.failed(wave.index)
    return Seen(
        size=len(t.plan.waves[wave.index].sites),
        proven=t.tally.count((StepState.PROVEN,), wave.index, lane=False),
        failed=failed,
        counted={name: n for name, n in failed.items() if t.plan.action(name) is not Action.CONTINUE},
        open_s=t.elapsed(wave.opened_at or wave.since),
        soaked_s=t.elapsed(wave.since) if wave.state is WaveState.SOAKING else _soak_s(t, wave),
        metrics=dict(t.head.metrics),
        budget_left=t.head.budget_left,
        answer=wave.answer,
    )


def watch_limits(t: Tick) -> None:
    """Look at the failure limits of every wave that was opened: a regress of an early one holds the present one."""
    for wave in [row for row in t.waves if row.state in (WaveState.OPEN, WaveState.SOAKING, WaveState.PASSED)]:
        has_passed = wave.state is WaveState.PASSED
        if has_passed and not t.tally.failed(wave.index):
            continue
        gates = t.plan.waves[wave.index].all_gates
        limits = [gate for gate in gates if isinstance(gate, FailureLimit)] if has_passed else gates
        evaluation = crossed(limits, seen(t, wave))
        if evaluation:
            _limit_crossed(t, wave, evaluation)


def _limit_crossed(t: Tick, wave: WaveRow, evaluation: Evaluation) -> None:
    """What the plan says for the worst class that failed; a late wave alone is held."""
    action = _action(t, evaluation)
    active = t.active_wave
    if action is Action.CONTINUE:
        return
    if action is Action.ROLL_BACK_ALL:
        t.evaluated(wave, evaluation)
        t.move_rollout(RolloutEvent.ROLL_BACK, reason=evaluation.sentence)
    elif active and active.state is not WaveState.HELD:
        t.evaluated(wave, evaluation)
        undoing = action is Action.ROLL_BACK_WAVE and wave.index == active.index
        hold(t, active, evaluation.sentence, undoing=undoing)


def _action(t: Tick, evaluation: Evaluation) -> Action:
    failing = [result.gate for result in evaluation.results if result.outcome is Outcome.FAIL]
    limits = [gate for gate in failing if isinstance(gate, FailureLimit)]
    if len(limits) < len(failing):
        return max((Action.HOLD, *_actions(t, limits, evaluation)), key=_SEVERITY.index)
    return max(_actions(t, limits, evaluation), key=_SEVERITY.index, default=Action.CONTINUE)


def _actions(t: Tick, limits: list[FailureLimit], evaluation: Evaluation) -> list[Action]:
    classes = {name for gate in limits for name in (gate.classes or Failure)}
    return [t.plan.action(name) for name in classes if evaluation.seen.failed.get(name)]


def hold(t: Tick, wave: WaveRow, reason: str, *, undoing: bool = False) -> None:
    """The wave is held, and the rollout waits for a person, but not for ever."""
    t.move_wave(wave, WaveEvent.HOLD, reason=reason, undoing=undoing)
    if t.rollout.state is RolloutState.RUNNING:
        until = t.now + timedelta(seconds=t.plan.expiries.pause_s)
        t.move_rollout(RolloutEvent.HOLD, pause=Pause.HELD, until=until, reason=reason)


def advance(t: Tick) -> None:
    """Move the present wave on, and open the next, as far as one tick allows."""
    while t.rollout.state is RolloutState.RUNNING and not t.is_draining:
        wave = t.active_wave
        if not (_open_next(t) if wave is None else _advance(t, wave)):
            return


def _open_next(t: Tick) -> bool:
    """The first wave that is not over opens, if all before it have passed."""
    following = next((wave for wave in t.waves if wave.state is not WaveState.PASSED), None)
    if following is None or following.state is not WaveState.PENDING:
        return False
    t.move_wave(following, WaveEvent.OPEN, opened_at=t.now)
    return True


def _advance(t: Tick, wave: WaveRow) -> bool:
    busy = t.tally.count((*WAITING, *AT_WORK, StepState.IN_DOUBT), wave.index, lane=False)
    if wave.state is WaveState.OPEN:
        if not busy:
            t.move_wave(wave, WaveEvent.SETTLE)
        return not busy
    if t.tally.count(WAITING, wave.index, lane=False):
        t.move_wave(wave, WaveEvent.REOPEN)
        return False
    if wave.state is WaveState.SOAKING:
        soaking = busy or t.tally.count((StepState.SOAKING,), wave.index, lane=False)
        if soaking or t.elapsed(wave.since) < _soak_s(t, wave):
            return False
        t.move_wave(wave, WaveEvent.ASK_GATE)
        return True
    return _ask_gate(t, wave)


def _ask_gate(t: Tick, wave: WaveRow) -> bool:
    evaluation = evaluate(t.plan.waves[wave.index].all_gates, seen(t, wave))
    t.evaluated(wave, evaluation)
    if evaluation.outcome is not Outcome.GOES:
        hold(t, wave, f"{evaluation.outcome}: {evaluation.sentence}")
        return False
    t.move_wave(wave, WaveEvent.GO_ON)
    t.look_at_all(wave.index, StepState.CATCH_UP)
    return True


def _soak_s(t: Tick, wave: WaveRow) -> int:
    gates = t.plan.waves[wave.index].gates
    return next((gate.seconds for gate in gates if isinstance(gate, Soak)), 0)
