"""A plan: all that people decide about a rollout, immutable, read strictly, and named by its hash. Pure.

`read_plan` reads JSON and says in a sentence what is wrong and where. `canonical` is the one form of bytes that a plan
has; `plan_hash` is what approvals are bound to. What cannot work is found by `plan_check.faults`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent.protocol.kinds import settle
from fleet.rollouts.gates import Count, Gate, Seconds, Text, gates_of
from fleet.rollouts.states import Failure
from fleet.rollouts.windows import YEARS, Calendar

MAX_SITES: Final = 200_000
MAX_WAVES: Final = 500
MAX_PLAN_BYTES: Final = 8 << 20
Id = Annotated[int, Meta(ge=1)]
Sha256 = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
HOUR, DAY = 3_600, 86_400


class Action(StrEnum):
    """What a failure limit does when it is crossed, mildest first."""

    CONTINUE = "continue"
    HOLD = "hold"
    ROLL_BACK_WAVE = "roll_back_wave"
    ROLL_BACK_ALL = "roll_back_all"


class Wave(Struct, frozen=True, forbid_unknown_fields=True):
    """Sites that are changed together. `sites` are ids, resolved when the plan was made; `why` says how."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    sites: Annotated[tuple[Id, ...], Meta(max_length=MAX_SITES)]
    gates: tuple[Gate, ...] = ()
    canary: bool = False
    why: Text = ""

    @property
    def all_gates(self) -> tuple[Gate, ...]:
        """The gates of the plan, and those that no wave goes without."""
        return gates_of(self.gates, canary=self.canary)


class Caps(Struct, frozen=True, forbid_unknown_fields=True):
    """How many sites may be in flight (claimed to verifying) at once. None: `in_flight` by default, others free."""

    in_flight: Count | None = None
    per_provider: Count | None = None
    per_region: Count | None = None
    starts_per_minute: Count | None = None


class Times(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a step may take. `reboot_s` is added where the standard reboots; `document_s` is a document's life."""

    apply_s: Seconds = 1_800
    verify_s: Seconds = 300
    soak_s: Seconds = 600
    dark_after_s: Seconds = 600
    reboot_s: Seconds = 0
    document_s: Seconds = DAY


class Patience(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a deferred step keeps its wave open, and after how long of waiting people are told."""

    defer_s: Seconds = 4 * HOUR
    escalate_s: Seconds = 72 * HOUR


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """Up to `times` new attempts, the first after `after_s`, each further one after twice as long, at most `max_s`."""

    times: Annotated[int, Meta(ge=1, le=20)]
    after_s: Seconds = 60
    max_s: Seconds = HOUR


class Lane(Struct, frozen=True, forbid_unknown_fields=True):
    """Sites that were left behind: their own caps, their own failure limit, and how long they may still come."""

    in_flight: Count = 5
    starts_per_minute: Count | None = None
    max_failed: Count = 3
    expiry_s: Seconds = 30 * DAY


class Rollback(Struct, frozen=True, forbid_unknown_fields=True):
    """What a rollback waits for (nothing, by default), and how long sites that do not answer may take to come back."""

    respects: tuple[Literal["windows", "holds", "busy"], ...] = ()
    expiry_s: Seconds = 30 * DAY


class Approvals(Struct, frozen=True, forbid_unknown_fields=True):
    """Who must agree: `needed` people, two above `two_above` sites, and one of each of these providers."""

    needed: Annotated[int, Meta(ge=1, le=10)] = 1
    two_above: Annotated[int, Meta(ge=0)] = 50
    providers: tuple[Id, ...] = ()


class Expiries(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a rollout may wait for people, and what it does then."""

    approval_s: Seconds = 7 * DAY
    pause_s: Seconds = 3 * DAY
    on_expiry: Literal["fail", "abort"] = "abort"


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that people decide. `author` never counts as an approver. `reboots`: proof needs a newer boot."""

    name: Annotated[str, Meta(min_length=1, max_length=120)]
    author: Id
    standard: Annotated[str, Meta(min_length=1, max_length=120)]
    standard_sha256: Sha256
    severity: Literal["routine", "security"] = "routine"
    reboots: bool = False
    start_at: datetime | None = None
    waves: Annotated[tuple[Wave, ...], Meta(max_length=MAX_WAVES)]
    caps: Caps = Caps()
    times: Times = Times()
    patience: Patience = Patience()
    retries: dict[Failure, Retry] = {}
    actions: dict[Failure, Action] = {}
    lane: Lane = Lane()
    calendar: Calendar = Calendar()
    abort: Literal["finish", "roll_back"] = "finish"
    rollback: Rollback = Rollback()
    approvals: Approvals = Approvals()
    expiries: Expiries = Expiries()

    def action(self, failure: Failure) -> Action:
        """What is done when a limit on this class is crossed."""
        return self.actions.get(failure, Action.HOLD)

    @property
    def site_count(self) -> int:
        """Sites of all waves."""
        return sum(len(wave.sites) for wave in self.waves)


class PlanError(ValueError):
    """What is wrong with a plan; `place` says where (`waves[0].gates[1].share`), or is empty."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place = place
        self.reason = reason


def read_plan(text: bytes | str) -> Plan:
    """The plan in a JSON text. Raises PlanError for the first thing that is wrong."""
    if len(text) > MAX_PLAN_BYTES:
        raise PlanError("", f"a plan is at most {MAX_PLAN_BYTES} bytes long")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PlanError(f"line {error.lineno}, column {error.colno}", error.msg) from None
    except UnicodeDecodeError:
        raise PlanError("", "this is not UTF-8") from None
    except RecursionError:
        raise PlanError("", "this is nested too deeply") from None
    return plan_of(value)


def plan_of(value: Mapping[str, Any]) -> Plan:
    """The plan in a JSON value. Raises PlanError for the first thing that is wrong."""
    try:
        plan = msgspec.convert(value, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(*fault_of(error)) from None
    if plan.start_at is not None and plan.start_at.tzinfo is None:
        raise PlanError("start_at", "a time needs its zone")
    if plan.start_at is not None and not YEARS[0] < plan.start_at.year < YEARS[1]:
        raise PlanError("start_at", "no rollout starts then")
    return plan


def canonical(plan: Plan) -> bytes:
    """The one form of a plan's bytes: JSON with sorted members and no blanks. Reading it gives the same plan."""
    return msgspec.json.encode(plan, order="sorted")


def plan_hash(plan: Plan) -> str:
    """`sha256:` and the hex digest of the canonical bytes: what approvals are bound to."""
    return "sha256:" + sha256(canonical(plan)).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError("", f"the member {twice!r} is there twice")
    return found


def _no_constant(word: str) -> None:
    raise PlanError("", f"{word} is not a number")


_TIMES: Final = {
    "Invalid RFC3339 encoded time": "a time of day is written as 22:00:00",
    "Invalid RFC3339 encoded datetime": "a moment is written as 2026-12-24T18:00:00",
    "Expected `time` with no timezone component": "this time is on the site's clock, without a zone",
    "Expected `datetime` with no timezone component": "this moment is on the site's clock, without a zone",
}


def fault_of(error: msgspec.ValidationError) -> tuple[str, str]:
    """(place, reason) of a value that is not what it should be, as a person would say it."""
    reason, _, place = str(error).partition(" - at `$")
    return place.strip("`.").removeprefix("."), _sentence_of(reason)


def _sentence_of(reason: str) -> str:
    if reason.startswith("Object contains unknown field"):
        return "there is no such member: " + reason.partition("`")[2].rstrip("`")
    if reason.startswith("Object missing required field"):
        return "a member is missing: " + reason.partition("`")[2].rstrip("`")
    if reason in _TIMES:
        return _TIMES[reason]
    return reason[0].lower() + reason[1:]


settle(__name__)
