"""From what a person wrote to a plan and its preview, before anything is kept; the scope must be open and wide."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from fleet.kit.errors import Invalid
from fleet.kit.tenancy import Scope
from fleet.rollouts.counting import are
from fleet.rollouts.counting import sites as counted
from fleet.rollouts.models import Hold
from fleet.rollouts.plan import Plan, PlanError, plan_of
from fleet.rollouts.preview import Cut, LeftOut, Note, PlanSite, Preview, cut, preview
from fleet.rollouts.recipe import Recipe, read_recipe
from fleet.rollouts.selectors.downloads import never_run
from fleet.rollouts.selectors.planning import calendars, ids_of, plan_sites, plannable, selected, usual_pace
from fleet.standards.contents import ARCHITECTURE_LABEL, for_architecture
from fleet.standards.models import Standard
from fleet.standards.states import Severity
from sites.drafts import DraftError
from sites.models import Provider
from sites.selectors.access import providers_in

_REASONS = 5
_NAMED = 5


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
    if "waves" not in value:  # the usual ones fit few sites, too
        waves = tuple(wave for wave in waves if wave.sites) or waves[:1]
    values = {
        "severity": "security" if standard.severity == Severity.SECURITY else "routine",
        "reboots": _reboots(standard),
        **_with_ids(who, recipe.rest),
        "standard": standard.name,
        "waves": [msgspec.to_builtins(wave) for wave in waves],
    }
    plan, fault, place = _read(values, who, standard)
    return Drafted(dict(value), standard, values, plan, fault, place, sites, left_out)


def preview_of(drafted: Drafted, now: datetime) -> Preview | None:
    """What the plan would do; None where there is no plan."""
    plan = drafted.plan
    if plan is None:
        return None
    found = preview(plan, drafted.sites, now, calendars(), usual_pace(plan.times.soak_s))
    if not plan.site_count:
        return replace(found, notes=(Note("fault", _why_nobody(drafted), "select"),))
    return replace(
        found,
        notes=(
            *_unsuited(drafted, plan),
            *found.notes,
            *_unheard(drafted, plan),
            *_held(drafted, plan, now),
            *_unknown_images(drafted),
        ),
    )


def _why_nobody(drafted: Drafted) -> str:
    """Why no site is in any wave."""
    if not drafted.sites:
        return "No active site fits this selection."
    reasons = Counter(out.reason for out in drafted.left_out)
    words = "; ".join(f"{count} because {reason}" for reason, count in reasons.most_common(_REASONS))
    return f"None of the {len(drafted.sites)} selected sites is left to change: {words}."


def _unknown_images(drafted: Drafted) -> Iterator[Note]:
    """A warning for each image that may not exist, as far as is known here."""
    for image in never_run(drafted.standard):
        name, _, digest = image.rpartition("@")
        words = f"No site has run {name}@{digest[:19]}… yet: that it exists shows when the first site pulls it."
        yield Note("warning", words, "standard")


def _unheard(drafted: Drafted, plan: Plan) -> Iterator[Note]:
    """Providers that must approve, and will never see the rollout."""
    planned = {site for wave in plan.waves for site in wave.sites}
    there = {site.provider for pk, site in drafted.sites.items() if pk in planned}
    absent = sorted(set(plan.approvals.providers) - there)
    for slug in Provider.objects.filter(pk__in=absent).order_by("slug").values_list("slug", flat=True):
        words = f"Provider {slug!r} must approve, but none of its sites is in the plan: it will not see it."
        yield Note("fault", words, "approvals.providers")


def _held(drafted: Drafted, plan: Plan, now: datetime) -> Iterator[Note]:
    """A warning for each wave of which sites are held now."""
    holds = list(Hold.objects.filter(lifted_at=None, until__gt=now).order_by("until"))
    if plan.severity == "security":
        holds = [hold for hold in holds if len(hold.overridden_by) < 2]
    for index, wave in enumerate(plan.waves):
        known = [drafted.sites[site] for site in wave.sites if site in drafted.sites]
        held = [site for site in known if any(_covers(hold, site) for hold in holds)]
        if held:
            names = ", ".join(site.name for site in held[:_NAMED]) + (", …" if len(held) > _NAMED else "")
            waits = "waits" if len(held) == 1 else "wait"
            words = f"{len(held)} of its {counted(len(known))} {are(len(held))} held now and {waits} ({names})"
            yield Note("warning", f"Wave {wave.name!r}: {words}.", f"waves[{index}]")


def _covers(hold: Hold, site: PlanSite) -> bool:
    if hold.site_id is not None:
        return hold.site_id == site.id
    return hold.provider_id in (None, site.provider) and hold.region in ("", site.region)


def _unsuited(drafted: Drafted, plan: Plan) -> Iterator[Note]:
    """A fault for each architecture that sites of the plan have, and the standard no image for."""
    planned = [drafted.sites[site] for wave in plan.waves for site in wave.sites if site in drafted.sites]
    for name, count in sorted(Counter(site.labels.get(ARCHITECTURE_LABEL, "") for site in planned).items()):
        try:
            for_architecture(drafted.standard.content, name)
        except DraftError as error:
            words = f"{drafted.standard.name} does not suit {count} site{'' if count == 1 else 's'}: {error}"
            yield Note("fault", words, "standard")


def _cuts(who: Scope, recipe: Recipe) -> list[Cut]:
    named = {slug for wave in recipe.waves for slug in wave.sites or ()}
    try:
        ids = ids_of(who, named) if named else {}
    except Invalid as error:
        raise Invalid(error.message, details={_place_of(recipe, error): error.message}) from None
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


def _place_of(recipe: Recipe, error: Invalid) -> str:
    """The first wave that names a site which is not there."""
    unknown = set(error.details["sites"])
    numbers = (number for number, wave in enumerate(recipe.waves) if unknown & set(wave.sites or ()))
    return f"waves[{next(numbers, 0)}].sites"


def _with_ids(who: Scope, rest: Mapping[str, Any]) -> dict[str, Any]:
    """The other members of a plan, with providers that must approve by id; people write slugs. Raises Invalid."""
    approvals = rest.get("approvals")
    listed = approvals.get("providers") if isinstance(approvals, Mapping) else None
    if not isinstance(approvals, Mapping) or not isinstance(listed, list | tuple):
        return dict(rest)
    known = dict(providers_in(who).values_list("slug", "pk"))
    names: set[Any] = {*known, *known.values()}
    unknown = [one for one in listed if not isinstance(one, str | int) or one not in names]
    if unknown:
        words = f"there is no such provider: {', '.join(map(str, unknown[:5]))}"
        raise Invalid(f"approvals.providers: {words}", details={"approvals.providers": words})
    return {**rest, "approvals": {**approvals, "providers": [known.get(one, one) for one in listed]}}


def _reboots(standard: Standard) -> bool:
    os = standard.content.get("os") or {}
    return bool(os.get("kernel")) and os.get("reboot", "never") != "never"


def _read(values: Mapping[str, Any], who: Scope, standard: Standard) -> tuple[Plan | None, str, str]:
    try:
        plan = plan_of({**values, "author": who.user_id, "standard_sha256": standard.sha256})
    except PlanError as error:
        return None, error.reason, error.place
    return plan, "", ""
