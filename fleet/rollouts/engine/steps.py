"""What becomes of a step whose time has come, or whose site changed: one function a state. Pure.

Forward: claimed -> staging -> applying -> (rebooting) -> verifying -> soaking -> proven, as far in one tick as the
facts allow. Silence is doubt, doubt ends as `lost`; a failure is tried again where the plan says so.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from fleet.rollouts.engine import proof
from fleet.rollouts.engine.facts import Look, Progress, Site, Step, Taken
from fleet.rollouts.engine.rollback import follow_rollback_waiting, follow_rolling_back
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waiting import follow_catch_up, follow_deferred
from fleet.rollouts.states import AT_WORK, AttemptEvent, Failure, RolloutState, StepEvent, StepState, Wait, allowed

_EVENT_OF: Final[Mapping[Progress, StepEvent]] = {
    Progress.STAGING: StepEvent.STAGE,
    Progress.APPLYING: StepEvent.APPLY,
    Progress.REBOOTING: StepEvent.REBOOT,
    Progress.APPLIED: StepEvent.VERIFY,
}


def follow(t: Tick, look: Look) -> None:
    """Move one step as far as the facts allow."""
    _FOLLOW.get(look.step.state, _nothing)(t, look.step, look.site)


def fail(t: Tick, step: Step, failure: Failure, reason: str) -> Step:
    """The step fails; where the plan has a try left, it is queued again, for later."""
    has_expired = step.expires_at is not None and t.now >= step.expires_at
    attempt = AttemptEvent.EXPIRE if has_expired else AttemptEvent.FAIL
    failed = t.move(step, StepEvent.FAIL, attempt, failure=failure, reason=reason)
    retry = t.plan.retries.get(failure)
    if retry is None or step.tries >= retry.times or t.is_draining:
        return failed
    wait_s = min(retry.after_s * 2**step.tries, retry.max_s)
    return t.move(
        failed,
        StepEvent.RETRY,
        due_at=t.now + timedelta(seconds=wait_s),
        tries=step.tries + 1,
        failure=None,
        document=None,
        reason=f"try {step.tries + 2}: {failure}, {reason}",
    )


# At work ----------------------------------------------------------------------------------------------------
def _at_work(t: Tick, step: Step, site: Site) -> None:
    if proof.is_overtaken(site, step):
        t.move(step, StepEvent.SUPERSEDE, AttemptEvent.REPLACE, reason="the site has a later document")
    elif told := proof.told_failure(site, step):
        fail(t, step, *told)
    elif not site.reachable:
        _gone_dark(t, step)
    else:
        _forward(t, step, site)


def _gone_dark(t: Tick, step: Step) -> None:
    """Before its document was sent, it was offline all along; after, nobody knows what the change did to it."""
    if step.state is StepState.CLAIMED and not step.sent:
        t.move(
            step,
            StepEvent.WITHDRAW,
            AttemptEvent.REPLACE,
            slot=False,
            document=None,
            wait=Wait.OFFLINE,
            waits_since=step.waits_since or t.now,
            due_at=t.now + timedelta(seconds=t.plan.lane.expiry_s),
        )
    else:
        due_at = t.now + timedelta(seconds=t.plan.times.dark_after_s) + t.reboot
        t.move(step, StepEvent.DOUBT, due_at=due_at, reason="silent since its document was sent")


def _forward(t: Tick, step: Step, site: Site) -> None:
    event = _EVENT_OF.get(site.progress) if proof.speaks_of(site, step) else None
    if event and allowed(step.state, event):
        attempt = AttemptEvent.ACCEPT if step.state is StepState.CLAIMED else None
        step = t.move(step, event, attempt)
    if step.state is StepState.VERIFYING and proof.proves_standard(site, step, reboots=t.plan.reboots):
        _settle(t, step)
    elif t.now >= (due := _deadline(t, step)):
        _too_late(t, step, site)
    else:
        t.look_again(step, due)


def _deadline(t: Tick, step: Step) -> datetime:
    """When the step is too late. A frozen one has time: it waits for us."""
    if t.is_frozen or step.frozen:
        return t.now + timedelta(hours=1)
    if step.state is StepState.VERIFYING:
        return t.until(step.since, t.plan.times.verify_s)
    due = t.until(step.begun_at or step.since, timedelta(seconds=t.plan.times.apply_s) + t.reboot)
    is_expiring = step.state is StepState.CLAIMED and step.expires_at is not None
    return min(due, step.expires_at) if is_expiring and step.expires_at else due


def _too_late(t: Tick, step: Step, site: Site) -> None:
    if step.state is not StepState.VERIFYING:
        expired = step.expires_at is not None and t.now >= step.expires_at
        fail(t, step, Failure.TIMED_OUT, "its document expired" if expired else f"still {step.state} at its deadline")
    elif not proof.on_standard(site, step, reboots=t.plan.reboots):
        fail(t, step, Failure.APPLY_FAILED, "says that it applied, and does not run the standard")
    else:
        fail(t, step, Failure.UNHEALTHY, "runs the standard, and is not up")


def _settle(t: Tick, step: Step) -> None:
    """Proof: the soak begins, the slot is free. Without a soak, it is proven."""
    soak_s = t.plan.times.soak_s
    step = t.move(step, StepEvent.SETTLE, slot=False, frozen=False, due_at=t.now + timedelta(seconds=soak_s))
    if soak_s == 0:
        t.move(step, StepEvent.PROVE, AttemptEvent.PROVE)


# After the change -------------------------------------------------------------------------------------------
def _soaking(t: Tick, step: Step, site: Site) -> None:
    if not site.reachable:
        due_at = t.now + timedelta(seconds=t.plan.times.dark_after_s) + t.reboot
        t.move(step, StepEvent.DOUBT, due_at=due_at, reason="fell silent in its soak")
    elif _regressed(t, step, site):
        return
    elif not site.up:
        fail(t, step, Failure.UNHEALTHY, "did not stay up in its soak")
    elif t.now >= (due := t.until(step.since, t.plan.times.soak_s)):
        t.move(step, StepEvent.PROVE, AttemptEvent.PROVE)
    else:
        t.look_again(step, due)


def _proven(t: Tick, step: Step, site: Site) -> None:
    """While the rollout is open a regress re-opens the step; later it is drift."""
    if t.rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED) and not t.is_draining and site.reachable:
        _regressed(t, step, site)


def _regressed(t: Tick, step: Step, site: Site) -> bool:
    if proof.is_overtaken(site, step) or site.taken is Taken.NEWER:
        t.move(step, StepEvent.SUPERSEDE, reason="a later document or rollout has the site")
        return True
    if not site.conforms:
        fail(t, step, Failure.REGRESSED, "no longer runs the standard")
        return True
    return False


# Silent -----------------------------------------------------------------------------------------------------
def _in_doubt(t: Tick, step: Step, site: Site) -> None:
    if site.reachable:
        _answers(t, step, site)
        return
    due = t.until(step.since, timedelta(seconds=t.plan.times.dark_after_s) + t.reboot)
    if t.now >= due:
        fail(t, step, Failure.LOST, "silent since its document was sent")
    else:
        t.look_again(step, due)


def _answers(t: Tick, step: Step, site: Site) -> None:
    """The state that the site tells, now that it answers again."""
    if proof.is_overtaken(site, step):
        t.move(step, StepEvent.SUPERSEDE, AttemptEvent.REPLACE, reason="the site has a later document")
    elif told := proof.told_failure(site, step):
        fail(t, step, *told)
    elif not step.slot:
        _answers_after_soak_began(t, step, site)
    else:
        event = _EVENT_OF.get(site.progress) if proof.speaks_of(site, step) else None
        _forward(t, t.move(step, event or StepEvent.UNDOUBT), site)


def _answers_after_soak_began(t: Tick, step: Step, site: Site) -> None:
    """It had freed its slot: its soak begins anew, or it has failed; it never takes a slot without a claim."""
    if not proof.on_standard(site, step, reboots=t.plan.reboots):
        fail(t, step, Failure.REGRESSED, "came back, and no longer runs the standard")
    elif not site.up:
        fail(t, step, Failure.UNHEALTHY, "came back, and is not up")
    else:
        t.move(step, StepEvent.SETTLE, due_at=t.now + timedelta(seconds=t.plan.times.soak_s))


def _failed(t: Tick, step: Step, site: Site) -> None:
    """A lost site that answers on this tuple is verified; it takes no slot, for nothing more is done to it."""
    if step.failure is Failure.LOST and site.reachable and not t.is_draining:
        if proof.is_overtaken(site, step):
            t.move(step, StepEvent.SUPERSEDE, reason="the site has a later document")
        elif proof.says_applied(site, step) and proof.on_standard(site, step, reboots=t.plan.reboots):
            due_at = t.now + timedelta(seconds=t.plan.times.verify_s)
            back = t.move(step, StepEvent.RETURN, failure=None, due_at=due_at, reason="was lost, and answers")
            _forward(t, back, site)


def _nothing(t: Tick, step: Step, site: Site) -> None:
    """Ended: nothing is looked for any more."""
    if step.due_at is not None:
        t.look_again(step, None)


_FOLLOW: Final[Mapping[StepState, Callable[[Tick, Step, Site], None]]] = {
    **dict.fromkeys(AT_WORK, _at_work),
    StepState.DEFERRED: follow_deferred,
    StepState.CATCH_UP: follow_catch_up,
    StepState.SOAKING: _soaking,
    StepState.IN_DOUBT: _in_doubt,
    StepState.PROVEN: _proven,
    StepState.FAILED: _failed,
    StepState.ROLLING_BACK: follow_rolling_back,
    StepState.ROLLBACK_WAITING: follow_rollback_waiting,
}
