"""What a report says of promises that are not shares of time: versions, round trips; and of maintenance caps. Pure.

Moments are exact to the millisecond; durations are milliseconds, percentiles None where they are not reached.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

VERSION_SYNC = "version_sync"
LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Synced:
    """Version synchronisation under a segment: offers by outcome, percentiles (50, 90, 99), whose time it was.

    `limit_h` is the deadline; None where each standard names its own. `share` is of what is decided.
    """

    provider: str
    reach: str
    target: Fraction
    limit_h: Decimal | None
    includes_link: bool
    sites: int
    on_time: int
    late: int
    pending: int
    share: Fraction | None
    verdict: str | None
    charged_ms: tuple[int | None, ...]
    elapsed_ms: tuple[int | None, ...]
    freeze_ms: int
    operator_ms: int
    network_ms: int
    provider_ms: int
    credit: Decimal
    fee: Decimal
    part: Fraction
    currency: str
    measure: str = VERSION_SYNC


@dataclass(frozen=True, slots=True)
class Offered:
    """A site and a standard, with all that its outcome is computed from: spans of others' time as (from, to, whose).

    `until` is as of when, or when the site left the segment. The ids name the rollout and its step at the site, the
    document that was sent first, the receipt that says `applied`, and the proof: an event of the rollout, or a span of
    components. `site` is the site's id.
    """

    provider: str
    slug: str
    name: str
    standard: str
    published: datetime
    eligible: datetime
    sent: datetime | None
    proven: datetime | None
    until: datetime
    deadline_h: Decimal
    includes_link: bool
    spans: tuple[tuple[datetime, datetime, str], ...]
    outcome: str
    freeze_ms: int
    operator_ms: int
    network_ms: int
    provider_ms: int
    elapsed_ms: int
    charged_ms: int
    rollout: int | None = None
    step: int | None = None
    document: int | None = None
    receipt: int | None = None
    event: int | None = None
    components: int | None = None
    site: int | None = None
    measure: str = VERSION_SYNC

    @property
    def rank(self) -> float:
        """To sort by: the latest first, then what is pending, each by what is charged."""
        return {"late": 0, "pending": 1}.get(self.outcome, 2) + 1 / (2 + self.charged_ms)


@dataclass(frozen=True, slots=True)
class Latency:
    """Round trips of polls under a segment, in milliseconds: `figure` at `percentile` of all sites together.

    Known are `days` of them, of which `missing` more are not kept; `seen_ms` of `scheduled_ms` had polls answered.
    """

    provider: str
    reach: str
    percentile: int
    limit_ms: Decimal
    sites: int
    figure: int | None
    rtt_ms: tuple[int | None, ...]
    polls: int
    days: int
    missing: int
    seen_ms: int
    scheduled_ms: int
    verdict: str | None
    measure: str = LATENCY

    @property
    def coverage(self) -> Fraction | None:
        """How much of the service time had polls answered; days that are not kept are left out."""
        return Fraction(self.seen_ms, self.scheduled_ms) if self.scheduled_ms else None


@dataclass(frozen=True, slots=True)
class Delay:
    """The same of one site; `rtt_ms` at the percentiles 50, 90, 95, 99."""

    provider: str
    slug: str
    name: str
    figure: int | None
    rtt_ms: tuple[int | None, ...]
    polls: int
    days: int
    missing: int
    seen_ms: int
    scheduled_ms: int
    verdict: str | None
    measure: str = LATENCY

    @property
    def coverage(self) -> Fraction | None:
        """How much of its service time had polls answered."""
        return Fraction(self.seen_ms, self.scheduled_ms) if self.scheduled_ms else None

    @property
    def rank(self) -> float | None:
        """To sort by: the slowest first."""
        return None if self.figure is None else 1 / (1 + self.figure)


@dataclass(frozen=True, slots=True)
class Cap:
    """Approved maintenance under a segment, in milliseconds of service time over all sites: what counted as such, and
    what was over the cap of some sites, and so counted as any other time. `cap_h` is None where there is no cap."""

    provider: str
    cap_h: Decimal | None
    cap_per: str
    honoured_ms: int
    excess_ms: int
    sites_over: int
