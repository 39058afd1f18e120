"""Which queued steps begin now: within the caps, and where nothing stands against it. Pure."""

from datetime import timedelta
from math import ceil
from typing import Final

from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.facts import Look, Site, Step, Taken
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waiting import defer, leave_behind
from fleet.rollouts.engine.waits import obstacle
from fleet.rollouts.states import LaneState, RolloutState, StepEvent, StepState, Wait, WaveState

DEFAULT_IN_FLIGHT: Final = 20
DEFAULT_SHARE: Final = 0.1
_FIRST_MINUTE_S: Final = 60
_LANE_RUNS: Final = (RolloutState.RUNNING, RolloutState.SUCCEEDED, RolloutState.PARTIALLY_SUCCEEDED)


def in_flight_cap(t: Tick) -> int:
    """How many steps may be in flight: the plan's number, or one in a canary's first minute, then 10 % or 20."""
    if t.plan.caps.in_flight is not None:
        return t.plan.caps.in_flight
    opened = [wave for wave in t.waves if wave.opened_at]
    wave = t.active_wave or (opened[-1] if opened else None)
    if wave is None or wave.opened_at is None:
        return 0
    planned = t.plan.waves[wave.index]
    if planned.canary and t.rollout.state is RolloutState.RUNNING and t.elapsed(wave.opened_at) < _FIRST_MINUTE_S:
        return 1
    return min(DEFAULT_IN_FLIGHT, max(1, ceil(len(planned.sites) * DEFAULT_SHARE)))


def waves_claim(t: Tick) -> bool:
    """Whether steps of the waves may begin at all."""
    return t.rollout.state is RolloutState.RUNNING and not t.is_draining


def lane_claims(t: Tick) -> bool:
    """Whether steps of the lane may begin at all: under an ended rollout too, if it went well."""
    return t.rollout.state in _LANE_RUNS and t.rollout.lane is LaneState.OPEN and not t.is_draining


def wave_room(t: Tick) -> int:
    """How many steps of the waves may be claimed now."""
    if not waves_claim(t):
        return 0
    return t.tally.room(in_flight_cap(t), t.plan.caps.starts_per_minute)


def lane_room(t: Tick) -> int:
    """How many steps of the lane may be claimed now."""
    if not lane_claims(t):
        return 0
    return t.tally.room(t.plan.lane.in_flight, t.plan.lane.starts_per_minute, lane=True)


def claim(t: Tick) -> None:
    """Claim what there is room for, of the waves and of the lane."""
    for look in t.still(t.rows.queued):
        if not wave_room(t):
            break
        if not look.step.lane and t.waves[look.step.wave].state in (WaveState.OPEN, WaveState.PASSED):
            _consider(t, look)
    for look in t.still(t.rows.lane):
        if not lane_room(t):
            break
        if look.step.lane and t.waves[look.step.wave].state is WaveState.PASSED:
            _consider(t, look)


def _consider(t: Tick, look: Look) -> None:
    step, site = look.step, look.site
    if step.state is not StepState.QUEUED or (step.due_at and step.due_at > t.now):
        return
    if site.taken is Taken.NEWER:
        t.move(step, StepEvent.SUPERSEDE, reason="a newer rollout has the site")
    elif not site.reachable:
        leave_behind(t, step, Wait.OFFLINE, "offline before it was claimed")
    elif found := obstacle(t, site):
        defer(t, step, found)
    elif t.tally.fits(step, t.plan.caps):
        _claim(t, step, site)


def _claim(t: Tick, step: Step, site: Site) -> None:
    may_take = min(timedelta(seconds=t.plan.times.apply_s) + t.reboot, timedelta(seconds=t.plan.times.document_s))
    claimed = t.move(
        step,
        StepEvent.CLAIM,
        slot=True,
        lease=step.lease + 1,
        begun_at=t.now,
        due_at=t.now + may_take,
        wait=None,
        document=None,
        boot_before="" if site.has_kernel else site.boot,
    )
    t.give_out(claimed, DocumentKind.APPLY)
    t.tally.start(lane=step.lane)
