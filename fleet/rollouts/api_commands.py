"""API operations by which people say something to a rollout. Each answers with the rollout as it is then.

All take `expect`, the hash of the plan that was looked at, and `since`, the moment since which the rollout was as it
was seen: 409 for others, and for what its state forbids, so of two who press at once the later reads why not. What
touches many sites is done to as many as were agreed to (`sites`), and no more. A command that is sent twice with one
Idempotency-Key is said once.
All are marked `dangerous` but pause and freeze: whoever must stop a rollout at night is asked for nothing else first.
"""

from collections.abc import Callable
from typing import Any

from ninja import Router
from ninja.responses import Status

from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from fleet.rollouts import schemas
from fleet.rollouts.api import detail
from fleet.rollouts.selectors.rollouts import get_rollout
from fleet.rollouts.services import control
from fleet.rollouts.services.agreed import check_agreed

router = Router()
OUT = schemas.RolloutDetailOut


# Before the start -------------------------------------------------------------------------------------------
@router.post("/rollouts/{rollout}/submit", response=OUT, summary="Ask for approval")
@dangerous("rollout.submit")
@idempotent
def submit_rollout(request: ScopedRequest, rollout: int, body: schemas.ExpectIn) -> Status[dict[str, Any]]:
    """From now on it waits for approval, which expires."""
    return _said(request, rollout, control.submit, body)


@router.post("/rollouts/{rollout}/approve", response=OUT, summary="Approve a plan")
@dangerous("rollout.approve")
@idempotent
def approve_rollout(request: ScopedRequest, rollout: int, body: schemas.SayIn) -> Status[dict[str, Any]]:
    """Say yes to this very plan, for the fleet or for a provider that it asks; 403 for who planned it."""
    return _said(request, rollout, control.approve, body)


@router.post("/rollouts/{rollout}/reject", response=OUT, summary="Reject a plan")
@dangerous("rollout.reject")
@idempotent
def reject_rollout(request: ScopedRequest, rollout: int, body: schemas.WhyIn) -> Status[dict[str, Any]]:
    """Say no, with a reason: also after one has said yes, until it is started."""
    return _said(request, rollout, control.reject, body)


@router.post("/rollouts/{rollout}/start", response=OUT, summary="Start a rollout now")
@dangerous("rollout.start")
@idempotent
def start_rollout(request: ScopedRequest, rollout: int, body: schemas.ExpectIn) -> Status[dict[str, Any]]:
    """Start what is approved before its time."""
    return _said(request, rollout, control.start, body)


# While it runs ----------------------------------------------------------------------------------------------
@router.post("/rollouts/{rollout}/pause", response=OUT, summary="Stop claiming")
@idempotent
def pause_rollout(request: ScopedRequest, rollout: int, body: schemas.PauseIn) -> Status[dict[str, Any]]:
    """No further site is begun; what is at work goes on."""
    return _said(request, rollout, control.pause, body)


@router.post("/rollouts/{rollout}/freeze", response=OUT, summary="Freeze a rollout")
@idempotent
def freeze_rollout(request: ScopedRequest, rollout: int, body: schemas.PauseIn) -> Status[dict[str, Any]]:
    """The same, and sites at work hold at their next safe point."""
    return _said(request, rollout, control.freeze, body)


@router.post("/rollouts/{rollout}/resume", response=OUT, summary="Go on")
@dangerous("rollout.resume")
@idempotent
def resume_rollout(request: ScopedRequest, rollout: int, body: schemas.ResumeIn) -> Status[dict[str, Any]]:
    """Where a wave is held, `choice` says how: nothing goes on silently."""
    return _said(request, rollout, control.resume, body)


@router.post("/rollouts/{rollout}/answer", response=OUT, summary="Answer the question of a wave")
@dangerous("rollout.answer")
@idempotent
def answer_rollout(request: ScopedRequest, rollout: int, body: schemas.AnswerIn) -> Status[dict[str, Any]]:
    """Yes or no to the human gate of the wave that is held: its gates are asked again."""
    return _said(request, rollout, control.answer, body)


@router.post("/rollouts/{rollout}/abort", response=OUT, summary="Give a rollout up")
@dangerous("rollout.abort")
@idempotent
def abort_rollout(request: ScopedRequest, rollout: int, body: schemas.WhyIn) -> Status[dict[str, Any]]:
    """What is at work is finished or sent back, as the plan says; what is done stays."""
    return _said(request, rollout, control.abort, body)


@router.post("/rollouts/{rollout}/roll-back-wave", response=OUT, summary="Roll the present wave back")
@dangerous("rollout.roll_back_wave")
@idempotent
def roll_back_wave_of_rollout(request: ScopedRequest, rollout: int, body: schemas.WhyIn) -> Status[dict[str, Any]]:
    """What it touched goes back to what it had proven before; the wave is held then, and earlier ones stay."""
    return _said(request, rollout, control.roll_back_wave, body)


@router.post("/rollouts/{rollout}/roll-back", response=OUT, summary="Roll a rollout back")
@dangerous("rollout.roll_back")
@idempotent
def roll_back_rollout(request: ScopedRequest, rollout: int, body: schemas.WhyIn) -> Status[dict[str, Any]]:
    """Every site that was touched goes back to what it had proven before."""
    return _said(request, rollout, control.roll_back, body)


@router.post("/rollouts/{rollout}/reopen-lane", response=OUT, summary="Let sites catch up again")
@dangerous("rollout.reopen_lane")
@idempotent
def reopen_rollout_lane(request: ScopedRequest, rollout: int, body: schemas.WhyIn) -> Status[dict[str, Any]]:
    """After the lane was halted; what failed there is skipped, with the reason."""
    return _said(request, rollout, control.reopen_lane, body)


def _said(
    request: ScopedRequest, pk: int, command: Callable[..., Any], body: schemas.ExpectIn
) -> Status[dict[str, Any]]:
    row = get_rollout(scope=request.who, pk=pk)
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights, "rollout": row}
    said = body.dict(exclude={"since", "sites"})
    check_agreed(**common, verb=command.__name__, choice=said.get("choice"), since=body.since, sites=body.sites)
    command(**common, **said)
    return Status(200, detail(request, get_rollout(scope=request.who, pk=pk)))
