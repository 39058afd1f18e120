"""What each button would do to a rollout now, in words and numbers, before it does it. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from fleet.rollouts.counting import sites as counted
from fleet.rollouts.engine.approvals import people_needed, verdict
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.engine.facts import Head, WaveRow
from fleet.rollouts.engine.tally import Tally
from fleet.rollouts.gates import Human
from fleet.rollouts.states import (
    ACTIVE_WAVE,
    AT_WORK,
    TOUCHED,
    UNTOUCHED,
    LaneState,
    Pause,
    RolloutEvent,
    RolloutState,
    StepState,
    WaveState,
    allowed,
)

_NOBODY: Final[Mapping[int, str]] = {}
# From so many sites on, a person types the number before it happens.
TYPED_ABOVE: Final = 50
# Whoever must stop a rollout at night is asked for no number first.
WITHOUT_NUMBER: Final = ("pause", "freeze")
_GONE: Final = (StepState.FAILED, StepState.ROLLED_BACK, StepState.ROLLBACK_WAITING)


class Effect(Struct, frozen=True, kw_only=True):
    """One button. `sites`: how many it touches; `right`: who may press it; `needs_reason`: others will read why.

    `choice` is set for the ways to go on with a wave that is held.
    """

    verb: str
    label: str
    words: tuple[str, ...]
    sites: int
    right: str = "rollout.run"
    needs_reason: bool = False
    choice: Choice | None = None
    danger: bool = False

    @property
    def needs_typing(self) -> bool:
        """Whether the number of sites must be typed first."""
        return self.sites > TYPED_ABOVE and self.verb not in WITHOUT_NUMBER

    @property
    def key(self) -> str:
        """A name for it among the others."""
        return f"{self.verb}-{self.choice}" if self.choice else self.verb


def effects(head: Head, now: datetime, names: Mapping[int, str] = _NOBODY) -> list[Effect]:
    """What can be done to the rollout as it is at `now`, those first that a person looks for first.

    `names` are those of providers by id, for the words.
    """
    return [*_before(head, now, names), *_while(head), *_after(head)]


def effect_of(head: Head, now: datetime, verb: str, choice: Choice | None = None) -> Effect | None:
    """The effect of one verb; None where it cannot be done now."""
    return next((one for one in effects(head, now) if (one.verb, one.choice) == (verb, choice)), None)


def own_effects(state: RolloutState, sites: int) -> list[Effect]:
    """What somebody may say who speaks for a provider, of which `sites` are in the rollout; no word tells of others."""
    found = []
    if state is RolloutState.AWAITING_APPROVAL:
        words = [
            f"You agree that {counted(sites)} of yours are changed by this very plan. Others may have to agree too."
        ]
        found.append(_effect("approve", "Approve", words, sites, right="rollout.approve"))
    if state in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED):
        words = ["Nothing of this plan happens, at your sites or elsewhere. It can be planned anew."]
        found.append(_effect("reject", "Reject", words, 0, right="rollout.approve", needs_reason=True, danger=True))
    return found


# Before the start -------------------------------------------------------------------------------------------
def _before(head: Head, now: datetime, names: Mapping[int, str]) -> list[Effect]:
    state, plan = head.rollout.state, head.plan
    count, found = plan.site_count, []
    if allowed(state, RolloutEvent.SUBMIT):
        people = people_needed(plan)
        words = [f"{people} {'person' if people == 1 else 'people'} must approve it; who planned it does not count."]
        if plan.approvals.providers:
            words.append(f"{len(set(plan.approvals.providers))} of them must speak for providers of its sites.")
        words.append(_begins(head))
        found.append(_effect("submit", "Ask for approval", words, 0, right="rollout.plan"))
    if state in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED):
        said = verdict(plan, head.plan_hash, head.approvals, now)
        lacking = said.missing(names) or "nothing more"
        words = [f"You agree to this very plan for {counted(count)}. Still needed: {lacking}.", _begins(head)]
        if state is RolloutState.AWAITING_APPROVAL:
            found.append(_effect("approve", "Approve", words, count, right="rollout.approve"))
        words = [f"Nothing of this plan happens to any of its {counted(count)}. It can be planned anew."]
        found.append(_effect("reject", "Reject", words, 0, right="rollout.approve", needs_reason=True, danger=True))
    if allowed(state, RolloutEvent.START):
        first = plan.waves[0]
        words = [
            f"Wave 1 of {len(plan.waves)} ({first.name}) opens now with {counted(len(first.sites))}.",
            f"The other waves follow when their gates pass: {counted(count)} in all.",
        ]
        found.append(_effect("start", "Start now", words, count))
    return found


def _begins(head: Head) -> str:
    at = head.plan.start_at
    return f"Once approved it starts at {at:%Y-%m-%d %H:%M %Z}." if at else "Once approved it starts at once."


# While it runs ----------------------------------------------------------------------------------------------
def _while(head: Head) -> list[Effect]:
    state, tally = head.rollout.state, Tally(head.counts, head.flight)
    at_work = tally.count((*AT_WORK, StepState.IN_DOUBT))
    waiting = tally.count(UNTOUCHED)
    found: list[Effect] = []
    if allowed(state, RolloutEvent.RESUME):
        found += _resumes(head, tally)
    if allowed(state, RolloutEvent.PAUSE) and head.rollout.pause is not Pause.STOPPED:
        words = [
            f"No further site is begun: {counted(waiting)} wait. {counted(at_work)} at work finish.",
            _expires(head),
        ]
        found.append(_effect("pause", "Stop claiming", words, waiting, needs_reason=True))
    if allowed(state, RolloutEvent.PAUSE) and head.rollout.pause is not Pause.FROZEN:
        words = [
            f"No further site is begun, and the {counted(at_work)} at work hold at their next safe point.",
            "What runs there goes on running.",
            _expires(head),
        ]
        found.append(_effect("freeze", "Freeze", words, at_work + waiting, needs_reason=True))
    found += _of_the_wave(head, tally)
    if allowed(state, RolloutEvent.ABORT):
        ending = "finish" if head.plan.abort == "finish" else "go back to what they ran before"
        words = [
            f"{counted(waiting)} are not changed any more. {counted(at_work)} at work {ending}.",
            f"{counted(tally.count((StepState.PROVEN, StepState.SOAKING)))} that are done stay as they are.",
        ]
        found.append(_effect("abort", "Abort", words, waiting + at_work, needs_reason=True, danger=True))
    return found


def _of_the_wave(head: Head, tally: Tally) -> list[Effect]:
    """The way back of the present wave alone."""
    wave = next((one for one in head.waves if one.state in ACTIVE_WAVE), None)
    if wave is None or wave.undoing or not allowed(head.rollout.state, RolloutEvent.PAUSE):
        return []
    # Those of it that were left behind and have caught up since go back too.
    touched, waiting = tally.count(TOUCHED, wave.index), tally.count(UNTOUCHED, wave.index, lane=False)
    if not touched:
        return []
    words = [
        f"{counted(touched)} of wave {head.plan.waves[wave.index].name!r} go back, each to what it had proven before.",
        f"{counted(waiting)} of it that wait are not begun, and earlier waves stay as they are.",
        "Then the wave is held until somebody chooses: retry, skip, or give the rollout up.",
    ]
    label = "Roll this wave back"
    return [_effect("roll_back_wave", label, words, touched, needs_reason=True, danger=True)]


def _resumes(head: Head, tally: Tally) -> list[Effect]:
    wave = next((one for one in head.waves if one.state in ACTIVE_WAVE), None)
    if wave is None or wave.state is not WaveState.HELD:
        waiting = tally.count(UNTOUCHED)
        return [_effect("resume", "Resume", [f"{counted(waiting)} that wait may be begun again."], waiting)]
    failed = tally.count((StepState.FAILED,), lane=False)
    gone = tally.count(_GONE[1:], wave.index, lane=False)
    left = tally.count(UNTOUCHED, wave.index, lane=False)
    name = head.plan.waves[wave.index].name
    found = [
        *_answers(head, wave),
        _choice(
            Choice.RETRY,
            "Retry what failed",
            [f"{counted(failed + gone)} are tried again with a new document; {counted(left)} of wave {name!r} go on."],
            failed + gone + left,
        ),
        _choice(
            Choice.SKIP_FAILED,
            "Skip what failed",
            [f"{counted(failed + gone)} stay as they are, with your reason. {counted(left)} of wave {name!r} go on."],
            failed + gone + left,
            reason=True,
        ),
        _choice(
            Choice.SKIP_WAVE,
            "Skip the rest of the wave",
            [f"{counted(failed + gone + left)} of wave {name!r} stay as they are. The next wave opens."],
            failed + gone + left,
            reason=True,
        ),
    ]
    if not wave.undoing:
        asks = "The gates are asked again with the values of now; nothing else changes."
        found.append(_choice(Choice.RECHECK, "Ask the gates again", [asks], 0))
    return found


def _answers(head: Head, wave: WaveRow) -> list[Effect]:
    """The question of the held wave's human gate, unless it was answered with yes."""
    gate = next((gate for gate in head.plan.waves[wave.index].gates if isinstance(gate, Human)), None)
    if gate is None or wave.answer or wave.undoing:
        return []
    following = head.plan.waves[wave.index + 1 : wave.index + 2]
    sites = sum(len(one.sites) for one in following)
    opens = f"wave {following[0].name!r} opens with {counted(sites)}" if following else "the rollout is done"
    words = [
        gate.question or f"May the rollout go on after wave {head.plan.waves[wave.index].name!r}?",
        f"Yes: the gates are asked again, and if all of them pass, {opens}. No: the wave stays held.",
    ]
    return [_effect("answer", "Answer", words, sites)]


# After it, or instead of it ---------------------------------------------------------------------------------
def _after(head: Head) -> list[Effect]:
    state, tally = head.rollout.state, Tally(head.counts, head.flight)
    found = []
    if allowed(state, RolloutEvent.ROLL_BACK):
        if state is RolloutState.ROLLBACK_FAILED:
            touched = tally.count((StepState.ROLLBACK_FAILED, StepState.ROLLBACK_WAITING))
        else:
            touched = tally.count((*TOUCHED, StepState.ROLLBACK_WAITING))
        offline = tally.count((StepState.ROLLBACK_WAITING,))
        words = [
            f"{counted(touched)} go back, each to what it had proven before, the newest wave first.",
            "It waits for no window, hold or busy lease, unless the plan says so.",
        ]
        if offline:
            words.append(f"{counted(offline)} do not answer and go back when they return.")
        if touched:
            found.append(_effect("roll_back", "Roll all back", words, touched, needs_reason=True, danger=True))
    if head.rollout.lane is LaneState.HALTED:
        waiting = tally.count((StepState.CATCH_UP,))
        words = [f"{counted(waiting)} that were left behind may catch up again; those that failed there are skipped."]
        found.append(_effect("reopen_lane", "Reopen the catch-up lane", words, waiting, needs_reason=True))
    return found


# ------------------------------------------------------------------------------------------------------------
def _effect(
    verb: str,
    label: str,
    words: list[str],
    sites: int,
    *,
    right: str = "rollout.run",
    needs_reason: bool = False,
    danger: bool = False,
) -> Effect:
    return Effect(
        verb=verb,
        label=label,
        words=tuple(words),
        sites=sites,
        right=right,
        needs_reason=needs_reason,
        danger=danger,
    )


def _choice(choice: Choice, label: str, words: list[str], sites: int, *, reason: bool = False) -> Effect:
    return Effect(verb="resume", label=label, words=tuple(words), sites=sites, needs_reason=reason, choice=choice)


def _expires(head: Head) -> str:
    hours = head.plan.expiries.pause_s / 3600
    ending = "aborted" if head.plan.expiries.on_expiry == "abort" else "failed"
    return f"If nobody goes on within {hours:g} hours, the rollout is {ending}."
