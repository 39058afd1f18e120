"""Whether enough people agreed to this very plan. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from fleet.rollouts.engine.facts import Approval
from fleet.rollouts.plan import Plan

_NOBODY: Mapping[int, str] = {}


class Verdict(Struct, frozen=True):
    """`rejected`: an approver said no. What is lacking: so many more people, and the words of these providers."""

    rejected: bool = False
    people: int = 0
    providers: tuple[int, ...] = ()

    @property
    def is_approved(self) -> bool:
        """Whether the plan may take effect."""
        return not self.rejected and not self.people and not self.providers

    def missing(self, names: Mapping[int, str] = _NOBODY) -> str:
        """What is still needed, in words; empty where nothing is. `names` are those of providers, by id."""
        words = []
        if self.people:
            words.append(f"{self.people} more {'person' if self.people == 1 else 'people'} must approve")
        words += [f"provider {names.get(provider, provider)} must approve" for provider in self.providers]
        return "; ".join(words)


def people_needed(plan: Plan) -> int:
    """How many people must agree: as the plan says, and two at least above its number of sites."""
    return max(plan.approvals.needed, 2 if plan.site_count > plan.approvals.two_above else 1)


def verdict(plan: Plan, plan_hash: str, approvals: Sequence[Approval], now: datetime) -> Verdict:
    """What the approvals amount to. Only those for this hash count, never the author's, and each person once."""
    valid = [a for a in approvals if a.plan_hash == plan_hash and a.person != plan.author and a.expires_at > now]
    if any(not approval.yes for approval in valid):
        return Verdict(rejected=True)
    people = people_needed(plan) - len({approval.person for approval in valid})
    providers = set(plan.approvals.providers) - {approval.provider for approval in valid}
    return Verdict(people=max(0, people), providers=tuple(sorted(providers)))
