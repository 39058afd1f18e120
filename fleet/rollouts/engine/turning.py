"""Freeze and thaw: what is at work holds at its next safe point, and goes on again. Pure."""

from msgspec.structs import replace

from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.states import AT_WORK, StepState

FREEZABLE = (StepState.CLAIMED, StepState.STAGING, StepState.APPLYING, StepState.REBOOTING, StepState.IN_DOUBT)
THAWABLE = (*AT_WORK, StepState.IN_DOUBT)


def turn(t: Tick) -> None:
    """Each step that is not as the rollout wants it gets a document that says so; a thaw begins its time anew."""
    for look in t.still(t.rows.turn):
        step = look.step
        if t.is_frozen and not step.frozen and step.slot and step.state in FREEZABLE:
            t.give_out(replace(step, frozen=True), DocumentKind.FREEZE, before=step)
        elif not t.is_frozen and step.frozen and step.state in THAWABLE:
            thawed = replace(step, frozen=False, begun_at=t.now, due_at=t.now)
            t.give_out(thawed, DocumentKind.THAW, before=step)
