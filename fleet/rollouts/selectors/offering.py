"""What a viewer may do to a rollout now, and for whom they may speak; the scope must be open."""

from collections.abc import Collection
from datetime import datetime

from fleet.kit.errors import NotAllowed
from fleet.kit.tenancy import Rights, Scope
from fleet.rollouts.effects import Effect, effects, own_effects
from fleet.rollouts.engine.facts import Head
from fleet.rollouts.models import Rollout
from fleet.rollouts.selectors.rollouts import providers_asked, steps_in
from fleet.rollouts.states import RolloutState
from sites.selectors.access import providers_in

_SAID_BY_APPROVERS = ("approve", "reject")


def offered(who: Scope, rights: Rights, rollout: Rollout, seen: Head | None, now: datetime) -> list[Effect]:
    """What can be done to it at `now`, of that what the viewer's rights allow.

    `seen` is head() for who sees whole rollouts, None for everybody else.
    """
    if seen is not None:
        names = dict(providers_in(who).values_list("pk", "name"))
        found = effects(seen, now, names)
    else:
        found = _for_a_provider(who, rights, rollout)
    return [one for one in found if _may(who, rights, rollout, one)]


def voice(who: Scope, rights: Rights, rollout: Rollout) -> int | None:
    """For whom the viewer would approve: None for the fleet, or the provider whose approval the plan asks.

    Raises NotAllowed, also for the author of the plan: only a provider's people cannot be that.
    """
    speaks_for = speakers(rights, providers_asked(who, rollout))
    if not speaks_for:
        raise NotAllowed("Your role does not allow to approve this rollout.")
    if who.user_id is None or (speaks_for[0] is None and who.user_id == rollout.author_id):
        raise NotAllowed("Who planned it cannot approve it.")
    return speaks_for[0]


def speakers(rights: Rights, asked: Collection[int]) -> list[int | None]:
    """For whom these rights let somebody approve, the fleet (None) first. A limit by region or label is no voice."""
    limits = [limit for limit in rights.by_action.get("rollout.approve", ()) if limit.whole]
    found: list[int | None] = [None] if any(limit.provider_id is None for limit in limits) else []
    return [*found, *(limit.provider_id for limit in limits if limit.provider_id in asked)]


def _for_a_provider(who: Scope, rights: Rights, rollout: Rollout) -> list[Effect]:
    speaks_for = speakers(rights, providers_asked(who, rollout))
    if not speaks_for:
        return []
    sites = steps_in(who).filter(rollout=rollout.pk, provider=speaks_for[0]).count()
    return own_effects(RolloutState(rollout.state), sites)


def _may(who: Scope, rights: Rights, rollout: Rollout, effect: Effect) -> bool:
    if effect.verb not in _SAID_BY_APPROVERS:
        return rights.may(effect.right)
    try:
        voice(who, rights, rollout)
    except NotAllowed:
        return False
    return True
