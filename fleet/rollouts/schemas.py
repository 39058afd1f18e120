"""What the API takes and gives about rollouts. Counts are by state, of the sites that the caller may see."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import AwareDatetime

from fleet.rollouts.effects import Effect
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.models import Approval, Rollout, Wave
from fleet.rollouts.plan import MAX_SITES
from fleet.rollouts.states import LaneState, Pause, RolloutState, WaveState

Reason = Annotated[str, Field(max_length=300)]
Hash = Annotated[str, Field(max_length=71)]
ByState = dict[str, int]


# What is sent -----------------------------------------------------------------------------------------------
class ExpectIn(Schema):
    """What was looked at: `expect` is the hash of the plan, `since` that of the rollout; without it, as it is now.

    `sites` is how many may be touched at most: needed where the effect says `needs_typing`.
    """

    expect: Hash
    since: AwareDatetime | None = None
    sites: Annotated[int, Field(ge=0, le=MAX_SITES)] | None = None


class SayIn(ExpectIn):
    """The same, and if you like, why."""

    reason: Reason = ""


class WhyIn(ExpectIn):
    """The same, and why: others will read it."""

    reason: Reason


class PauseIn(WhyIn):
    """`seconds` after which it expires; at most, and without them, what the plan says."""

    seconds: Annotated[int, Field(ge=1, le=366 * 86_400)] | None = None


class ResumeIn(SayIn):
    """`choice` is needed where a wave is held; to skip something needs a reason."""

    choice: Choice | None = None


class AnswerIn(ExpectIn):
    """The answer to the question of the wave that is held; waves count from 0."""

    wave: Annotated[int, Field(ge=0, le=32_767)]
    yes: bool


# Rollouts ---------------------------------------------------------------------------------------------------
class RolloutOut(Schema):
    """A rollout. `sites` and counts are of the caller's sites; `lane` counts those that were left behind.

    `author` and `reason` are empty for whoever does not see the whole fleet. `until`: when waiting for people ends.
    """

    id: int
    name: str
    standard: str
    state: RolloutState
    since: datetime
    pause: Pause | None
    reason: str
    until: datetime | None
    author: str
    made_at: datetime
    started_at: datetime | None
    plan_hash: str
    sites: int
    counts: ByState
    lane: ByState
    lane_state: LaneState


class RolloutPage(Schema):
    """A page of rollouts, newest first; `next` is the cursor of the next one, or null."""

    items: list[RolloutOut]
    next: str | None


class WaveOut(Schema):
    """A wave; `index` counts from 0. `reason` says why it is held, to who sees the whole fleet."""

    index: int
    name: str
    state: WaveState
    since: datetime
    opened_at: datetime | None
    reason: str
    undoing: bool
    sites: int
    counts: ByState
    lane: ByState


class ApprovalOut(Schema):
    """A person's word. `provider`: whom they spoke for; `counts`: whether it is on this very plan, and holds still."""

    person: str
    provider: str | None
    yes: bool
    reason: str
    at: datetime
    expires_at: datetime
    counts: bool


class AskedOut(Schema):
    """Who must approve: so many people (null for whoever does not see the plan), and one of each of these providers.

    `missing` says what is still needed.
    """

    people: int | None
    providers: list[str]
    missing: str


class EffectOut(Schema):
    """What can be done now: POST to `path`. `words` say what it does, `sites` how many it touches.

    `choice` is to be sent with it. `needs_typing`: a person types the number of sites first, and it is sent with it.
    """

    verb: str
    choice: Choice | None
    path: str
    label: str
    words: list[str]
    sites: int
    needs_reason: bool
    needs_typing: bool
    danger: bool


class RolloutDetailOut(RolloutOut):
    """The whole of it. `plan` has the number of sites in place of them, and is null for who does not see whole plans.

    `failures` counts failed sites by class; `effects` are what the caller may do now.
    """

    waves: list[WaveOut]
    failures: dict[str, int]
    asked: AskedOut
    approvals: list[ApprovalOut]
    effects: list[EffectOut]
    plan: dict[str, Any] | None


class ApprovalPage(Schema):
    """Words on a plan, oldest first; there is one page."""

    items: list[ApprovalOut]
    next: str | None


# ------------------------------------------------------------------------------------------------------------
Counts = Mapping[int, Mapping[str, int]]
"""By wave and state; `lane:` before the state where the site was left behind."""


def rollout_out(row: Rollout, counts: Counts, *, whole: bool) -> dict[str, Any]:
    """RolloutOut of a row."""
    total: Counter[str] = Counter()
    for one in counts.values():
        total.update(one)
    own, lane = _apart(total)
    return {
        **{name: getattr(row, name) for name in ("id", "name", "state", "since", "made_at", "started_at", "plan_hash")},
        "standard": row.standard.name,
        "pause": row.pause or None,
        "reason": row.reason if whole else "",
        "until": row.until,
        "author": row.author.get_username() if whole else "",
        "sites": sum(total.values()),
        "counts": own,
        "lane": lane,
        "lane_state": row.lane,
    }


def wave_out(row: Wave, counts: Counts, *, whole: bool) -> dict[str, Any]:
    """WaveOut of a row."""
    found = counts.get(row.index, {})
    own, lane = _apart(found)
    return {
        **{name: getattr(row, name) for name in ("index", "name", "state", "since", "opened_at", "undoing")},
        "reason": row.reason if whole else "",
        "sites": sum(found.values()),
        "counts": own,
        "lane": lane,
    }


def _apart(counts: Mapping[str, int]) -> tuple[ByState, ByState]:
    """Those in their waves, and those in the lane."""
    own = {state: count for state, count in counts.items() if not state.startswith("lane:")}
    return own, {state.removeprefix("lane:"): count for state, count in counts.items() if state not in own}


def approval_out(row: Approval, plan_hash: str, now: datetime) -> dict[str, Any]:
    """ApprovalOut of a row."""
    return {
        "person": row.user_name,
        "provider": row.provider.slug if row.provider else None,
        **{name: getattr(row, name) for name in ("yes", "reason", "at", "expires_at")},
        "counts": row.plan_hash == plan_hash and row.expires_at > now,
    }


def effect_out(effect: Effect, rollout_id: int) -> dict[str, Any]:
    """EffectOut of an effect."""
    names = ("verb", "choice", "label", "words", "sites", "needs_reason", "needs_typing", "danger")
    path = f"/api/v1/rollouts/{rollout_id}/{effect.verb.replace('_', '-')}"
    return {**{name: getattr(effect, name) for name in names}, "path": path}
