"""Names of states, and the one table of allowed changes of a site's life."""

from django.db.models import TextChoices


class Availability(TextChoices):
    """How the site itself is."""

    UP = "up", "Up"
    DEGRADED = "degraded", "Degraded"
    DOWN = "down", "Down"
    UNKNOWN = "unknown", "Unknown"


class Reachability(TextChoices):
    """Whether the centre gets through to it."""

    NEVER = "", "Never reached"
    REACHABLE = "reachable", "Reachable"
    UNREACHABLE = "unreachable", "Unreachable"
    CENTRE_BLIND = "centre_blind", "Centre blind"


class Axis(TextChoices):
    """What a state interval speaks of."""

    AVAILABILITY = "availability", "Availability"
    REACHABILITY = "reachability", "Reachability"


class Source(TextChoices):
    """Whose word a fact is, strongest first."""

    JOURNAL = "journal", "Site's journal"
    PROBE = "probe", "Independent probe"
    POLL = "poll", "Central poll"
    INFERENCE = "inference", "Inference"


class Compliance(TextChoices):
    """Whether a site runs its standard."""

    CONFORM = "conform", "Conform"
    DRIFT = "drift", "Drift"
    UNKNOWN = "unknown", "Unknown"


class Life(TextChoices):
    """State of life of a site; only active sites are polled."""

    PLANNED = "planned", "Planned"
    ACTIVE = "active", "Active"
    RETIRED = "retired", "Retired"


LIFE_CHANGES: frozenset[tuple[str, str]] = frozenset(
    {
        (Life.PLANNED, Life.ACTIVE),
        (Life.PLANNED, Life.RETIRED),
        (Life.ACTIVE, Life.RETIRED),
        (Life.RETIRED, Life.ACTIVE),
    }
)


class IdentityState(TextChoices):
    """How far the keys that a site presented have come."""

    PENDING = "pending", "Waiting to be accepted"
    ACCEPTED = "accepted", "Accepted"
    REJECTED = "rejected", "Rejected"
    REVOKED = "revoked", "Revoked"
    REPLACED = "replaced", "Replaced"


class BlobKind(TextChoices):
    """What a blob is."""

    CONFIG = "config", "Configuration of a workload"
    WHEEL = "wheel", "Wheel of the agent"


class Answer(TextChoices):
    """What a site said to a document that was handed over."""

    ACCEPTED = "accepted", "Accepted"
    REFUSED = "refused", "Refused"


LIVE_IDENTITIES = (IdentityState.PENDING, IdentityState.ACCEPTED)


class Failure(TextChoices):
    """Why a poll brought no report."""

    ADDRESS_REFUSED = "address_refused", "Address refused"
    UNREACHABLE = "unreachable", "Unreachable"
    TIMEOUT = "timeout", "Timed out"
    PROTOCOL_ERROR = "protocol_error", "Protocol error"
    NOT_ENROLLED = "not_enrolled", "Not enrolled"
    IDENTITY_MISMATCH = "identity_mismatch", "Identity mismatch"
    CERTIFICATE = "certificate", "Certificate refused"
    REJECTED = "rejected", "Refused by the database"
