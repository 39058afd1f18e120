"""One tick, from top to bottom. Pure.

First what the sites say, then what that means for waves, then what is given up, sent back or held, then what begins,
and last whether all is over: so a limit that is crossed stops the claims of the very same tick.
"""

from datetime import datetime, timedelta

from fleet.rollouts.engine import approvals, claims, endings, rollback, steps, turning, waiting, waves
from fleet.rollouts.engine.actions import Action
from fleet.rollouts.engine.facts import Snapshot
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.states import (
    ACTIVE,
    ENDED_ROLLOUTS,
    UNSETTLED,
    Pause,
    RolloutEvent,
    RolloutState,
    StepState,
    WaveEvent,
)

_MAY_GO_ON = ENDED_ROLLOUTS - {RolloutState.REJECTED, RolloutState.EXPIRED}
_TIMED = (*UNSETTLED, StepState.DEFERRED, StepState.CATCH_UP, StepState.ROLLBACK_WAITING)


def decide(snapshot: Snapshot, now: datetime) -> list[Action]:
    """What the rollout does next, as it is seen at `now` (aware). Raises nothing for any combination of facts."""
    t = Tick(snapshot, now)
    _before_the_start(t)
    if t.rollout.state in (RolloutState.REJECTED, RolloutState.EXPIRED):
        endings.let_go(t)
    if t.rollout.state not in ACTIVE and t.rollout.state not in _MAY_GO_ON:
        return t.actions
    if not t.watch():
        t.look_at_all(None, *_TIMED)
        return t.actions
    is_approved = t.rollout.approved_hash == t.head.plan_hash
    if not is_approved:
        _stop_what_nobody_approved(t)
    _expire(t)
    for look in t.rows.due:
        if is_approved or look.step.state is not StepState.ROLLBACK_WAITING:
            steps.follow(t, look)
    waiting.halt_lane(t)
    if is_approved and t.rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED):
        waves.watch_limits(t)
        waves.advance(t)
    endings.let_go(t)
    if is_approved:
        rollback.undo(t)
        turning.turn(t)
        claims.claim(t)
    endings.end(t)
    return t.actions


def _before_the_start(t: Tick) -> None:
    """Approved, rejected, expired; and started when its time has come, if it is still approved."""
    if t.rollout.state not in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED):
        return
    verdict = approvals.verdict(t.plan, t.head.plan_hash, t.head.approvals, t.now)
    if t.rollout.state is RolloutState.AWAITING_APPROVAL:
        if verdict.rejected:
            t.move_rollout(RolloutEvent.REJECT, reason="an approver said no")
        elif verdict.is_approved:
            t.move_rollout(RolloutEvent.APPROVE, approved_hash=t.head.plan_hash)
        elif t.rollout.until and t.now >= t.rollout.until:
            t.move_rollout(RolloutEvent.EXPIRE, reason=verdict.missing())
    elif not verdict.is_approved:
        t.move_rollout(RolloutEvent.EXPIRE, reason=verdict.missing() or "an approver took back their word")
    if t.rollout.state is RolloutState.SCHEDULED and t.now >= (t.plan.start_at or t.now):
        t.move_rollout(RolloutEvent.START)


def _stop_what_nobody_approved(t: Tick) -> None:
    """Whoever changed the rows: nothing is given out any more, and the hold expires like any other."""
    if t.rollout.state is RolloutState.RUNNING:
        until = t.now + timedelta(seconds=t.plan.expiries.pause_s)
        reason = "the plan is not the one that was approved"
        t.move_rollout(RolloutEvent.HOLD, pause=Pause.HELD, until=until, reason=reason)


def _expire(t: Tick) -> None:
    """A pause that nobody ended in time ends the rollout, as the plan says."""
    if t.rollout.state is not RolloutState.PAUSED or not t.rollout.until or t.now < t.rollout.until:
        return
    wave = t.active_wave
    if t.plan.expiries.on_expiry == "fail" and wave:
        t.move_wave(wave, WaveEvent.FAIL, reason="nobody decided in time")
    else:
        t.move_rollout(RolloutEvent.ABORT, reason="nobody decided in time")
