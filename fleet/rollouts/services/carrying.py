"""Carries out what the engine says, generically: guarded statements, documents, attempts, events, in one transaction.

Actions of one tick are taken in their order. Those of single steps are gathered, so that a step's row is written once,
from what the engine saw to what it is to be; an action over all steps of a wave comes after those before it. A change
whose guard fails is dropped with all that follows for its row: the next tick sees the facts anew.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from fleet.kit import live
from fleet.kit.tenancy import Scope
from fleet.rollouts import states
from fleet.rollouts.engine import actions as say
from fleet.rollouts.engine.actions import Action, DocumentKind, GiveOut
from fleet.rollouts.engine.facts import Head, RolloutRow, Step
from fleet.rollouts.models import OPEN_STEPS, GateEvaluation, Rollout, RolloutEvent, SiteStep
from fleet.rollouts.services.giving import Desk
from fleet.rollouts.services.outbox import put_out
from fleet.rollouts.services.writing import (
    end_attempts,
    look_at_all,
    move_steps,
    taken_elsewhere,
    update_steps,
    write_rollout,
    write_wave,
)
from fleet.rollouts.states import AttemptState, RolloutState, StepEvent
from sites.services.delivery import withdraw

# What a site says of itself on its way is not kept as an event: its row, its receipts and its journal tell it.
_QUIET: Final = frozenset({StepEvent.STAGE, StepEvent.APPLY, StepEvent.REBOOT, StepEvent.VERIFY, StepEvent.UNDOUBT})
_UNWATCHED: Final = (RolloutState.DRAFT, RolloutState.PLANNED, RolloutState.REJECTED, RolloutState.EXPIRED)
_ATTEMPT_AFTER: Final = {event: line.target for line in states.TABLES["attempt"].lines for event in [line.event]}
_OPEN: Final = [str(state) for state in OPEN_STEPS]
_BEGINS: Final = (StepEvent.CLAIM, StepEvent.ROLL_BACK)


class _Change:
    """What becomes of one step's row: from `before` to `after`, and what that means for its documents."""

    def __init__(self, before: Step) -> None:
        self.before = self.after = before
        self.moves: list[say.MoveStep] = []
        self.attempt: AttemptState | None = None
        self.give: GiveOut | None = None
        self.told = ""

    def add(self, action: Action) -> None:
        """Take up the next action for this step."""
        match action:
            case say.MoveStep(_, _, after, attempt):
                self.moves.append(action)
                self.after = after
                if attempt is not None:
                    self.attempt = AttemptState(_ATTEMPT_AFTER[attempt])
            case say.LookAgain(_, due_at):
                self.after = replace(self.after, due_at=due_at)
            case say.Escalate(_, sentence):
                self.after, self.told = replace(self.after, escalated=True), sentence
            case GiveOut(step):
                # The columns of its document are written when it is given out.
                self.after, self.give = replace(step, document=self.after.document), action

    def unsay(self, sentence: str, now: datetime) -> None:
        """Its document cannot be given out: take back the move that it belongs to. With a sentence: it never can be."""
        assert self.give is not None
        is_begun = bool(self.moves) and self.moves[-1].event in _BEGINS
        self.after = self.moves.pop().before if is_begun else self.moves[-1].after if self.moves else self.before
        self.give = None
        if sentence and is_begun and states.allowed(self.after.state, StepEvent.SKIP):
            skipped = replace(
                self.after,
                state=states.StepState.SKIPPED,
                since=now,
                due_at=None,
                slot=False,
                wait=None,
                reason=sentence,
            )
            self.moves.append(say.MoveStep(StepEvent.SKIP, self.after, skipped))
            self.after = skipped

    @property
    def opens(self) -> bool:
        """Whether the site is taken from now on, which one rollout alone can do."""
        return str(self.before.state) not in _OPEN and str(self.after.state) in _OPEN


def carry_out(head: Head, actions: Sequence[Action], *, actor: Scope, now: datetime) -> None:
    """Carry out what the engine said of a rollout whose row the caller has locked; within the open, wide scope.

    Publishes hints after the commit.
    """
    if not actions:
        return
    _Carrier(head, actor, now).carry(actions)


class _Carrier:
    def __init__(self, head: Head, actor: Scope, now: datetime) -> None:
        self.head, self.actor, self.now = head, actor, now
        self.id = head.rollout.id
        self.rollout = Rollout.objects.select_related("standard").defer("plan").get(pk=self.id)
        self.changes: dict[int, _Change] = {}
        self.row: RolloutRow = head.rollout
        self.started_at: datetime | None = None
        self.events: list[RolloutEvent] = []
        self.evaluations: list[GateEvaluation] = []
        self.providers: set[int] = set()
        self.is_general = False

    def carry(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case say.MoveStep(_, before, _) | say.LookAgain(before, _):
                    self.changes.setdefault(before.id, _Change(before)).add(action)
                case GiveOut(_, _, _, before):
                    self.changes.setdefault(before.id, _Change(before)).add(action)
                case say.Escalate(step, _):
                    self.changes.setdefault(step.id, _Change(step)).add(action)
                case _:
                    self._of_more_than_a_step(action)
        self._flush()
        if self.row != self.head.rollout:
            is_live = self.row.state not in _UNWATCHED
            write_rollout(self.head.rollout, self.row, is_live=is_live, started_at=self.started_at)
        RolloutEvent.objects.bulk_create(self.events, batch_size=1000)
        GateEvaluation.objects.bulk_create(self.evaluations)
        put_out(self.rollout, self.row, self.events, self.evaluations, now=self.now)
        self._tell()

    def _of_more_than_a_step(self, action: Action) -> None:
        match action:
            case say.Watch(_, after):
                self.row = after
            case say.MoveRollout(event, _, after):
                self._move_rollout(event, after)
            case say.MoveWave(event, before, after_wave):
                write_wave(self.id, before, after_wave)
                self._event("wave", event, after_wave.state, after_wave.reason, wave=after_wave.index)
            case say.MoveSteps():
                self._flush()
                count = move_steps(self.id, action, self.now)
                self._event("step", action.event, action.target, f"{count} sites. {action.reason}", wave=action.wave)
            case say.LookAtAll():
                self._flush()
                look_at_all(self.id, action, self.now)
            case say.Evaluated(wave, evaluation):
                self.evaluations.append(
                    GateEvaluation(
                        rollout_id=self.id,
                        wave=wave,
                        at=self.now,
                        outcome=evaluation.outcome,
                        sentence=evaluation.sentence,
                        evaluation=msgspec.to_builtins(evaluation, str_keys=True),
                    )
                )

    def _move_rollout(self, event: states.RolloutEvent | states.LaneEvent, after: RolloutRow) -> None:
        self.row = after
        if isinstance(event, states.LaneEvent):
            self._event("lane", event, after.lane, "")
            return
        if event is states.RolloutEvent.START:
            self.started_at = self.now
        self._event("rollout", event, after.state, after.reason)

    # Steps --------------------------------------------------------------------------------------------------
    def _flush(self) -> None:
        """Write the changes of single steps that were gathered so far."""
        changes, self.changes = self.changes, {}
        if not changes:
            return
        self._withdraw(changes)
        # Documents before sites: as the deliverer locks them.
        withdraw(end_attempts({pk: c.attempt for pk, c in changes.items() if c.attempt is not None}, self.now))
        desk = self._desk(changes)
        written = update_steps([(change.before, change.after) for change in changes.values()])
        kept = {pk: change for pk, change in changes.items() if pk in written}
        giving = {pk for pk, change in kept.items() if change.give is not None}
        end_attempts(dict.fromkeys(giving, AttemptState.REPLACED), self.now)
        desk.give(giving, made_by=self.actor.name, now=self.now)
        for change in kept.values():
            self._step_events(change)

    def _withdraw(self, changes: dict[int, _Change]) -> None:
        """A WITHDRAW holds only while the document has not been sent; then it is never sent."""
        wanted = [pk for pk, c in changes.items() if any(move.event is StepEvent.WITHDRAW for move in c.moves)]
        if wanted:
            documents = dict(SiteStep.objects.filter(pk__in=wanted).values_list("pk", "document_id"))
            back = withdraw([document for document in documents.values() if document is not None])
            for pk in wanted:
                if documents[pk] is not None and documents[pk] not in back:
                    del changes[pk]

    def _desk(self, changes: dict[int, _Change]) -> Desk:
        """Lock the sites that are told something or taken, and take back what cannot be."""
        asked = [change.give for change in changes.values() if change.give is not None]
        opening = {change.after.site for change in changes.values() if change.opens}
        desk = Desk(self.rollout, self.rollout.standard, asked, sorted(opening))
        taken = taken_elsewhere(self.id, sorted(opening), _OPEN)
        for pk, change in list(changes.items()):
            if change.opens and change.after.site in taken:
                del changes[pk]
            elif pk in desk.unable and change.give is not None:
                change.unsay(desk.unable[pk], self.now)
        return desk

    def _step_events(self, change: _Change) -> None:
        step = change.after
        if change.moves or change.give is not None:
            self.providers.add(step.provider)
        loud = [move for move in change.moves if move.event not in _QUIET]
        for move in loud:
            words = move.after.reason if not move.after.failure else f"{move.after.failure}: {move.after.reason}"
            self._event("step", move.event, move.after.state, words, step=step, wait=move.after.wait or "")
        if change.told:
            self._event("step", "escalate", step.state, change.told, step=step)
        if change.give is not None and change.give.kind in (DocumentKind.FREEZE, DocumentKind.THAW):
            self._event("step", change.give.kind, step.state, "", step=step)

    def _event(
        self,
        thing: str,
        event: str,
        state: str,
        sentence: str,
        *,
        wave: int | None = None,
        step: Step | None = None,
        wait: str = "",
    ) -> None:
        if step is None:
            self.is_general = True
        else:
            self.providers.add(step.provider)
        self.events.append(
            RolloutEvent(
                rollout_id=self.id,
                at=self.now,
                actor=self.actor.name[:150],
                thing=thing,
                event=str(event),
                state=str(state),
                wave=step.wave if step else wave,
                step_id=step.id if step else None,
                provider_id=step.provider if step else None,
                wait=str(wait),
                sentence=sentence,
            )
        )

    def _tell(self) -> None:
        """Whoever has the rollout open looks again; a change of the whole is told to its providers and to lists."""
        if not self.events and not self.evaluations and not self.providers:
            return
        providers: set[int | None] = set(self.providers) or {None}
        if self.is_general:
            found = SiteStep.objects.filter(rollout=self.id).values_list("provider_id", flat=True).distinct()
            providers |= set(found)
        topics = [("rollout", self.id), *([("rollouts", 0)] if self.is_general else [])]
        live.publish(hints=[(topic, provider) for provider in providers for topic in topics])
