"""Whether enough people agreed to this very plan. Pure."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from fleet.rollouts.engine.facts import Approval
from fleet.rollouts.plan import Plan


class Verdict(Struct, frozen=True):
    """`rejected`: an approver said no. `missing` says what is still needed; empty: approved."""

    rejected: bool
    missing: str

    @property
    def is_approved(self) -> bool:
        """Whether the plan may take effect."""
        return not self.rejected and not self.missing


def people_needed(plan: Plan) -> int:
    """How many people must agree: as the plan says, and two at least above its number of sites."""
    return max(plan.approvals.needed, 2 if plan.site_count > plan.approvals.two_above else 1)


def verdict(plan: Plan, plan_hash: str, approvals: Sequence[Approval], now: datetime) -> Verdict:
    """What the approvals amount to. Only those for this hash count, never the author's, and each person once."""
    valid = [a for a in approvals if a.plan_hash == plan_hash and a.person != plan.author and a.expires_at > now]
    if any(not approval.yes for approval in valid):
        return Verdict(rejected=True, missing="")
    missing = []
    lacking = people_needed(plan) - len({approval.person for approval in valid})
    if lacking > 0:
        missing.append(f"{lacking} more {'person' if lacking == 1 else 'people'} must approve")
    providers = set(plan.approvals.providers) - {approval.provider for approval in valid}
    missing += [f"provider {provider} must approve" for provider in sorted(providers)]
    return Verdict(rejected=False, missing="; ".join(missing))
