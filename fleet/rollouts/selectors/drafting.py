"""From what a person wrote to a plan and its preview, before anything is kept; the scope must be open and wide."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from fleet.kit.errors import Invalid
from fleet.kit.tenancy import Scope
from fleet.rollouts.plan import Plan, PlanError, plan_of
from fleet.rollouts.preview import Cut, LeftOut, PlanSite, Preview, cut, preview
from fleet.rollouts.recipe import Recipe, read_recipe
from fleet.rollouts.selectors.planning import calendars, ids_of, plan_sites, plannable, selected, usual_pace
from fleet.standards.models import Standard
from fleet.standards.states import Severity


@dataclass(frozen=True, slots=True)
class Drafted:
    """What a recipe comes to. `values` is what services.planning.plan_rollout() takes; `sites` all that were asked for.

    `plan` is None where something keeps the values from being one: then `fault` says what, and `place` where.
    """

    recipe: dict[str, Any]
    standard: Standard
    values: dict[str, Any]
    plan: Plan | None
    fault: str
    place: str
    sites: dict[int, PlanSite]
    left_out: tuple[LeftOut, ...]


def draft(who: Scope, value: Mapping[str, Any], now: datetime, *, but_rollout: int = 0) -> Drafted:
    """Resolve a recipe: select, cut into waves, and read the plan. Raises Invalid for what is no recipe at all."""
    try:
        recipe = read_recipe(value)
    except PlanError as error:
        raise Invalid(str(error), details={error.place or "plan": error.reason}) from None
    standard = plannable(recipe.standard)
    sites = plan_sites(selected(who, recipe.select), standard, now, but_rollout=but_rollout)
    waves, left_out = cut(sites.values(), _cuts(who, recipe))
    values = {
        "severity": "security" if standard.severity == Severity.SECURITY else "routine",
        "reboots": _reboots(standard),
        **recipe.rest,
        "standard": standard.name,
        "waves": [msgspec.to_builtins(wave) for wave in waves],
    }
    plan, fault, place = _read(values, who, standard)
    return Drafted(dict(value), standard, values, plan, fault, place, sites, left_out)


def preview_of(drafted: Drafted, now: datetime) -> Preview | None:
    """What the plan would do; None where there is no plan."""
    if drafted.plan is None:
        return None
    pace = usual_pace(drafted.plan.times.soak_s)
    return preview(drafted.plan, drafted.sites, now, calendars(), pace)


def _cuts(who: Scope, recipe: Recipe) -> list[Cut]:
    named = {slug for wave in recipe.waves for slug in wave.sites or ()}
    ids = ids_of(who, named) if named else {}
    return [
        Cut(
            name=wave.name,
            sites=None if wave.sites is None else frozenset(ids[slug] for slug in wave.sites),
            labels=wave.labels,
            count=wave.count,
            share=wave.share,
            gates=wave.gates,
            canary=wave.canary,
        )
        for wave in recipe.waves
    ]


def _reboots(standard: Standard) -> bool:
    os = standard.content.get("os") or {}
    return bool(os.get("kernel")) and os.get("reboot", "never") != "never"


def _read(values: Mapping[str, Any], who: Scope, standard: Standard) -> tuple[Plan | None, str, str]:
    try:
        plan = plan_of({**values, "author": who.user_id, "standard_sha256": standard.sha256})
    except PlanError as error:
        return None, error.reason, error.place
    return plan, "", ""
