"""What people say to a rollout: submit, approve, start, stop, freeze, resume, abort, roll back. Each is audited.

All take `expect`, the hash of the plan that the person saw, and refuse another one; what the state forbids is a
Conflict with a sentence. A command only moves the rollout and its waves; the ticks that follow do the rest.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.rollouts.engine import commands
from fleet.rollouts.engine.actions import Action
from fleet.rollouts.engine.approvals import verdict
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.engine.facts import Head
from fleet.rollouts.models import Approval, ProviderAsked, Rollout
from fleet.rollouts.plan import read_plan
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import voice
from fleet.rollouts.selectors.rollouts import get_rollout
from fleet.rollouts.services.carrying import carry_out
from fleet.rollouts.services.planning import lock_rollout, object_of
from fleet.rollouts.states import Pause, RolloutState

Build = Callable[[Head, datetime], Sequence[Action]]


# Before the start -------------------------------------------------------------------------------------------
def submit(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str) -> Rollout:
    """Ask for approval. Raises NotAllowed, Conflict."""
    return _command("rollout.plan", "rollout.submit", actor, rights, rollout, expect, commands.submit)


def approve(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str = "") -> Approval:
    """Say yes to this very plan. The next tick counts. Raises NotAllowed (the author too), Conflict."""
    return _say(actor, rights, rollout, expect, yes=True, reason=reason)


def reject(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str) -> Approval:
    """Say no, with a reason: also after one has said yes, until it is started. Raises NotAllowed, Invalid, Conflict."""
    if not reason.strip():
        raise Invalid("Say why not.", details={"reason": "missing"})
    return _say(actor, rights, rollout, expect, yes=False, reason=reason)


def start(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str) -> Rollout:
    """Start an approved rollout now, before its time. Raises NotAllowed, Conflict."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        said = commands.start(seen, now)
        if not verdict(seen.plan, seen.plan_hash, seen.approvals, now).is_approved:
            raise commands.RefusedError("This plan is not approved.")
        return said

    return _command("rollout.run", "rollout.start", actor, rights, rollout, expect, build)


def _say(actor: Scope, rights: Rights, rollout: Rollout, expect: str, *, yes: bool, reason: str) -> Approval:
    with scope(actor):
        row = get_rollout(scope=actor, pk=rollout.pk)
        provider = voice(actor, rights, row)
        assert actor.user_id is not None  # nobody else has a voice
        if row.plan_hash != expect:
            raise Conflict("Somebody changed the plan meanwhile; look at it first.")
        if row.state not in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED):
            raise Conflict("It does not wait for approval.")
        made = Approval(
            rollout_id=row.pk,
            user_id=actor.user_id,
            user_name=actor.name[:150],
            provider_id=provider,
            plan_hash=expect,
            yes=yes,
            reason=reason.strip()[:300],
            expires_at=database_now() + timedelta(seconds=_holds_s(row, provider)),
        )
        made.save(force_insert=True)
        action = "rollout.approve" if yes else "rollout.reject"
        audit.record(actor, action, **{**object_of(row), "provider_id": provider}, after={"plan": expect}, note=reason)
        live.publish(hints=[(("rollout", row.pk), provider), (("rollouts", 0), provider)])
    return made


def _holds_s(row: Rollout, provider: int | None) -> int:
    """How long a word holds. A provider sees no plan: what it is asked says so."""
    if provider is None:
        return read_plan(Rollout.objects.values_list("plan", flat=True).get(pk=row.pk)).expiries.approval_s
    return ProviderAsked.objects.get(rollout=row.pk, provider=provider).approval_s


# While it runs ----------------------------------------------------------------------------------------------
def pause(
    *, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str, seconds: int | None = None
) -> Rollout:
    """Stop: no further site is claimed; what is at work goes on. Ends by itself as the plan says."""
    return _pause(Pause.STOPPED, actor, rights, rollout, expect, reason, seconds)


def freeze(
    *, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str, seconds: int | None = None
) -> Rollout:
    """Stop, and have sites at work hold at their next safe point."""
    return _pause(Pause.FROZEN, actor, rights, rollout, expect, reason, seconds)


def _pause(
    kind: Pause, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str, seconds: int | None
) -> Rollout:
    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.pause(seen, now, kind, reason, seconds)

    word = "rollout.freeze" if kind is Pause.FROZEN else "rollout.pause"
    return _command("rollout.run", word, actor, rights, rollout, expect, build, reason)


def resume(
    *,
    actor: Scope,
    rights: Rights,
    rollout: Rollout,
    expect: str,
    choice: Choice | None = None,
    reason: str = "",
) -> Rollout:
    """Go on. Where a wave is held a choice is needed: retry what failed, skip it, skip the wave, ask the gate again."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.resume(seen, now, choice, reason)

    return _command("rollout.run", "rollout.resume", actor, rights, rollout, expect, build, reason)


def answer(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, wave: int, yes: bool) -> Rollout:
    """Answer the human gate of the wave that is held."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.answer(seen, now, wave, yes=yes)

    return _command("rollout.run", "rollout.answer", actor, rights, rollout, expect, build, f"{wave}: {yes}")


def abort(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str) -> Rollout:
    """Give it up; what is at work is finished or sent back, as the plan says."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.abort(seen, now, reason)

    return _command("rollout.run", "rollout.abort", actor, rights, rollout, expect, build, reason)


def roll_back(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str) -> Rollout:
    """Send every site that was touched back to its own origin; after a rollback that failed, those that failed."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.roll_back(seen, now, reason)

    return _command("rollout.run", "rollout.roll_back", actor, rights, rollout, expect, build, reason)


def roll_back_wave(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str) -> Rollout:
    """Send back what the present wave touched, each site to its own origin; earlier waves stay as they are."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.roll_back_wave(seen, now, reason)

    return _command("rollout.run", "rollout.roll_back_wave", actor, rights, rollout, expect, build, reason)


def reopen_lane(*, actor: Scope, rights: Rights, rollout: Rollout, expect: str, reason: str) -> Rollout:
    """Let sites that were left behind catch up again, after their lane was halted."""

    def build(seen: Head, now: datetime) -> Sequence[Action]:
        return commands.reopen_lane(seen, now, reason)

    return _command("rollout.run", "rollout.reopen_lane", actor, rights, rollout, expect, build, reason)


# ------------------------------------------------------------------------------------------------------------
def _command(
    right: str, word: str, actor: Scope, rights: Rights, rollout: Rollout, expect: str, build: Build, note: str = ""
) -> Rollout:
    if not rights.may(right):
        raise NotAllowed("Your role does not allow this on rollouts.")
    with scope(actor):
        row = lock_rollout(rollout, expect)
        now = database_now()
        seen = head(row.pk, now)
        try:
            said = build(seen, now)
        except commands.RefusedError as error:
            raise Conflict(str(error)) from None
        carry_out(seen, said, actor=actor, now=now)
        after = Rollout.objects.get(pk=row.pk)
        audit.record(
            actor, word, **object_of(row), before={"state": row.state}, after={"state": after.state}, note=note
        )
    return after
