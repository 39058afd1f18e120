"""What the engine sees: a rollout's rows, counters over its steps, and facts about the sites that matter now. Pure.

A snapshot is read in two parts, so that a tick's cost follows what changed and not how many sites there are. The
`Head` is small: the rollout, its waves, and counters that the database keeps. It tells by `asks()` which rows are
wanted; `Rows` are those: steps whose time has come or whose site changed, and as many candidates as there is room for.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from fleet.rollouts.gates import Measure
from fleet.rollouts.plan import Plan
from fleet.rollouts.states import Failure, LaneState, Pause, RolloutState, StepState, Wait, WaveState
from fleet.rollouts.windows import Calendar

Document = tuple[int, int]
"""Epoch and version of a signed document; later ones are greater."""


# Sites ------------------------------------------------------------------------------------------------------
class Progress(StrEnum):
    """How far a site says it is with its document."""

    NONE = "none"
    STAGING = "staging"
    APPLYING = "applying"
    REBOOTING = "rebooting"
    HELD = "held"
    APPLIED = "applied"
    FAILED = "failed"


PROGRESS_OF_AGENT: Final[Mapping[str, Progress]] = {
    "none": Progress.NONE,
    "accepted": Progress.STAGING,
    "staging": Progress.STAGING,
    "staged": Progress.STAGING,
    "applying": Progress.APPLYING,
    "held": Progress.HELD,
    "applied": Progress.APPLIED,
    "failed": Progress.FAILED,
    "rolled_back": Progress.FAILED,
    "superseded": Progress.NONE,
}
"""How to read the `state` in an agent's report."""


class Taken(StrEnum):
    """What another rollout does with the site."""

    FREE = ""
    LOCKED = "locked"
    NEWER = "newer"


class Site(Struct, frozen=True, kw_only=True):
    """What is known of a site. `conforms`: its last good report, made at `report_at`, shows the exact standard.

    `dark_since` is when it was last heard, while it is not reachable. `document`, `progress`, `failure` and `detail`
    are its own word. `refused` is the document that it last refused. `taken`: LOCKED while another rollout has a step
    in flight there, NEWER where a newer rollout has the site. `has_kernel`: it runs the standard's kernel already, so
    that the change does not boot it.
    """

    id: int
    provider: int
    region: str = ""
    zone: str = "UTC"
    reachable: bool = True
    dark_since: datetime | None = None
    report_at: datetime | None = None
    up: bool = True
    components: str = ""
    conforms: bool = False
    boot: str = ""
    document: Document = (0, 0)
    progress: Progress = Progress.NONE
    failure: Failure | None = None
    detail: str = ""
    refused: Document = (0, 0)
    busy_until: datetime | None = None
    over_budget: bool = False
    taken: Taken = Taken.FREE
    has_kernel: bool = False


# Rows -------------------------------------------------------------------------------------------------------
class Origin(StrEnum):
    """What a rollback of the site leads to."""

    PROVEN = "proven"
    LAST_GOOD = "last_good"
    NONE = "none"


class Step(Struct, frozen=True, kw_only=True):
    """One site of a rollout: a row. The engine writes all of it but the columns of its document.

    `lease` guards each write. `slot`: it counts as in flight. `due_at`: the next time to look at it. `waits_since`:
    first deferred or left behind. `begun_at`: when its attempt began. `origin_components`: digest of the components
    that it was last proven with. `lane`: it catches up, and counts apart. `undoing`: its document leads back.
    Of the document: `document` (None until it is written), `given_at`, `sent`, `expires_at`: written when it is given
    out, and by who delivers it (`sent`, before the first byte); the engine only clears `document`. `boot_before`: the
    boot of its site when it was claimed, where proof needs a newer one; empty where any will do.
    """

    id: int
    site: int
    wave: int
    provider: int
    region: str = ""
    state: StepState = StepState.QUEUED
    since: datetime
    due_at: datetime | None = None
    begun_at: datetime | None = None
    waits_since: datetime | None = None
    wait: Wait | None = None
    failure: Failure | None = None
    reason: str = ""
    lease: int = 0
    tries: int = 0
    lane: bool = False
    slot: bool = False
    frozen: bool = False
    undoing: bool = False
    escalated: bool = False
    origin: Origin = Origin.PROVEN
    origin_components: str = ""
    document: Document | None = None
    given_at: datetime | None = None
    sent: bool = False
    expires_at: datetime | None = None
    boot_before: str = ""


class Look(Struct, frozen=True):
    """A step, and what is known of its site."""

    step: Step
    site: Site


class WaveRow(Struct, frozen=True, kw_only=True):
    """A wave's row. `undoing`: what it touched is rolled back. `answer`: what a person said to its human gate."""

    index: int
    state: WaveState = WaveState.PENDING
    since: datetime
    opened_at: datetime | None = None
    reason: str = ""
    undoing: bool = False
    answer: bool | None = None


class RolloutRow(Struct, frozen=True, kw_only=True):
    """A rollout's row. `until`: when its waiting for people expires.

    `approved_hash`: the plan that was approved. `watched_at`, `watching_since`: the last tick, and since when there
    was no hole between ticks.
    """

    id: int
    state: RolloutState = RolloutState.DRAFT
    since: datetime
    pause: Pause | None = None
    reason: str = ""
    until: datetime | None = None
    approved_hash: str = ""
    lane: LaneState = LaneState.OPEN
    watched_at: datetime | None = None
    watching_since: datetime | None = None


# Beside the rows --------------------------------------------------------------------------------------------
class Approval(Struct, frozen=True, kw_only=True):
    """A person's word on a plan. `provider`: whom they speak for; None for the operator."""

    person: int
    plan_hash: str
    yes: bool = True
    provider: int | None = None
    expires_at: datetime


class Hold(Struct, frozen=True, kw_only=True):
    """Somebody says: not now. Of site, region and provider the first that is given is its scope; none: all.

    `overridden_by` are people who agreed to override it; two are needed, and a standard of security severity.
    """

    id: int
    reason: str
    until: datetime
    provider: int | None = None
    region: str | None = None
    site: int | None = None
    overridden_by: frozenset[int] = frozenset()


CountKey = tuple[bool, StepState, Failure | None]
"""Lane, state, failure class."""

Counts = Mapping[int, Mapping[CountKey, int]]
"""How many steps of each wave are how."""


class Flight(Struct, frozen=True, kw_only=True):
    """Steps that hold a slot, and how many took one in the last 60 s.

    Providers and regions are counted over all rollouts, lanes included.
    """

    wave: int = 0
    lane: int = 0
    by_provider: Mapping[int, int] = {}
    by_region: Mapping[str, int] = {}
    started: int = 0
    lane_started: int = 0


class Head(Struct, frozen=True, kw_only=True):
    """What every tick reads. `plan_hash` is that of `plan`, computed when it was loaded. `calendars`: by provider."""

    rollout: RolloutRow
    plan: Plan
    plan_hash: str
    waves: Sequence[WaveRow]
    counts: Counts
    flight: Flight = Flight()
    approvals: Sequence[Approval] = ()
    holds: Sequence[Hold] = ()
    calendars: Mapping[int, Calendar] = {}
    metrics: Mapping[str, Measure] = {}
    budget_left: Measure | None = None


class Rows(Struct, frozen=True, kw_only=True):
    """What this tick looks at; see asks.Asks for what each list is."""

    due: Sequence[Look] = ()
    queued: Sequence[Look] = ()
    lane: Sequence[Look] = ()
    undo: Sequence[Look] = ()
    turn: Sequence[Look] = ()


class Snapshot(Struct, frozen=True):
    """All that one tick sees."""

    head: Head
    rows: Rows = Rows()
