"""A plan as people write it: which sites, and how they are cut into waves, in place of long lists of ids. Pure.

A recipe is a JSON object with the members of `plan.Plan` but for those that are not a person's to write, a member
`select` (Selection), and `waves` that say how they take their sites (WaveRecipe). `drafting.draft` resolves it.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from agent.protocol.kinds import settle
from fleet.rollouts.gates import Gate, Text
from fleet.rollouts.plan import MAX_SITES, MAX_WAVES, PlanError, fault_of

Name = Annotated[str, Meta(min_length=1, max_length=120)]
Names = Annotated[tuple[Name, ...], Meta(max_length=1000)]


class Component(Struct, frozen=True, forbid_unknown_fields=True):
    """A difference that sites have from their standard: `version` is what they run, None for any."""

    kind: Name
    name: Annotated[str, Meta(min_length=1, max_length=520)]
    version: Annotated[str, Meta(max_length=520)] | None = None


class Selection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Active sites that pass every part that is given; none at all where nothing is given, but for `everything`.

    `sites` are slugs, `providers` too, `kinds` as on the map (up, degraded, ...). `ring` is one of standards (by slug,
    as compliance knows it), `rings` are labels of sites. `compliance` and `component` compare with what sites follow.
    """

    sites: Annotated[tuple[Name, ...], Meta(max_length=MAX_SITES)] | None = None
    providers: Names = ()
    regions: Names = ()
    rings: Names = ()
    labels: Annotated[dict[Name, str], Meta(max_length=50)] = {}
    kinds: Names = ()
    text: Annotated[str, Meta(max_length=100)] = ""
    follows: Annotated[str, Meta(max_length=120)] = ""
    ring: Annotated[str, Meta(max_length=120)] = ""
    compliance: Annotated[str, Meta(pattern=r"^(conform|drift|unknown|none)?\Z")] = ""
    component: Component | None = None
    everything: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is given that selects."""
        return not self.everything and self == Selection()


class WaveRecipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a wave takes its sites from what the waves before it left: the first that is given, else all that are left.

    `sites` are slugs; `count` and `share` (of the sites that need the change) take from all providers in turn.
    """

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    sites: Annotated[tuple[Name, ...], Meta(max_length=MAX_SITES)] | None = None
    labels: Annotated[dict[Name, str], Meta(max_length=50)] | None = None
    count: Annotated[int, Meta(ge=1)] | None = None
    share: Annotated[float, Meta(gt=0, le=1)] | None = None
    gates: tuple[Gate, ...] = ()
    canary: bool = False
    why: Text = ""


class Recipe(Struct, frozen=True, kw_only=True):
    """`rest` are the other members of the plan, as they were written."""

    standard: str
    select: Selection
    waves: tuple[WaveRecipe, ...]
    rest: dict[str, Any]


class _Parts(Struct, frozen=True, kw_only=True):
    standard: Name
    select: Selection
    waves: Annotated[tuple[WaveRecipe, ...], Meta(min_length=1, max_length=MAX_WAVES)]


# A tenth first, and a canary before that: what the guided plan begins with.
USUAL_WAVES: Final = (
    WaveRecipe(name="canary", count=1, canary=True),
    WaveRecipe(name="first tenth", share=0.1),
    WaveRecipe(name="the rest"),
)


def read_recipe(value: Mapping[str, Any]) -> Recipe:
    """The recipe in a JSON value; without `waves` it has USUAL_WAVES. Raises PlanError for the first thing wrong."""
    _check_numbers(value)
    given = dict(value)
    parts = {name: given.pop(name) for name in ("standard", "select", "waves") if name in given}
    parts.setdefault("waves", msgspec.to_builtins(USUAL_WAVES))
    try:
        read = msgspec.convert(parts, _Parts)
    except msgspec.ValidationError as error:
        raise PlanError(*fault_of(error)) from None
    return Recipe(standard=read.standard, select=read.select, waves=read.waves, rest=given)


def _check_numbers(value: Mapping[str, Any]) -> None:
    """No NaN and no infinity: JSON has neither, whatever a reader of it lets through."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise PlanError("", "it holds a number that is none, or is nested too deeply") from None


settle(__name__)
