"""States of rollouts, waves, site steps, attempts and lanes, and the one table of what may follow what. Pure.

`TABLES` is the only place that says which event leads from which state to which. The engine moves things through
`after()`, which refuses what the table does not hold; services guard their writes with the same states; picture.py
draws docs/rollouts.md from it. `guard` is the condition in plain words; the engine checks it.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

State = TypeVar("State", bound=StrEnum)


# States -----------------------------------------------------------------------------------------------------
class RolloutState(StrEnum):
    """How far a rollout is."""

    DRAFT = "draft"
    PLANNED = "planned"
    AWAITING_APPROVAL = "awaiting_approval"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    ABORTING = "aborting"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    PARTIALLY_SUCCEEDED = "partially_succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"


class Pause(StrEnum):
    """Why a rollout is paused: no new claims, sites held at their next safe point, or a wave that is held."""

    STOPPED = "stopped"
    FROZEN = "frozen"
    HELD = "held"


class WaveState(StrEnum):
    """How far a wave is."""

    PENDING = "pending"
    OPEN = "open"
    SOAKING = "soaking"
    GATE = "gate"
    HELD = "held"
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class StepState(StrEnum):
    """How far one site is."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    CATCH_UP = "catch_up"
    CLAIMED = "claimed"
    STAGING = "staging"
    APPLYING = "applying"
    REBOOTING = "rebooting"
    VERIFYING = "verifying"
    SOAKING = "soaking"
    IN_DOUBT = "in_doubt"
    PROVEN = "proven"
    FAILED = "failed"
    ROLLING_BACK = "rolling_back"
    ROLLBACK_WAITING = "rollback_waiting"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"


class AttemptState(StrEnum):
    """What became of one signed document. A document is signed once, so every end is final."""

    GIVEN_OUT = "given_out"
    ACCEPTED = "accepted"
    PROVEN = "proven"
    FAILED = "failed"
    EXPIRED = "expired"
    REPLACED = "replaced"


class LaneState(StrEnum):
    """Whether sites that were left behind may still catch up."""

    OPEN = "open"
    HALTED = "halted"
    CLOSED = "closed"


class Failure(StrEnum):
    """Why a step failed."""

    REFUSED = "refused"
    PULL_FAILED = "pull_failed"
    NO_SPACE = "no_space"
    APPLY_FAILED = "apply_failed"
    UNHEALTHY = "unhealthy"
    REGRESSED = "regressed"
    LOST = "lost"
    TIMED_OUT = "timed_out"


class Wait(StrEnum):
    """Why a step is deferred, or waits in the lane."""

    OFFLINE = "offline"
    BUSY = "busy"
    HELD = "held"
    WINDOW = "window"
    OVER_BUDGET = "over_budget"


# Events -----------------------------------------------------------------------------------------------------
class RolloutEvent(StrEnum):
    """What happens to a rollout."""

    PLAN = "plan"
    EDIT = "edit"
    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    EXPIRE = "expire"
    START = "start"
    PAUSE = "pause"
    HOLD = "hold"
    RESUME = "resume"
    SUCCEED = "succeed"
    SUCCEED_PARTLY = "succeed_partly"
    FAIL = "fail"
    ABORT = "abort"
    ABORT_DONE = "abort_done"
    ROLL_BACK = "roll_back"
    ROLLBACK_DONE = "rollback_done"
    ROLLBACK_FAIL = "rollback_fail"


class WaveEvent(StrEnum):
    """What happens to a wave."""

    OPEN = "open"
    SETTLE = "settle"
    REOPEN = "reopen"
    ASK_GATE = "ask_gate"
    GO_ON = "go_on"
    HOLD = "hold"
    UNDO = "undo"
    RETRY = "retry"
    EXCUSE = "excuse"
    RECHECK = "recheck"
    SKIP = "skip"
    FAIL = "fail"
    CANCEL = "cancel"


class StepEvent(StrEnum):
    """What happens to a site step."""

    CLAIM = "claim"
    DEFER = "defer"
    CLEAR = "clear"
    LEAVE_BEHIND = "leave_behind"
    COME_BACK = "come_back"
    WITHDRAW = "withdraw"
    STAGE = "stage"
    APPLY = "apply"
    REBOOT = "reboot"
    VERIFY = "verify"
    SETTLE = "settle"
    PROVE = "prove"
    DOUBT = "doubt"
    UNDOUBT = "undoubt"
    FAIL = "fail"
    RETRY = "retry"
    RETURN = "return"
    ROLL_BACK = "roll_back"
    WAIT_ROLLBACK = "wait_rollback"
    ROLLBACK_DONE = "rollback_done"
    ROLLBACK_FAIL = "rollback_fail"
    SKIP = "skip"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"


class AttemptEvent(StrEnum):
    """What happens to an attempt."""

    ACCEPT = "accept"
    PROVE = "prove"
    FAIL = "fail"
    EXPIRE = "expire"
    REPLACE = "replace"


class LaneEvent(StrEnum):
    """What happens to the lane."""

    HALT = "halt"
    REOPEN = "reopen"
    CLOSE = "close"


# The table --------------------------------------------------------------------------------------------------
class Transition(NamedTuple):
    """One line of the table."""

    source: StrEnum
    event: StrEnum
    guard: str
    target: StrEnum


R, W, S, A, L = RolloutState, WaveState, StepState, AttemptState, LaneState

# Groups of steps that the engine and its readers speak of.
AT_WORK: Final = (S.CLAIMED, S.STAGING, S.APPLYING, S.REBOOTING, S.VERIFYING)
UNTOUCHED: Final = (S.QUEUED, S.DEFERRED, S.CATCH_UP)
WAITING: Final = (S.QUEUED, S.DEFERRED)
TOUCHED: Final = (*AT_WORK, S.SOAKING, S.IN_DOUBT, S.PROVEN, S.FAILED)
UNSETTLED: Final = (*AT_WORK, S.SOAKING, S.IN_DOUBT, S.ROLLING_BACK)
ACTIVE_WAVE: Final = (W.OPEN, W.SOAKING, W.GATE, W.HELD)
GIVEN_UP: Final = (R.ABORTING, R.ROLLING_BACK, R.ABORTED, R.REJECTED, R.EXPIRED)
ACTIVE: Final = (R.RUNNING, R.PAUSED, R.ABORTING, R.ROLLING_BACK)


def _from(sources: Iterable[StrEnum], event: StrEnum, guard: str, target: StrEnum) -> list[Transition]:
    return [Transition(source, event, guard, target) for source in sources if source is not target]


def _rollout() -> list[Transition]:
    e = RolloutEvent
    alive = (R.RUNNING, R.PAUSED)
    ended = (R.SUCCEEDED, R.PARTIALLY_SUCCEEDED, R.FAILED, R.ABORTED, R.ROLLBACK_FAILED)
    return [
        Transition(R.DRAFT, e.PLAN, "the preview finds nothing that forbids it", R.PLANNED),
        Transition(R.PLANNED, e.SUBMIT, "", R.AWAITING_APPROVAL),
        *_from((R.PLANNED, R.AWAITING_APPROVAL, R.SCHEDULED), e.EDIT, "approvals become void", R.DRAFT),
        Transition(R.AWAITING_APPROVAL, e.APPROVE, "enough people approved this very plan", R.SCHEDULED),
        Transition(R.AWAITING_APPROVAL, e.REJECT, "an approver says no", R.REJECTED),
        *_from((R.AWAITING_APPROVAL, R.SCHEDULED), e.EXPIRE, "not approved in time, or no longer", R.EXPIRED),
        Transition(R.SCHEDULED, e.START, "its time has come, still approved", R.RUNNING),
        Transition(R.SCHEDULED, e.ABORT, "", R.ABORTED),
        Transition(R.RUNNING, e.PAUSE, "stop or freeze, with an expiry", R.PAUSED),
        Transition(R.RUNNING, e.HOLD, "a wave is held", R.PAUSED),
        Transition(R.PAUSED, e.PAUSE, "another kind of pause", R.PAUSED),
        Transition(R.PAUSED, e.RESUME, "a held wave needs a choice: retry, skip, recheck", R.RUNNING),
        *_from(alive, e.SUCCEED, "all waves passed, all steps proven or in the lane", R.SUCCEEDED),
        *_from(alive, e.SUCCEED_PARTLY, "all waves passed, some steps failed or skipped", R.PARTIALLY_SUCCEEDED),
        *_from(alive, e.FAIL, "a wave failed, nothing is at work", R.FAILED),
        *_from(alive, e.ABORT, "a person, or an expiry", R.ABORTING),
        Transition(R.ABORTING, e.ABORT_DONE, "nothing is at work", R.ABORTED),
        *_from((*alive, R.ABORTING, *ended), e.ROLL_BACK, "a person, or a failure's action", R.ROLLING_BACK),
        Transition(R.ROLLING_BACK, e.ROLLBACK_DONE, "all that answer are proven at their origin", R.ROLLED_BACK),
        Transition(R.ROLLING_BACK, e.ROLLBACK_FAIL, "some could not be", R.ROLLBACK_FAILED),
    ]


def _wave() -> list[Transition]:
    e = WaveEvent
    running = (W.OPEN, W.SOAKING, W.GATE)
    return [
        Transition(W.PENDING, e.OPEN, "the wave before has passed", W.OPEN),
        Transition(W.OPEN, e.SETTLE, "no step waits or is at work", W.SOAKING),
        *_from((W.SOAKING, W.GATE), e.REOPEN, "a step is queued again", W.OPEN),
        Transition(W.SOAKING, e.ASK_GATE, "the soaks are over", W.GATE),
        Transition(W.GATE, e.GO_ON, "every gate passes", W.PASSED),
        *_from(running, e.HOLD, "a limit is crossed, or a gate does not pass", W.HELD),
        *_from(running, e.UNDO, "a person, with a reason: what it touched goes back", W.HELD),
        Transition(W.HELD, e.UNDO, "a person, with a reason: what it touched goes back", W.HELD),
        Transition(W.HELD, e.RETRY, "a person: failed steps are queued again", W.OPEN),
        Transition(W.HELD, e.EXCUSE, "a person, with a reason: failed steps are skipped", W.OPEN),
        Transition(W.HELD, e.RECHECK, "a person has answered, or wants the gate asked again", W.GATE),
        Transition(W.HELD, e.SKIP, "a person, with a reason: the rest of the wave is skipped", W.PASSED),
        *_from((*running, W.HELD), e.FAIL, "abort, rollback of all, or an expiry", W.FAILED),
        Transition(W.PENDING, e.CANCEL, "abort, rollback of all, or an earlier wave failed", W.SKIPPED),
    ]


def _step() -> list[Transition]:
    e = StepEvent
    live = [s for s in S if s not in (S.SKIPPED, S.SUPERSEDED, S.ROLLED_BACK)]
    return [
        Transition(S.QUEUED, e.CLAIM, "a slot is free and nothing stands against it", S.CLAIMED),
        Transition(S.QUEUED, e.DEFER, "busy, held, outside its windows, or over budget", S.DEFERRED),
        Transition(S.DEFERRED, e.CLEAR, "nothing stands against it any more", S.QUEUED),
        *_from(WAITING, e.LEAVE_BEHIND, "offline, or deferred beyond patience", S.CATCH_UP),
        Transition(S.CATCH_UP, e.COME_BACK, "nothing stands against it any more", S.QUEUED),
        Transition(S.CATCH_UP, e.EXPIRE, "the lane's time is over", S.SKIPPED),
        Transition(S.CLAIMED, e.WITHDRAW, "dark before its document was sent", S.CATCH_UP),
        *_from((S.CLAIMED, S.IN_DOUBT), e.STAGE, "the site says so", S.STAGING),
        *_from((S.CLAIMED, S.STAGING, S.IN_DOUBT), e.APPLY, "the site says so", S.APPLYING),
        *_from((S.CLAIMED, S.STAGING, S.APPLYING, S.IN_DOUBT), e.REBOOT, "the site says so", S.REBOOTING),
        *_from((*AT_WORK, S.IN_DOUBT), e.VERIFY, "the site says `applied`", S.VERIFYING),
        *_from((S.VERIFYING, S.IN_DOUBT), e.SETTLE, "proof: the exact standard, after the change, up", S.SOAKING),
        Transition(S.SOAKING, e.PROVE, "stayed so for the whole soak", S.PROVEN),
        *_from((*AT_WORK, S.SOAKING), e.DOUBT, "silent after its document was sent", S.IN_DOUBT),
        Transition(S.IN_DOUBT, e.UNDOUBT, "answers, and has not begun", S.CLAIMED),
        *_from((*AT_WORK, S.SOAKING, S.IN_DOUBT, S.PROVEN), e.FAIL, "with its class", S.FAILED),
        *_from((S.FAILED, S.ROLLED_BACK, S.ROLLBACK_WAITING), e.RETRY, "by the plan, or a person", S.QUEUED),
        Transition(S.FAILED, e.RETURN, "was lost, answers, and says `applied`", S.VERIFYING),
        *_from((*TOUCHED, S.ROLLBACK_WAITING), e.ROLL_BACK, "answers, has an origin, a slot is free", S.ROLLING_BACK),
        *_from((*TOUCHED, S.ROLLING_BACK, S.ROLLBACK_FAILED), e.WAIT_ROLLBACK, "does not answer", S.ROLLBACK_WAITING),
        Transition(S.ROLLING_BACK, e.ROLLBACK_DONE, "proof of its origin", S.ROLLED_BACK),
        Transition(S.ROLLING_BACK, e.ROLLBACK_FAIL, "refused, failed, or too late", S.ROLLBACK_FAILED),
        Transition(S.ROLLBACK_WAITING, e.EXPIRE, "never came back", S.SKIPPED),
        *_from(
            (*UNTOUCHED, *TOUCHED, S.ROLLED_BACK, S.ROLLBACK_FAILED, S.ROLLBACK_WAITING),
            e.SKIP,
            "with its reason",
            S.SKIPPED,
        ),
        *_from(live, e.SUPERSEDE, "a newer document or rollout took the site over", S.SUPERSEDED),
    ]


def _attempt() -> list[Transition]:
    e = AttemptEvent
    open_ = (A.GIVEN_OUT, A.ACCEPTED)
    return [
        Transition(A.GIVEN_OUT, e.ACCEPT, "the site has it", A.ACCEPTED),
        *_from(open_, e.PROVE, "what it asks for is proven", A.PROVEN),
        *_from(open_, e.FAIL, "the step failed", A.FAILED),
        *_from(open_, e.EXPIRE, "its document expired", A.EXPIRED),
        *_from(open_, e.REPLACE, "a newer document went out, or it was withdrawn", A.REPLACED),
    ]


def _lane() -> list[Transition]:
    e = LaneEvent
    return [
        Transition(L.OPEN, e.HALT, "its own failure limit is reached", L.HALTED),
        Transition(L.HALTED, e.REOPEN, "a person", L.OPEN),
        *_from((L.OPEN, L.HALTED), e.CLOSE, "abort, failure or rollback", L.CLOSED),
    ]


class Thing(NamedTuple):
    """One state machine: where it begins, where it may rest for good, and its lines of the table."""

    begins: StrEnum
    ends: frozenset[StrEnum]
    lines: tuple[Transition, ...]


_ROLLOUT_ENDS = frozenset(R) - {R.DRAFT, R.PLANNED, R.AWAITING_APPROVAL, R.SCHEDULED, *ACTIVE}
TABLES: Final[dict[str, Thing]] = {
    "rollout": Thing(R.DRAFT, _ROLLOUT_ENDS, tuple(_rollout())),
    "wave": Thing(W.PENDING, frozenset({W.PASSED, W.FAILED, W.SKIPPED}), tuple(_wave())),
    "step": Thing(
        S.QUEUED,
        frozenset({S.PROVEN, S.FAILED, S.ROLLED_BACK, S.ROLLBACK_FAILED, S.SKIPPED, S.SUPERSEDED}),
        tuple(_step()),
    ),
    "attempt": Thing(A.GIVEN_OUT, frozenset(A) - {A.GIVEN_OUT, A.ACCEPTED}, tuple(_attempt())),
    "lane": Thing(L.OPEN, frozenset({L.CLOSED}), tuple(_lane())),
}
ENDED_STEPS: Final = TABLES["step"].ends
ENDED_ROLLOUTS: Final = TABLES["rollout"].ends
ENDED_WAVES: Final = TABLES["wave"].ends
_NEXT: Final = {
    type(thing.begins): {(line.source, line.event): line.target for line in thing.lines} for thing in TABLES.values()
}


class NotAllowedError(ValueError):
    """The table has no such line."""


def after(state: State, event: StrEnum) -> State:
    """The state that `event` leads to from `state`. Raises NotAllowedError where the table has no such line."""
    try:
        return _NEXT[type(state)][state, event]  # type: ignore[return-value]  # one table a type, held by a test
    except KeyError:
        raise NotAllowedError(f"{type(state).__name__}: {event} does not lead anywhere from {state}") from None


def allowed(state: StrEnum, event: StrEnum) -> bool:
    """Whether the table has such a line."""
    return (state, event) in _NEXT[type(state)]
