"""Steps that wait: deferred ones, which keep their wave open for a while, and the lane of those left behind. Pure.

A site that was offline before its step was claimed is left behind at once; one that is busy, held or outside its
windows when patience ends. While its wave is open a site that was only offline joins it again; after the wave has
passed it catches up in the lane, which has its own caps and gate, keeps no rollout open, and expires.
"""

from datetime import datetime, timedelta

from fleet.rollouts.engine.facts import Site, Step, Taken
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waits import Obstacle, obstacle
from fleet.rollouts.states import LaneEvent, LaneState, StepEvent, StepState, Wait, WaveState


def follow_deferred(t: Tick, step: Step, site: Site) -> None:
    """A deferred step whose time has come, or whose site changed."""
    if site.taken is Taken.NEWER:
        t.move(step, StepEvent.SUPERSEDE, reason="a newer rollout has the site")
    elif not site.reachable:
        leave_behind(t, step, Wait.OFFLINE, "offline before it was claimed")
    elif (found := obstacle(t, site)) is None:
        t.move(step, StepEvent.CLEAR, wait=None, due_at=t.now)
    elif t.now >= (patience_ends := t.until(step.waits_since or step.since, t.plan.patience.defer_s)):
        leave_behind(t, step, found.wait, found.sentence)
    else:
        t.look_again(step, min(found.until, patience_ends))


def follow_catch_up(t: Tick, step: Step, site: Site) -> None:
    """A step that was left behind, whose time has come or whose site changed."""
    expires = _expires(t, step)
    if site.taken is Taken.NEWER:
        t.move(step, StepEvent.SUPERSEDE, reason="a newer rollout has the site")
    elif t.now >= expires:
        t.move(step, StepEvent.EXPIRE, reason=f"{step.wait or Wait.OFFLINE} until the lane's time was over")
    else:
        found = obstacle(t, site) if site.reachable else Obstacle(Wait.OFFLINE, expires, "offline")
        lane = _may_join(t, step)
        if found is None and lane is not None:
            t.move(step, StepEvent.COME_BACK, lane=lane, wait=None, due_at=t.now)
        else:
            _wait_on(t, step, min(expires, found.until) if found else expires, found)


def defer(t: Tick, step: Step, found: Obstacle) -> None:
    """A queued step meets an obstacle."""
    if step.lane:
        leave_behind(t, step, found.wait, found.sentence)
        return
    since = step.waits_since or t.now
    due_at = min(found.until, max(t.now, t.until(since, t.plan.patience.defer_s)))
    t.move(step, StepEvent.DEFER, wait=found.wait, waits_since=since, due_at=due_at, reason=found.sentence)


def leave_behind(t: Tick, step: Step, wait: Wait, reason: str) -> None:
    """The wave goes on without this step."""
    since = step.waits_since or t.now
    due_at = t.now if wait is not Wait.OFFLINE else since + timedelta(seconds=t.plan.lane.expiry_s)
    t.move(step, StepEvent.LEAVE_BEHIND, wait=wait, waits_since=since, due_at=due_at, reason=reason)


def halt_lane(t: Tick) -> None:
    """The lane halts at its own failure limit; it never changes the rollout's state."""
    if t.rollout.lane is LaneState.OPEN and t.tally.count((StepState.FAILED,), lane=True) >= t.plan.lane.max_failed:
        t.move_lane(LaneEvent.HALT)
        t.move_all(StepEvent.LEAVE_BEHIND, StepState.QUEUED, lane=True, due_at=t.now, reason="the lane is halted")


def _expires(t: Tick, step: Step) -> datetime:
    return (step.waits_since or step.since) + timedelta(seconds=t.plan.lane.expiry_s)


def _may_join(t: Tick, step: Step) -> bool | None:
    """False: its wave may have it again; True: the lane may; None: it waits."""
    wave = t.waves[step.wave]
    if wave.state is WaveState.OPEN and not step.lane and not t.is_draining:
        is_patient = t.elapsed(step.waits_since or step.since) < t.plan.patience.defer_s
        return False if step.wait is Wait.OFFLINE and is_patient else None
    is_open = t.rollout.lane is LaneState.OPEN and wave.state is WaveState.PASSED and not t.is_draining
    return True if is_open else None


def _wait_on(t: Tick, step: Step, due_at: datetime, found: Obstacle | None) -> None:
    """People hear of a site that somebody (not silence) keeps from its change for too long."""
    if found and found.wait is not Wait.OFFLINE:
        told_at = t.until(step.waits_since or step.since, t.plan.patience.escalate_s)
        if t.now >= told_at:
            step = t.escalate(step, f"not changed for {t.plan.patience.escalate_s // 3_600} h: {found.sentence}")
        else:
            due_at = min(due_at, told_at)
    t.look_again(step, due_at)
