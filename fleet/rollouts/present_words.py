"""Rollouts in words: states and their looks, gates, spans of time, what happened."""

from collections.abc import Mapping
from typing import Final

from fleet.rollouts.counting import sites
from fleet.rollouts.gates import (
    Deadline,
    FailureLimit,
    Gate,
    Human,
    MetricLimit,
    MinSample,
    Outcome,
    SlaBudget,
    Soak,
    SuccessShare,
)
from fleet.rollouts.models import RolloutEvent
from fleet.rollouts.states import AT_WORK, LaneState, Pause, RolloutState, StepState, WaveState

# Steps in groups: name (its shape in static/img/steps.svg), what people call it; what went well first.
GROUPS: Final = {
    "proven": "Proven",
    "soaking": "Soaking",
    "work": "At work",
    "doubt": "In doubt",
    "failed": "Failed",
    "back": "Going back",
    "returned": "Back",
    "wait": "Waiting",
    "left": "Catching up",
    "skipped": "Skipped",
}
GROUP_OF: Final[Mapping[StepState, str]] = {
    StepState.QUEUED: "wait",
    StepState.DEFERRED: "wait",
    StepState.CATCH_UP: "left",
    **dict.fromkeys(AT_WORK, "work"),
    StepState.SOAKING: "soaking",
    StepState.IN_DOUBT: "doubt",
    StepState.PROVEN: "proven",
    StepState.FAILED: "failed",
    StepState.ROLLING_BACK: "back",
    StepState.ROLLBACK_WAITING: "back",
    StepState.ROLLED_BACK: "returned",
    StepState.ROLLBACK_FAILED: "failed",
    StepState.SKIPPED: "skipped",
    StepState.SUPERSEDED: "skipped",
}
STEPS: Final[Mapping[StepState, str]] = {
    StepState.QUEUED: "waits its turn",
    StepState.DEFERRED: "deferred",
    StepState.CATCH_UP: "left behind, may catch up",
    StepState.CLAIMED: "begun",
    StepState.STAGING: "fetching",
    StepState.APPLYING: "applying",
    StepState.REBOOTING: "rebooting",
    StepState.VERIFYING: "being verified",
    StepState.SOAKING: "soaking",
    StepState.IN_DOUBT: "silent, in doubt",
    StepState.PROVEN: "proven",
    StepState.FAILED: "failed",
    StepState.ROLLING_BACK: "going back",
    StepState.ROLLBACK_WAITING: "to go back when it answers",
    StepState.ROLLED_BACK: "back as before",
    StepState.ROLLBACK_FAILED: "could not go back",
    StepState.SKIPPED: "skipped",
    StepState.SUPERSEDED: "taken over by a newer rollout",
}
# The look of a state is that of the state of a site that asks for as much.
ROLLOUTS: Final[Mapping[RolloutState, tuple[str, str]]] = {
    RolloutState.DRAFT: ("Draft", "planned"),
    RolloutState.PLANNED: ("Planned", "planned"),
    RolloutState.AWAITING_APPROVAL: ("Waits for approval", "degraded"),
    RolloutState.SCHEDULED: ("Approved", "planned"),
    RolloutState.RUNNING: ("Running", "up"),
    RolloutState.PAUSED: ("Paused", "degraded"),
    RolloutState.ABORTING: ("Aborting", "down"),
    RolloutState.ROLLING_BACK: ("Rolling back", "down"),
    RolloutState.SUCCEEDED: ("Succeeded", "up"),
    RolloutState.PARTIALLY_SUCCEEDED: ("Partly succeeded", "degraded"),
    RolloutState.FAILED: ("Failed", "down"),
    RolloutState.ABORTED: ("Aborted", "retired"),
    RolloutState.REJECTED: ("Rejected", "retired"),
    RolloutState.EXPIRED: ("Expired", "retired"),
    RolloutState.ROLLED_BACK: ("Rolled back", "retired"),
    RolloutState.ROLLBACK_FAILED: ("Rollback failed", "down"),
}
PAUSES: Final[Mapping[Pause, str]] = {Pause.STOPPED: "Stopped", Pause.FROZEN: "Frozen", Pause.HELD: "Held"}
WAVES: Final[Mapping[WaveState, tuple[str, str]]] = {
    WaveState.PENDING: ("Waits", "planned"),
    WaveState.OPEN: ("Open", "up"),
    WaveState.SOAKING: ("Soaking", "up"),
    WaveState.GATE: ("At its gates", "up"),
    WaveState.HELD: ("Held", "degraded"),
    WaveState.PASSED: ("Passed", "up"),
    WaveState.FAILED: ("Failed", "down"),
    WaveState.SKIPPED: ("Skipped", "retired"),
}
LANES: Final[Mapping[LaneState, str]] = {
    LaneState.OPEN: "Open",
    LaneState.HALTED: "Halted at its own failure limit",
    LaneState.CLOSED: "Closed",
}
OUTCOMES: Final[Mapping[str, tuple[str, str]]] = {
    Outcome.GOES: ("Met", "up"),
    Outcome.FAIL: ("Failed", "down"),
    Outcome.INCONCLUSIVE: ("Not yet", "unknown"),
    Outcome.ERROR: ("Not measured", "degraded"),
    "": ("Not asked", "planned"),
}
FAILURES: Final = {
    "refused": "Refused by the site",
    "pull_failed": "Could not fetch what it needs",
    "no_space": "No room on the disk",
    "apply_failed": "Could not be applied",
    "unhealthy": "Did not come up healthy",
    "regressed": "Was proven, and no longer is",
    "lost": "Fell silent while it was changed",
    "timed_out": "Took too long",
}
WAITS: Final = {
    "offline": "out of reach",
    "busy": "busy",
    "held": "held by somebody",
    "window": "outside its window",
    "over_budget": "SLA budget used up",
}


def state_words(state: str, pause: str = "") -> tuple[str, str]:
    """What people call a rollout's state, and its look."""
    label, look = ROLLOUTS[RolloutState(state)]
    return (PAUSES[Pause(pause)], look) if state == RolloutState.PAUSED and pause else (label, look)


def span(seconds: float) -> str:
    """A span of time in the two largest units that it has: `90 s`, `10 min`, `1 h 30 min`, `7 d`."""
    left = round(seconds)
    if left < 120:
        return f"{left} s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def gate_words(gate: Gate) -> str:
    """What a gate asks for, with its threshold."""
    match gate:
        case MinSample(count):
            return f"At least {sites(count)} tried to the end"
        case SuccessShare(share):
            return f"At least {share * 100:g} % of those proven"
        case FailureLimit(classes, count, share):
            which = " or ".join(FAILURES[one].lower() for one in classes) or "of any class"
            limits = [f"{count:,}"] if count else []
            limits += [f"{share * 100:g} %"] if share else []
            return f"Fewer than {' or '.join(limits)} failed ({which})"
        case Soak(seconds):
            return f"Soaked for {span(seconds)}"
        case Deadline(seconds):
            return f"Passed within {span(seconds)}"
        case MetricLimit(name, at_least, at_most):
            bounds = [f"at least {at_least:g}"] if at_least is not None else []
            bounds += [f"at most {at_most:g}"] if at_most is not None else []
            return f"{name.replace('_', ' ')} {' and '.join(bounds)}"
        case SlaBudget(share):
            return f"At least {share * 100:g} % of the SLA budget left"
        case Human(question):
            return question or "A person says yes"


def event_words(event: RolloutEvent, waves: Mapping[int, str]) -> str:
    """What happened, without the site that it happened to."""
    state = event.state
    if event.thing == "rollout":
        return f"Rollout: {state_words(state)[0].lower()}"
    if event.thing == "lane":
        return f"Catch-up lane: {state}"
    if event.thing == "wave":
        return f"Wave {waves.get(event.wave or 0, '')}: {WAVES[WaveState(state)][0].lower()}"
    words = STEPS[StepState(state)]
    if event.event in ("freeze", "thaw"):
        return "frozen" if event.event == "freeze" else "goes on"
    return f"Escalated: {words}" if event.event == "escalate" else words
