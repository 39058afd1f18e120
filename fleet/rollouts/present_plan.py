"""Plans in words: spans of time, shares, selections, gates, and each group of choices in one line."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from fleet.rollouts.engine.claims import DEFAULT_IN_FLIGHT, DEFAULT_SHARE
from fleet.rollouts.gates import (
    Deadline,
    FailureLimit,
    Gate,
    Human,
    MetricLimit,
    MinSample,
    SlaBudget,
    Soak,
    SuccessShare,
    gates_of,
)
from fleet.rollouts.plan import Action, Approvals, Caps, Expiries, Lane, Patience, Retry, Rollback, Times
from fleet.rollouts.recipe import Selection
from fleet.rollouts.states import Failure
from fleet.rollouts.windows import Calendar, Weekly
from sites.present import LABELS as KIND_LABELS

FAILURES: Final[dict[Failure, str]] = {
    Failure.REFUSED: "The site refused it",
    Failure.PULL_FAILED: "An image could not be fetched",
    Failure.NO_SPACE: "No room on its disk",
    Failure.APPLY_FAILED: "It could not be applied",
    Failure.UNHEALTHY: "It came up unhealthy",
    Failure.REGRESSED: "It was well, and no longer is",
    Failure.LOST: "The site fell silent",
    Failure.TIMED_OUT: "It took too long",
}
ACTIONS: Final[dict[Action, str]] = {
    Action.HOLD: "Hold the wave",
    Action.ROLL_BACK_WAVE: "Roll back the wave",
    Action.ROLL_BACK_ALL: "Roll back all that was touched",
    Action.CONTINUE: "Go on",
}
# Figures that gates may look at: what people call them, and how many of the unit one is.
METRICS: Final[dict[str, tuple[str, str, float]]] = {
    "cpu_ratio": ("CPU", "%", 100.0),
    "mem_ratio": ("Memory", "%", 100.0),
    "disk_ratio": ("Disk", "%", 100.0),
    "temp_celsius": ("Temperature", "°C", 1.0),
    "rtt_ms": ("Round trip", "ms", 1.0),
}
COMPLIANCE: Final = {
    "drift": "in drift",
    "unknown": "out of reach",
    "conform": "conforming",
    "none": "that follow none",
}
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_WORDS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


# Small words ------------------------------------------------------------------------------------------------
def span_text(seconds: int) -> str:
    """A span of time, exact: `10 min`, `1 h 30 min`, `7 d`."""
    parts, left = [], seconds
    for unit, size in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts) or "0 s"


def span_of(text: str) -> int | None:
    """Seconds of a span as people write it; None for what is none."""
    wanted = text.strip().lower()
    if wanted == "0":
        return 0
    found = _SPAN.findall(wanted)
    if not found or "".join(number + unit for number, unit in found) != re.sub(r"\s+", "", wanted):
        return None
    if any(unit not in _WORDS for _, unit in found):
        return None
    return round(sum(float(number) * _WORDS[unit] for number, unit in found))


def number_text(value: float) -> str:
    """A number without the zeros that say nothing."""
    return f"{round(value, 6):g}" if abs(value) < 1e6 else f"{value:.0f}"


def share_text(share: float) -> str:
    """A share 0..1 in percent, without rounding what was written."""
    return f"{number_text(share * 100)} %"


def sites_text(count: int) -> str:
    """So many sites."""
    return f"{count:,} site{'' if count == 1 else 's'}"


def joined(words: Iterable[str], last: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`."""
    listed = list(words)
    return f"{', '.join(listed[:-1])} {last} {listed[-1]}" if len(listed) > 1 else "".join(listed)


def sentence(text: str) -> str:
    """With a capital letter in front."""
    return text[:1].upper() + text[1:]


# Which sites ------------------------------------------------------------------------------------------------
def selection_text(select: Selection, providers: Mapping[str, str]) -> str:
    """A selection as people say it; nothing for an empty one. `providers`: names by slug."""
    if select.is_empty:
        return ""
    parts = []
    if select.sites is not None:
        parts.append(f"{sites_text(len(select.sites))} picked one by one")
    else:
        parts.append("all active sites" if select == Selection(everything=True) else "active sites")
    if select.providers:
        parts.append(f"of {joined(providers.get(slug, slug) for slug in select.providers)}")
    if select.regions:
        parts.append(f"in {joined(select.regions)}")
    if select.rings:
        parts.append(f"with the ring label {joined(select.rings)}")
    if select.labels:
        parts.append(f"labelled {', '.join(f'{key}={value}' for key, value in sorted(select.labels.items()))}")
    if select.kinds:
        parts.append(f"that are {joined(KIND_LABELS.get(kind, kind).lower() for kind in select.kinds)}")
    if select.text:
        parts.append(f"named “{select.text}”")
    return " ".join([*parts, *_compliance_words(select)])


def _compliance_words(select: Selection) -> list[str]:
    parts = []
    if select.ring:
        parts.append(f"of the ring {select.ring}")
    if select.follows:
        parts.append(f"that follow {select.follows}")
    if select.compliance:
        parts.append(COMPLIANCE[select.compliance])
    if select.component is not None:
        one = select.component
        have = "" if one.version is None else f" ({one.version})" if one.version else " (not there)"
        parts.append(f"with another {one.kind} {one.name}{have}")
    return parts


# Waves ------------------------------------------------------------------------------------------------------
def gates_text(gates: Sequence[Gate], *, canary: bool) -> str:
    """What a wave must show, in one line; what holds without being said too."""
    return sentence("; ".join(_gate_text(gate) for gate in gates_of(gates, canary=canary))) + "."


def _gate_text(gate: Gate) -> str:
    match gate:
        case MinSample(sites):
            return f"{sites_text(sites)} tried at least"
        case SuccessShare(share):
            return f"{share_text(share)} proven"
        case FailureLimit(classes, count, share):
            limits = [sites_text(count) if count else "", share_text(share) if share else ""]
            failed = joined(name.replace("_", " ") for name in classes) or "failed"
            return f"held at {joined(part for part in limits if part)} {failed}"
        case Soak(seconds):
            return f"soaks for {span_text(seconds)}"
        case Deadline(seconds):
            return f"over within {span_text(seconds)}"
        case MetricLimit(name, at_least, at_most):
            return _metric_text(name, at_least, at_most)
        case SlaBudget(share_left):
            return f"{share_text(share_left)} of the SLA budget left"
        case Human():
            return "a person says yes"


def _metric_text(name: str, at_least: float | None, at_most: float | None) -> str:
    label, unit, size = METRICS.get(name, (name, "", 1.0))
    bounds = ((bound, word) for bound, word in ((at_least, "at least"), (at_most, "at most")) if bound is not None)
    return f"{label} {' and '.join(f'{word} {number_text(bound * size)} {unit}'.strip() for bound, word in bounds)}"


# Groups -----------------------------------------------------------------------------------------------------
def group_lines(rest: Mapping[str, Any], providers: Mapping[int, str]) -> dict[str, str]:
    """Each group of choices in one line, by its name, of the members of a plan as they are written.

    `providers`: names by id. A group that cannot be read says so.
    """
    lines: dict[str, Callable[[], str]] = {
        "pace": lambda: pace_text(_read(rest, "caps", Caps)),
        "when": lambda: when_text(_read(rest, "calendar", Calendar)),
        "failures": lambda: failures_text(
            _read(rest, "actions", dict[Failure, Action]), _read(rest, "retries", dict[Failure, Retry])
        ),
        "times": lambda: times_text(_read(rest, "times", Times), _read(rest, "patience", Patience)),
        "approval": lambda: approval_text(_read(rest, "approvals", Approvals), providers),
        "ends": lambda: ends_text(
            rest.get("abort", "finish"), _read(rest, "expiries", Expiries), _read(rest, "rollback", Rollback)
        ),
        "lane": lambda: lane_text(_read(rest, "lane", Lane)),
    }
    found = {}
    for name, line in lines.items():
        try:
            found[name] = line()
        except msgspec.ValidationError:
            found[name] = "Something in it cannot be read."
    return found


def _read(rest: Mapping[str, Any], name: str, kind: Any) -> Any:
    return msgspec.convert(rest.get(name) or {}, kind)


def pace_text(caps: Caps) -> str:
    """How many at a time."""
    words = [
        f"{caps.in_flight} at a time"
        if caps.in_flight
        else f"{share_text(DEFAULT_SHARE)} of a wave at a time, at most {DEFAULT_IN_FLIGHT}"
    ]
    if caps.per_provider:
        words.append(f"at most {caps.per_provider} a provider")
    if caps.per_region:
        words.append(f"at most {caps.per_region} a region")
    if caps.starts_per_minute:
        words.append(f"{caps.starts_per_minute} starts a minute")
    return sentence(", ".join(words)) + "."


def when_text(calendar: Calendar) -> str:
    """The plan's own windows and freezes."""
    windows, freezes = len(calendar.windows), len(calendar.freezes)
    words = "whenever the providers' calendars allow"
    if windows:
        words = joined((window_text(window) for window in calendar.windows), "and")
    if freezes:
        words += f", but for {freezes} freeze{'' if freezes == 1 else 's'}"
    return sentence(words) + "."


def window_text(window: Weekly) -> str:
    """A weekly window: `Mon to Fri 22:00 to 06:00`."""
    days = sorted(window.days)
    if len(days) == len(DAYS):
        named = "daily"
    elif len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        named = f"{DAYS[days[0]]} to {DAYS[days[-1]]}"
    else:
        named = ", ".join(DAYS[day] for day in days)
    return f"{named} {window.begin:%H:%M} to {window.end:%H:%M}"


def failures_text(actions: Mapping[Failure, Action], retries: Mapping[Failure, Retry]) -> str:
    """What a failure does."""
    other = [
        f"{name.replace('_', ' ')}: {ACTIONS[action].lower()}"
        for name, action in actions.items()
        if action is not Action.HOLD
    ]
    tried = [
        f"{name.replace('_', ' ')} {'once' if retry.times == 1 else f'{retry.times} times'}"
        for name, retry in retries.items()
    ]
    words = f"A limit that is crossed holds the wave{', but ' + '; '.join(other) if other else ''}. "
    return words + (f"Tried again: {', '.join(tried)}." if tried else "Nothing is tried again by itself.")


def times_text(times: Times, patience: Patience) -> str:
    """How long things may take."""
    return (
        f"{span_text(times.apply_s)} to apply, {span_text(times.soak_s)} of soak, lost after "
        f"{span_text(times.dark_after_s)} of silence, waits {span_text(patience.defer_s)} for a site."
    )


def approval_text(approvals: Approvals, providers: Mapping[int, str]) -> str:
    """Who must agree."""
    people = f"{approvals.needed} {'person' if approvals.needed == 1 else 'people'}"
    words = f"{people}, two at least above {sites_text(approvals.two_above)}" if approvals.needed < 2 else people
    named = joined((providers.get(pk, "a provider") for pk in approvals.providers), "and")
    return f"{words}, among them {named}." if named else f"{words}."


def ends_text(abort: str, expiries: Expiries, rollback: Rollback) -> str:
    """What ends it."""
    ending = "is aborted" if expiries.on_expiry == "abort" else "fails"
    at_work = "finish" if abort == "finish" else "go back"
    respects = joined(rollback.respects, "and") or "nothing"
    return (
        f"On abort, sites at work {at_work}. After {span_text(expiries.pause_s)} of pause it {ending}. "
        f"A rollback waits for {respects}."
    )


def lane_text(lane: Lane) -> str:
    """Who was left behind."""
    return (
        f"Sites that were left behind may still come for {span_text(lane.expiry_s)}, {lane.in_flight} at a time; "
        f"halted at {lane.max_failed} failure{'' if lane.max_failed == 1 else 's'}."
    )
