"""What the API takes and gives about plans, and what they would do."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from ninja import Field, Schema

from fleet.rollouts.plan import Plan
from fleet.rollouts.preview import LeftOut, Preview

Recipe = dict[str, Any]


class PlanIn(Schema):
    """Another plan for a rollout that was not started: a recipe, and the hash of the plan that was looked at."""

    expect: Annotated[str, Field(max_length=71)]
    recipe: Recipe


class PlanOut(Schema):
    """The plan to its last byte: `plan_hash` is the SHA-256 of `text`. `recipe` is what it was made of, if known."""

    plan_hash: str
    text: str
    recipe: Recipe


class RangeOut(Schema):
    """The expected end, at best and at worst."""

    earliest: datetime
    latest: datetime


class WavePreviewOut(Schema):
    """What a wave means. `bytes_total` is of those sites where it is known: all but `bytes_unknown`."""

    name: str
    why: str
    sites: int
    by_provider: dict[str, int]
    offline_now: int
    bytes_total: int
    bytes_unknown: int
    lack_space: int
    lack_origin: int
    ends: RangeOut


class NoteOut(Schema):
    """A sentence about the plan: a fault forbids it, a warning does not. `place` is the member that it is about."""

    level: Literal["fault", "warning"]
    place: str
    sentence: str


class LeftOutOut(Schema):
    """How many of the selected sites are in no wave, and why."""

    reason: str
    sites: int


class PreviewOut(Schema):
    """What a recipe would do; nothing was written. `people` must approve it; `selected` counts what was asked for."""

    may_start: bool
    standard: str
    selected: int
    sites: int
    people: int
    bytes_total: int
    ends: RangeOut
    waves: list[WavePreviewOut]
    notes: list[NoteOut]
    left_out: list[LeftOutOut]


def plan_out(plan: Plan) -> dict[str, Any]:
    """A plan as JSON, with the number of sites in place of their ids."""
    value: dict[str, Any] = msgspec.to_builtins(plan)
    return {**value, "waves": [{**wave, "sites": len(wave["sites"])} for wave in value["waves"]]}


def preview_out(
    found: Preview, standard: str, selected: int, left_out: tuple[LeftOut, ...], slugs: Mapping[int, str]
) -> dict[str, Any]:
    """PreviewOut; `slugs` are those of providers, by id."""
    reasons = Counter(out.reason for out in left_out)
    return {
        "may_start": found.may_start,
        "standard": standard,
        "selected": selected,
        "sites": sum(wave.sites for wave in found.waves),
        "people": found.people,
        "bytes_total": found.bytes_total,
        "ends": _range(found.ends),
        "waves": [
            {
                **{name: getattr(wave, name) for name in ("name", "why", "sites", "offline_now")},
                **{name: getattr(wave, name) for name in ("bytes_total", "bytes_unknown")},
                "by_provider": {slugs[pk]: count for pk, count in wave.by_provider.items()},
                "lack_space": len(wave.lack_space),
                "lack_origin": len(wave.lack_origin),
                "ends": _range(wave.ends),
            }
            for wave in found.waves
        ],
        "notes": [{"level": note.level, "place": note.place, "sentence": note.sentence} for note in found.notes],
        "left_out": [{"reason": reason, "sites": count} for reason, count in reasons.most_common()],
    }


def _range(ends: tuple[datetime, datetime]) -> dict[str, datetime]:
    return {"earliest": ends[0], "latest": ends[1]}
