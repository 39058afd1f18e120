"""What people may say to a rollout, and what that changes. Pure.

A command only moves the rollout and its waves; the ticks that follow do the rest, level by level: nothing is lost if a
process dies in between. Each returns the actions, or raises RefusedError with a sentence for the person.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from fleet.rollouts.engine.actions import Action
from fleet.rollouts.engine.facts import Head, Snapshot, WaveRow
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.plan_check import faults
from fleet.rollouts.states import (
    UNTOUCHED,
    LaneEvent,
    LaneState,
    Pause,
    RolloutEvent,
    RolloutState,
    StepEvent,
    StepState,
    WaveEvent,
    WaveState,
    allowed,
)


class RefusedError(ValueError):
    """What the person asked for cannot be done now; the message says why."""


class Choice(StrEnum):
    """What a person may choose for a wave that is held."""

    RETRY = "retry"
    SKIP_FAILED = "skip_failed"
    SKIP_WAVE = "skip_wave"
    RECHECK = "recheck"


# Before the start -------------------------------------------------------------------------------------------
def plan(head: Head, now: datetime) -> list[Action]:
    """The draft is planned. Refused where something in it cannot work."""
    found = faults(head.plan)
    if found:
        raise RefusedError(" ".join(found))
    return _move(head, now, RolloutEvent.PLAN)


def submit(head: Head, now: datetime) -> list[Action]:
    """Ask for approval, which expires."""
    until = now + timedelta(seconds=head.plan.expiries.approval_s)
    return _move(head, now, RolloutEvent.SUBMIT, until=until)


def edit(head: Head, now: datetime) -> list[Action]:
    """Back to a draft: approvals are for another hash, and no longer count."""
    return _move(head, now, RolloutEvent.EDIT, approved_hash="")


def start(head: Head, now: datetime) -> list[Action]:
    """Start now, before its time. Whether it is approved is the caller's to see."""
    return _move(head, now, RolloutEvent.START)


# While it runs ----------------------------------------------------------------------------------------------
def pause(head: Head, now: datetime, kind: Pause, reason: str, seconds: int | None = None) -> list[Action]:
    """Stop claiming (`stopped`), or also hold sites at their next safe point (`frozen`), for a time at most."""
    if kind is Pause.HELD:
        raise RefusedError("A rollout is stopped or frozen by a person; it is held by its waves.")
    until = now + timedelta(seconds=min(seconds or head.plan.expiries.pause_s, head.plan.expiries.pause_s))
    return _move(head, now, RolloutEvent.PAUSE, pause=kind, reason=_needed(reason), until=until)


def resume(head: Head, now: datetime, choice: Choice | None = None, reason: str = "") -> list[Action]:
    """Go on. Where a wave is held a person must choose; nothing goes on silently."""
    t = _tick(head, now, RolloutEvent.RESUME)
    wave = t.active_wave
    if wave and wave.state is WaveState.HELD:
        _choose(t, wave, choice, reason)
    elif choice:
        raise RefusedError("No wave is held: there is nothing to choose.")
    t.move_rollout(RolloutEvent.RESUME)
    return t.actions


def answer(head: Head, now: datetime, index: int, *, yes: bool) -> list[Action]:
    """A person's answer to the question of the held wave's human gate: the gates are asked again."""
    t = _tick(head, now, RolloutEvent.RESUME)
    wave = t.active_wave
    if wave is None or wave.index != index or wave.state is not WaveState.HELD:
        raise RefusedError("This wave does not wait for an answer.")
    _not_undone(wave)
    t.move_wave(wave, WaveEvent.RECHECK, answer=yes)
    t.move_rollout(RolloutEvent.RESUME)
    return t.actions


def abort(head: Head, now: datetime, reason: str) -> list[Action]:
    """Give the rollout up; what is at work is finished or sent back, as the plan says."""
    return _move(head, now, RolloutEvent.ABORT, reason=_needed(reason))


def roll_back(head: Head, now: datetime, reason: str) -> list[Action]:
    """Send every site that was touched back to its own origin. After a rollback that failed: those that failed."""
    t = _tick(head, now, RolloutEvent.ROLL_BACK)
    t.move_rollout(RolloutEvent.ROLL_BACK, reason=_needed(reason))
    t.move_all(StepEvent.WAIT_ROLLBACK, StepState.ROLLBACK_FAILED, due_at=now, reason="tried again")
    return t.actions


def roll_back_wave(head: Head, now: datetime, reason: str) -> list[Action]:
    """Send back what the present wave touched, each site to its own origin; it is held then, and a person chooses."""
    t = _tick(head, now, RolloutEvent.PAUSE)
    wave = t.active_wave
    if wave is None:
        raise RefusedError("No wave is open: there is none to roll back.")
    _not_undone(wave)
    t.move_wave(wave, WaveEvent.UNDO, reason=_needed(reason), undoing=True)
    event = RolloutEvent.HOLD if t.rollout.state is RolloutState.RUNNING else RolloutEvent.PAUSE
    until = now + timedelta(seconds=t.plan.expiries.pause_s)
    t.move_rollout(event, pause=Pause.HELD, until=until, reason=_needed(reason))
    return t.actions


def reopen_lane(head: Head, now: datetime, reason: str) -> list[Action]:
    """Let sites catch up again after the lane was halted; those that failed there are skipped, with the reason."""
    if head.rollout.lane is not LaneState.HALTED:
        raise RefusedError("The lane is not halted.")
    t = Tick(Snapshot(head), now)
    t.move_all(StepEvent.SKIP, StepState.FAILED, lane=True, reason=_needed(reason))
    t.move_lane(LaneEvent.REOPEN)
    t.look_at_all(None, StepState.CATCH_UP)
    return t.actions


def _choose(t: Tick, wave: WaveRow, choice: Choice | None, reason: str) -> None:
    if choice is None:
        raise RefusedError("A wave is held: choose to retry what failed, to skip it, or to abort.")
    if t.tally.count((StepState.ROLLING_BACK,)):
        raise RefusedError("Sites are still going back: wait until they are there.")
    again, index = "tried again by a person", wave.index
    undone = (StepState.ROLLED_BACK, StepState.ROLLBACK_WAITING)
    fresh: dict[str, Any] = {"undoing": False, "opened_at": t.now, "answer": None}
    match choice:
        case Choice.RETRY:
            t.move_wave(wave, WaveEvent.RETRY, **fresh)
            t.move_all(StepEvent.RETRY, StepState.FAILED, lane=False, due_at=t.now, reason=again)
            for state in undone:
                t.move_all(StepEvent.RETRY, state, wave=index, lane=False, due_at=t.now, reason=again)
        case Choice.SKIP_FAILED | Choice.SKIP_WAVE:
            is_whole = choice is Choice.SKIP_WAVE
            t.move_wave(wave, WaveEvent.SKIP if is_whole else WaveEvent.EXCUSE, **fresh, reason=_needed(reason))
            t.move_all(StepEvent.SKIP, StepState.FAILED, lane=False, reason=reason)
            for state in (*undone, StepState.ROLLBACK_FAILED, *(UNTOUCHED if is_whole else ())):
                t.move_all(StepEvent.SKIP, state, wave=index, lane=False, reason=reason)
        case Choice.RECHECK:
            _not_undone(wave)
            t.move_wave(wave, WaveEvent.RECHECK)
    t.look_at_all(index, StepState.CATCH_UP)


def _not_undone(wave: WaveRow) -> None:
    if wave.undoing:
        raise RefusedError("This wave was rolled back: retry it, skip it, or abort.")


def _move(head: Head, now: datetime, event: RolloutEvent, **changes: Any) -> list[Action]:
    t = _tick(head, now, event)
    t.move_rollout(event, **changes)
    return t.actions


def _tick(head: Head, now: datetime, event: RolloutEvent) -> Tick:
    if not allowed(head.rollout.state, event):
        raise RefusedError(f"A rollout that is {_words(head.rollout.state)} cannot {_words(event)}.")
    return Tick(Snapshot(head), now)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _needed(reason: str) -> str:
    if not reason.strip():
        raise RefusedError("A reason is needed: others will read it at 3 a.m.")
    return reason.strip()
