"""Names of the states, kinds and causes of SLAs. Pure."""

from enum import StrEnum
from typing import Final


class Side(StrEnum):
    """Who speaks: those who run the fleet, or a provider."""

    OPERATOR = "operator"
    PROVIDER = "provider"


class Kind(StrEnum):
    """What an outage is: two of the site's own state, one of the way to it."""

    DOWN = "down"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"


class Cause(StrEnum):
    """Why an outage was."""

    HARDWARE = "hardware"
    LINK = "link"
    POWER = "power"
    OPERATOR_ROLLOUT = "operator_rollout"
    OPERATOR_CHANGE = "operator_change"
    WORKLOAD = "workload"
    MAINTENANCE = "maintenance"
    CENTRE = "centre"
    THIRD_PARTY = "third_party"
    UNKNOWN = "unknown"


class Charged(StrEnum):
    """Whose an outage is."""

    PROVIDER = "provider"
    OPERATOR = "operator"
    THIRD_PARTY = "third_party"
    NOBODY = "nobody"


# Maintenance is charged to the side that asked for it; what nobody knows is nobody's until somebody says so.
CHARGED: Final = {
    Cause.HARDWARE: Charged.PROVIDER,
    Cause.LINK: Charged.PROVIDER,
    Cause.POWER: Charged.PROVIDER,
    Cause.OPERATOR_ROLLOUT: Charged.OPERATOR,
    Cause.OPERATOR_CHANGE: Charged.OPERATOR,
    Cause.WORKLOAD: Charged.OPERATOR,
    Cause.CENTRE: Charged.OPERATOR,
    Cause.THIRD_PARTY: Charged.THIRD_PARTY,
    Cause.MAINTENANCE: Charged.NOBODY,
    Cause.UNKNOWN: Charged.NOBODY,
}


class Note(StrEnum):
    """What somebody did about an outage."""

    ACKNOWLEDGED = "acknowledged"
    COMMENT = "comment"


class DisputeState(StrEnum):
    """How far a dispute is: `adjusted` is accepted in part, or for another cause."""

    OPEN = "open"
    ACCEPTED = "accepted"
    ADJUSTED = "adjusted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Step(StrEnum):
    """What somebody did about a dispute."""

    FILED = "filed"
    EVIDENCE = "evidence"
    ACCEPTED = "accepted"
    ADJUSTED = "adjusted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class WindowState(StrEnum):
    """How far a maintenance window is."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class Blindness(StrEnum):
    """How it is known that the centre itself could not watch."""

    BEATS = "beats"
    MASS_LOSS = "mass_loss"


class Measure(StrEnum):
    """What an objective measures."""

    AVAILABILITY = "availability"
    REACHABILITY = "reachability"
    VERSION_SYNC = "version_sync"
    RESTORATION = "restoration"
    RESPONSE = "response"
    LATENCY = "latency"


class Reach(StrEnum):
    """Whether a promise holds for each site, for all together, or for a share of them."""

    EACH_SITE = "each_site"
    POOLED = "pooled"
    SHARE_OF_SITES = "share_of_sites"


class Restoration(StrEnum):
    """Figures of restoration: mean time to restore, the longest outage, how many, mean time between them."""

    MTTR = "mttr_h"
    LONGEST = "longest_h"
    COUNT = "count"
    MTBF = "mtbf_h"


class Life(StrEnum):
    """Where a report stands: late facts may still come; settled; changed after that."""

    PROVISIONAL = "provisional"
    FINAL = "final"
    RESTATED = "restated"


class FileKind(StrEnum):
    """What is signed of a report: the document, and the evidence that its figures are recomputed from."""

    PDF = "pdf"
    BUNDLE = "bundle"


class Told(StrEnum):
    """What other systems may hear of: kinds of messages of webhooks."""

    OUTAGE_OPENED = "sla.outage.opened"
    OUTAGE_ENDED = "sla.outage.ended"
    OUTAGE_CORRECTED = "sla.outage.corrected"
    DISPUTE_FILED = "sla.dispute.filed"
    DISPUTE_WITHDRAWN = "sla.dispute.withdrawn"
    DISPUTE_DECIDED = "sla.dispute.decided"
    BUDGET_BURNS = "sla.budget.burning"
    BUDGET_CALM = "sla.budget.calm"
    REPORT_FINAL = "sla.report.final"
    REPORT_RESTATED = "sla.report.restated"
