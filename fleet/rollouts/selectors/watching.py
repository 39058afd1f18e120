"""What the screens of running rollouts read: lists of rollouts, cells, failures, the lane; the scope must be open."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Case, Count, Q, QuerySet, When

from fleet.kit.tenancy import Scope
from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.models import GateEvaluation, Hold, Rollout, SiteStep
from fleet.rollouts.selectors.rollouts import evaluations_of, holds_in, rollouts_in, steps_in, steps_of
from fleet.rollouts.states import ACTIVE, ENDED_ROLLOUTS, TOUCHED, LaneState, RolloutState, StepState
from sites.models import Site

# Lists by what they ask of people; a rollout is in one of the last three, and may need somebody as well.
KINDS: Final = ("person", "running", "waiting", "ended")
_UNDER_WAY: Final = [str(state) for state in ACTIVE]
_ENDED: Final = [str(state) for state in ENDED_ROLLOUTS]
_NEEDS_PERSON: Final = (
    Q(state__in=[RolloutState.AWAITING_APPROVAL, RolloutState.ROLLBACK_FAILED])
    | Q(state=RolloutState.PAUSED)
    | Q(lane=LaneState.HALTED, is_live=True)
)
_KINDS: Final = {
    "person": _NEEDS_PERSON,
    "running": Q(state__in=_UNDER_WAY),
    "waiting": ~Q(state__in=[*_UNDER_WAY, *_ENDED]),
    "ended": Q(state__in=_ENDED),
}
CELLS: Final = ("site", "wave", "state", "flags", "since", "why", "slug", "name")
LANE_FLAG: Final = 1
FROZEN_FLAG: Final = 2
_STATES: Final = {str(state): number for number, state in enumerate(StepState)}


# Lists ------------------------------------------------------------------------------------------------------
def rollouts_of_kind(who: Scope, kind: str, *, text: str = "", standard: str = "") -> QuerySet[Rollout]:
    """Rollouts of one of KINDS (any other: all); those that need a person first, then those under way, then others."""
    found = rollouts_in(who)
    if kind in _KINDS:
        found = found.filter(_KINDS[kind])
    if text:
        found = found.filter(Q(name__icontains=text) | Q(standard__name__icontains=text))
    if standard:
        found = found.filter(standard__name=standard)
    first = Case(
        When(_KINDS["person"], then=0), When(_KINDS["running"], then=1), When(_KINDS["waiting"], then=2), default=3
    )
    return found.order_by(first, "-pk")


def needs_person(row: Rollout) -> bool:
    """Whether a rollout waits for somebody, as rollouts_of_kind(..., "person") finds it."""
    is_halted = row.lane == LaneState.HALTED and row.is_live
    return is_halted or row.state in (RolloutState.AWAITING_APPROVAL, RolloutState.ROLLBACK_FAILED, RolloutState.PAUSED)


def counts_by_kind(who: Scope) -> dict[str, int]:
    """How many rollouts are of each kind, and `all`."""
    asked: dict[str, Any] = {kind: Count("pk", filter=condition) for kind, condition in _KINDS.items()}
    return rollouts_in(who).aggregate(**asked, all=Count("pk"))


def needing_people(who: Scope, *, limit: int) -> list[Rollout]:
    """Rollouts that wait for somebody, the longest wait first."""
    return list(rollouts_in(who).filter(_NEEDS_PERSON).order_by("since")[:limit])


# Cells ------------------------------------------------------------------------------------------------------
def cells_of(who: Scope, rollout: Rollout, since: datetime | None = None) -> list[tuple[Any, ...]]:
    """Steps as cells, in the order of their waves: columns as CELLS; `state` is a place in StepState, `since` in s.

    With `since`: those that may have changed after it, without slug and name.
    """
    found = steps_in(who).filter(rollout=rollout.pk)
    columns = ["site_id", "wave", "state", "lane", "frozen", "since", "wait", "failure"]
    if since is None:
        columns += ["site__slug", "site__name"]
        found = found.order_by("wave", "pk")
    else:  # whether a site is frozen may change without its state
        found = found.filter(Q(since__gt=since) | Q(slot=True)).order_by()
    return [
        (
            site,
            wave,
            _STATES[state],
            lane * LANE_FLAG | frozen * FROZEN_FLAG,
            int(at.timestamp()),
            wait or failure,
            *rest,
        )
        for site, wave, state, lane, frozen, at, wait, failure, *rest in found.values_list(*columns).iterator()
    ]


# Parts of a rollout -----------------------------------------------------------------------------------------
def steps_like(
    who: Scope, rollout: Rollout, *, wave: int | None = None, states: Collection[str] = (), text: str = ""
) -> QuerySet[SiteStep]:
    """Steps in the order of their waves, narrowed by wave, states and a part of the site's name."""
    found = steps_of(who, rollout).order_by("wave", "pk")
    if wave is not None:
        found = found.filter(wave=wave)
    if states:
        found = found.filter(state__in=states)
    return found.filter(site__name__icontains=text) if text else found


def failed_steps(who: Scope, rollout: Rollout, *, limit: int) -> list[SiteStep]:
    """Steps that failed, or could not go back; the newest first."""
    found = steps_of(who, rollout).filter(state__in=[StepState.FAILED, StepState.ROLLBACK_FAILED])
    return list(found.order_by("-since", "pk")[:limit])


def without_origin(who: Scope, rollout: Rollout, wave: int | None = None) -> int:
    """How many touched sites (of a wave) have nothing known to go back to: a rollback leaves them as they are."""
    found = steps_in(who).filter(rollout=rollout.pk, state__in=[str(state) for state in TOUCHED], origin=Origin.NONE)
    return (found if wave is None else found.filter(wave=wave)).count()


def lane_of(who: Scope, rollout: Rollout) -> list[tuple[str, str, int]]:
    """Steps in the catch-up lane: (state, why it waits, how many)."""
    found = steps_in(who).filter(rollout=rollout.pk, lane=True).order_by("state", "wait")
    return list(found.values_list("state", "wait").annotate(count=Count("pk")))


def counts_by_provider(who: Scope, rollout: Rollout) -> list[tuple[int, str, str, int]]:
    """Steps by provider and state: (provider id, its name, state, how many)."""
    found = steps_in(who).filter(rollout=rollout.pk).order_by("provider__name", "state")
    return list(found.values_list("provider_id", "provider__name", "state").annotate(count=Count("pk")))


def last_evaluations(who: Scope, rollout: Rollout, gates: Sequence[int]) -> dict[int, GateEvaluation]:
    """The newest answer of all gates of each wave; `gates` says how many each wave has."""
    found: dict[int, GateEvaluation] = {}
    for row in evaluations_of(who, rollout)[:500]:
        if row.wave < len(gates) and len(row.evaluation["results"]) == gates[row.wave]:
            found.setdefault(row.wave, row)
    return found


def holds_on(who: Scope, rollout: Rollout, now: datetime) -> list[Hold]:
    """Holds in force that keep sites of the rollout waiting, as far as the viewer may see them."""
    found = holds_in(who).filter(lifted_at=None, until__gt=now)
    steps = steps_in(who).filter(rollout=rollout.pk)
    regions = steps.values("region")
    covers = Q(provider=None) | Q(provider__in=steps.values("provider_id"))
    part = Q(region="") | Q(region__in=regions)
    return list(found.filter(Q(site__in=steps.values("site_id")) | (Q(site=None) & covers & part))[:20])


def holds_at(who: Scope, site: Site, now: datetime) -> list[Hold]:
    """Holds in force that cover a site that the viewer may see."""
    found = holds_in(who).filter(lifted_at=None, until__gt=now)
    wide = Q(site=None) & (Q(provider=None) | Q(provider=site.provider_id)) & Q(region__in=["", site.region])
    return list(found.filter(Q(site=site) | wide)[:20])
