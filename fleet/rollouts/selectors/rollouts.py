"""Rollouts as a viewer may see them; the scope must be open.

Who sees the whole fleet sees a rollout whole. Everybody else sees it as their own sites' steps and counts: no plan, no
totals, nothing that tells of others. Row-level security and column grants say so for providers, and these functions
once more for them and for people of some regions or labels.
"""

from collections.abc import Sequence
from typing import Final

from django.db.models import Count, Q, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Scope
from fleet.rollouts.models import (
    Approval,
    Attempt,
    GateEvaluation,
    Hold,
    ProviderAsked,
    ProviderCalendar,
    Rollout,
    RolloutEvent,
    SiteStep,
    Wave,
)
from fleet.rollouts.states import ACTIVE
from sites.models import Provider
from sites.selectors.access import inside, providers_in, regions_in, sites_in

# What a provider's role may read: the columns that are granted to it in migrations 0002 and 0003.
SHARED: Final = (
    "id",
    "name",
    "standard_id",
    "state",
    "since",
    "pause",
    "until",
    "lane",
    "started_at",
    "is_live",
    "made_at",
    "plan_hash",
)
_SHARED_WAVE: Final = ("id", "rollout_id", "index", "name", "state", "since", "opened_at", "undoing")


def sees_whole(who: Scope) -> bool:
    """Whether the viewer sees whole rollouts: plans, totals, other people's sites."""
    return who.wide and not who.limited


def rollouts_in(who: Scope) -> QuerySet[Rollout]:
    """Every rollout that the viewer may see, without its plan's text, with its standard; newest first."""
    found = Rollout.objects.order_by("-pk").select_related("standard")
    if who.wide:
        found = found.defer("plan", "recipe", "standard__content", "standard__components").select_related("author")
    else:
        found = found.only(*SHARED, "standard__name")
    if who.limited:
        found = found.filter(pk__in=steps_in(who).values("rollout_id"))
    return found


def get_rollout(*, scope: Scope, pk: int) -> Rollout:
    """One rollout. Raises NotFound."""
    found = rollouts_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such rollout, or it is not yours to see.")
    return found


def steps_in(who: Scope) -> QuerySet[SiteStep]:
    """Every step of sites that the viewer may see."""
    found = SiteStep.objects.all()
    return found.filter(inside(who.limits, prefix="site__")) if who.limited else found


def steps_of(who: Scope, rollout: Rollout) -> QuerySet[SiteStep]:
    """The rollout's steps that the viewer may see, with site, provider, and the document without its bytes."""
    found = steps_in(who).filter(rollout=rollout.pk).select_related("site", "provider", "document")
    return found.defer("document__content", "document__envelope")


def get_step(*, scope: Scope, rollout: Rollout, slug: str) -> SiteStep:
    """The step of one site. Raises NotFound."""
    found = steps_of(scope, rollout).filter(site__slug=slug).first()
    if found is None:
        raise NotFound("There is no such site in this rollout, or it is not yours to see.")
    return found


def waves_of(rollout: Rollout, who: Scope) -> list[Wave]:
    """The waves that the viewer may see, in order; who does not see all has those of its sites, and no reasons."""
    found = Wave.objects.filter(rollout=rollout.pk).order_by("index")
    if sees_whole(who):
        return list(found)
    own = steps_in(who).filter(rollout=rollout.pk).values("wave")
    return list(found.filter(index__in=own).only(*_SHARED_WAVE))


def waves_of_many(who: Scope, rollouts: Sequence[Rollout]) -> dict[int, list[Wave]]:
    """The same of several rollouts, by rollout, in two statements."""
    pks = [row.pk for row in rollouts]
    found = Wave.objects.filter(rollout__in=pks).order_by("index")
    waves: dict[int, list[Wave]] = {pk: [] for pk in pks}
    own = None if sees_whole(who) else set(steps_in(who).filter(rollout__in=pks).values_list("rollout_id", "wave"))
    for wave in found if own is None else found.only(*_SHARED_WAVE):
        if own is None or (wave.rollout_id, wave.index) in own:
            waves[wave.rollout_id].append(wave)
    return waves


def counts_by_wave(who: Scope, rollouts: Sequence[Rollout]) -> dict[int, dict[int, dict[str, int]]]:
    """How many of the steps that the viewer may see are how: by rollout, wave, and state (`lane:` + state there)."""
    found = (
        steps_in(who)
        .filter(rollout__in=[row.pk for row in rollouts])
        .order_by()
        .values_list("rollout_id", "wave", "lane", "state")
        .annotate(count=Count("pk"))
    )
    counts: dict[int, dict[int, dict[str, int]]] = {row.pk: {} for row in rollouts}
    for rollout, wave, lane, state, count in found:
        key = f"lane:{state}" if lane else state
        counts[rollout].setdefault(wave, {})[key] = count
    return counts


def failures_by_class(who: Scope, rollout: Rollout) -> dict[str, int]:
    """Failed steps that the viewer may see, by class of failure, the most frequent first."""
    found = steps_in(who).filter(rollout=rollout.pk, state="failed").order_by()
    counted = found.values_list("failure").annotate(count=Count("pk")).order_by("-count", "failure")
    return dict(counted)


def events_of(who: Scope, rollout: Rollout) -> QuerySet[RolloutEvent]:
    """What happened, newest first: all of it, or of the viewer's own sites."""
    found = RolloutEvent.objects.filter(rollout=rollout.pk).order_by("-pk").select_related("step__site")
    return found if sees_whole(who) else found.filter(step__in=steps_in(who).filter(rollout=rollout.pk))


def evaluations_of(who: Scope, rollout: Rollout) -> QuerySet[GateEvaluation]:
    """What gates answered, newest first; nothing for who does not see all."""
    found = GateEvaluation.objects.filter(rollout=rollout.pk).order_by("-pk")
    return found if sees_whole(who) else found.none()


def approvals_of(who: Scope, rollout: Rollout) -> QuerySet[Approval]:
    """Who said what of a plan, oldest first; who does not see all has the words said for its own provider."""
    found = Approval.objects.filter(rollout=rollout.pk).order_by("pk").select_related("provider")
    return found if sees_whole(who) else found.filter(provider__in=_own_providers(who))


def providers_asked(who: Scope, rollout: Rollout) -> list[int]:
    """Ids of the providers whose approval the plan asks, as far as the viewer may know."""
    found = ProviderAsked.objects.filter(rollout=rollout.pk).order_by("pk")
    found = found if sees_whole(who) else found.filter(provider__in=_own_providers(who))
    return list(found.values_list("provider_id", flat=True))


def _own_providers(who: Scope) -> set[int]:
    """Providers that the viewer sees whole, and may speak for if a role says so."""
    return {limit.provider_id for limit in who.limits if limit.whole and limit.provider_id is not None}


def attempts_of(step: SiteStep) -> list[Attempt]:
    """The documents that were given out for a step, oldest first, without their bytes."""
    found = Attempt.objects.filter(step=step).order_by("pk").select_related("document")
    return list(found.defer("document__content", "document__envelope"))


def rollouts_of_site(who: Scope, site_id: int) -> list[SiteStep]:
    """The steps of one site, the newest first, with their rollouts (shared columns only)."""
    found = steps_in(who).filter(site=site_id).order_by("-pk").select_related("rollout")
    shared = [f"rollout__{name}" for name in SHARED]
    own = [field.attname for field in SiteStep._meta.concrete_fields]
    return list((found if who.wide else found.only(*own, *shared))[:50])


def running(who: Scope) -> int:
    """How many rollouts are under way, of those that the viewer may see."""
    return rollouts_in(who).filter(state__in=[str(state) for state in ACTIVE]).count()


# Holds ------------------------------------------------------------------------------------------------------
def holds_in(who: Scope) -> QuerySet[Hold]:
    """Every hold that the viewer may see, newest first, with its site and provider."""
    found = Hold.objects.order_by("-pk").select_related("site", "provider")
    if not who.limited:
        return found
    of_all = Q(provider=None) | Q(provider__in=providers_in(who))
    of_part = Q(region="") | Q(region__in=regions_in(who))
    return found.filter(Q(site__in=sites_in(who)) | (Q(site=None) & of_all & of_part))


def calendar_of(provider: Provider) -> ProviderCalendar | None:
    """When the sites of a provider that the viewer may see may be changed; None: always."""
    return ProviderCalendar.objects.filter(provider=provider).first()


def get_hold(*, scope: Scope, pk: int) -> Hold:
    """One hold. Raises NotFound."""
    found = holds_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such hold, or it is not yours to see.")
    return found
