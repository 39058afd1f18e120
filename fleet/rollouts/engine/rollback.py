"""The way back: each site to its own origin, newest wave first, within the caps. Pure.

What is to be undone is read from the rows (see asks.undoing), so nothing needs to be remembered: a rollback of all
undoes every step that was touched, one of a wave the wave's, an abort only what is at work, if the plan says so. It
waits for nothing but an answer and a slot, unless the plan says that it respects windows, holds or busy leases.
"""

from datetime import timedelta

from fleet.rollouts.engine import proof
from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.claims import in_flight_cap
from fleet.rollouts.engine.facts import Origin, Site, Step, Taken
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waits import Obstacle, obstacle
from fleet.rollouts.states import AttemptEvent, StepEvent, Wait

_RESPECTS = {"windows": Wait.WINDOW, "holds": Wait.HELD, "busy": Wait.BUSY}
_NO_ROOM = timedelta(seconds=15)


def rollback_room(t: Tick) -> int:
    """How many more steps may go back now; those that hold a slot already need none."""
    free = in_flight_cap(t) - t.tally.wave - t.tally.lane
    rate = t.plan.caps.starts_per_minute
    return max(0, free if rate is None else min(free, rate - t.tally.started))


def undo(t: Tick) -> None:
    """Send back the candidates, in their order, as far as there is room."""
    for look in t.rows.undo:
        _start(t, look.step, look.site)


def _start(t: Tick, step: Step, site: Site) -> None:
    if site.taken is Taken.NEWER or proof.is_overtaken(site, step):
        t.move(step, StepEvent.SUPERSEDE, reason="a later document or rollout has the site")
    elif step.origin is Origin.NONE:
        t.move(step, StepEvent.SKIP, reason="no_origin")
    elif found := _obstacle(t, site):
        _wait(t, step, found)
    elif step.slot or (rollback_room(t) and t.tally.fits(step, t.plan.caps)):
        _send_back(t, step, site)


def follow_rollback_waiting(t: Tick, step: Step, site: Site) -> None:
    """A step that waits for its site to answer."""
    expires = (step.waits_since or step.since) + timedelta(seconds=t.plan.rollback.expiry_s)
    if site.taken is Taken.NEWER or proof.is_overtaken(site, step):
        t.move(step, StepEvent.SUPERSEDE, reason="a later document or rollout has the site")
    elif t.now >= expires:
        t.move(step, StepEvent.EXPIRE, reason="did not answer until the rollback's time was over")
    elif found := _obstacle(t, site):
        t.look_again(step, min(expires, found.until))
    elif rollback_room(t) and t.tally.fits(step, t.plan.caps):
        _send_back(t, step, site)
    else:
        t.look_again(step, t.now + _NO_ROOM)


def follow_rolling_back(t: Tick, step: Step, site: Site) -> None:
    """A step whose site was told to go back."""
    told = proof.told_failure(site, step)
    if proof.is_overtaken(site, step):
        t.move(step, StepEvent.SUPERSEDE, reason="the site has a later document")
    elif proof.proves_origin(site, step):
        t.move(step, StepEvent.ROLLBACK_DONE, AttemptEvent.PROVE)
    elif told:
        t.move(step, StepEvent.ROLLBACK_FAIL, AttemptEvent.FAIL, failure=told[0], reason=told[1])
    elif not site.reachable:
        _dark(t, step, site)
    elif t.now >= (due := t.until(step.since, timedelta(seconds=t.plan.times.apply_s) + t.reboot)):
        t.move(step, StepEvent.ROLLBACK_FAIL, AttemptEvent.FAIL, reason="not back at its origin at the deadline")
    else:
        t.look_again(step, due)


def _dark(t: Tick, step: Step, site: Site) -> None:
    """Silent on the way back: it keeps its slot for as long as a reboot and doubt may take, then waits."""
    since = max(step.since, site.dark_since or step.since)
    due = t.until(since, timedelta(seconds=t.plan.times.dark_after_s) + t.reboot)
    if t.now >= due or not step.sent:
        _wait(t, step, Obstacle(Wait.OFFLINE, t.now + timedelta(seconds=t.plan.rollback.expiry_s), "does not answer"))
    else:
        t.look_again(step, due)


def _obstacle(t: Tick, site: Site) -> Obstacle | None:
    if not site.reachable:
        return Obstacle(Wait.OFFLINE, t.now + timedelta(seconds=t.plan.rollback.expiry_s), "does not answer")
    respected = {_RESPECTS[name] for name in t.plan.rollback.respects}
    return obstacle(t, site, ignoring=set(Wait) - respected)


def _wait(t: Tick, step: Step, found: Obstacle) -> None:
    t.move(
        step,
        StepEvent.WAIT_ROLLBACK,
        slot=False,
        frozen=False,
        failure=None,
        wait=found.wait,
        waits_since=t.now,
        due_at=found.until,
        reason=found.sentence,
    )


def _send_back(t: Tick, step: Step, site: Site) -> None:
    if not step.slot:
        t.tally.start(lane=False)
    back = t.move(
        step,
        StepEvent.ROLL_BACK,
        slot=True,
        frozen=False,
        undoing=True,
        failure=None,
        wait=None,
        lease=step.lease + 1,
        begun_at=t.now,
        due_at=t.now + timedelta(seconds=t.plan.times.apply_s) + t.reboot,
        document=None,
        boot_before=site.boot,
    )
    t.give_out(back, DocumentKind.ROLLBACK)
