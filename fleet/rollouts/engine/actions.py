"""What the engine says: plain values, which services carry out in their order and in one transaction. Pure.

Each change names its event of the table, and the whole row as it is to be. It holds only if the row still has the
state (for a step: and the lease) that the engine saw: a change whose guard fails is dropped, with all that follow for
the same row, and the next tick sees the facts anew. So two ticks at once, or one that died midway, do no harm.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from fleet.rollouts.engine.facts import RolloutRow, Step, WaveRow
from fleet.rollouts.gates import Evaluation
from fleet.rollouts.states import AttemptEvent, LaneEvent, RolloutEvent, StepEvent, StepState, WaveEvent


class DocumentKind(StrEnum):
    """What a document asks for: the standard, the origin, to hold at the next safe point, to go on."""

    APPLY = "apply"
    ROLLBACK = "rollback"
    FREEZE = "freeze"
    THAW = "thaw"


class MoveRollout(Struct, frozen=True):
    """`event` turns the row `before` into `after`."""

    event: RolloutEvent | LaneEvent
    before: RolloutRow
    after: RolloutRow


class MoveWave(Struct, frozen=True):
    """`event` turns the row `before` into `after`."""

    event: WaveEvent
    before: WaveRow
    after: WaveRow


class MoveStep(Struct, frozen=True):
    """`event` turns the row `before` into `after`; `attempt` is what that means for its current document.

    A WITHDRAW holds only while the document has not been sent; then it is never sent.
    """

    event: StepEvent
    before: Step
    after: Step
    attempt: AttemptEvent | None = None


class MoveSteps(Struct, frozen=True):
    """`event` moves all steps of `wave` (None: of all) that are in `state`: one UPDATE, however many.

    `lane` None: inside the lane and out. They go to `target` with `reason`, due at `due_at`, holding no slot, failure
    and tries forgotten, `lane` as it was unless the target is `queued`, where it is false.
    """

    event: StepEvent
    wave: int | None
    state: StepState
    lane: bool | None
    target: StepState
    reason: str = ""
    due_at: datetime | None = None


class LookAgain(Struct, frozen=True):
    """Nothing changes but when to look at the step again."""

    before: Step
    due_at: datetime | None


class LookAtAll(Struct, frozen=True):
    """All steps in these states (of one wave, or of all) are due at once."""

    wave: int | None
    states: tuple[StepState, ...]


class GiveOut(Struct, frozen=True):
    """Write the site's next document, for the step as it is now (see the MoveStep before): a new attempt.

    It replaces the document that the step had, fills in the step's document columns, and expires at `expires_at`.
    Where it cannot be given out, the step stays as `before`.
    """

    step: Step
    kind: DocumentKind
    expires_at: datetime
    before: Step


class Evaluated(Struct, frozen=True):
    """Gates were asked, and this decided: keep it."""

    wave: int
    evaluation: Evaluation


class Escalate(Struct, frozen=True):
    """People must hear of it."""

    step: Step
    sentence: str


class Watch(Struct, frozen=True):
    """The rollout was looked at. `after` differs in `watched_at`, and in `watching_since` after a hole."""

    before: RolloutRow
    after: RolloutRow


Action = MoveRollout | MoveWave | MoveStep | MoveSteps | LookAgain | LookAtAll | GiveOut | Evaluated | Escalate | Watch
