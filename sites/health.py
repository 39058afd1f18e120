"""The state of a site, decided from its last polls. Pure: no Django, no I/O; `now` comes in, a decision goes out.

Two axes. Availability is the site's own word (`up`, `degraded`, `down`), `unknown` while nobody hears it.
Reachability is ours: a failed poll proves that we did not get through, and nothing about the site. So N missed
polls make a site unreachable and its availability unknown, never down; both begin at the last good report, written
back when the N-th poll fails, and end at the first good report.

What is recorded is what was reported. Hysteresis delays only what is shown: a site that recovers is shown so after
several good reports in a row, so that a flapping one does not flicker.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

UP, DEGRADED, DOWN, UNKNOWN = "up", "degraded", "down", "unknown"
NEVER, REACHABLE, UNREACHABLE = "", "reachable", "unreachable"
AVAILABILITY, REACHABILITY = "availability", "reachability"
_BADNESS = {UP: 0, DEGRADED: 1, DOWN: 2}
MAX_BACKOFF = 4


@dataclass(frozen=True, slots=True)
class Policy:
    """Numbers of consecutive polls: missed ones until unreachable, good ones until an improvement is shown."""

    misses_to_unreachable: int = 3
    reports_to_improve: int = 2


DEFAULT_POLICY = Policy()


class Health(Struct, frozen=True):
    """What is known of one site. Times are aware; `candidate` is the better state that hysteresis holds back.

    Three are made a poll: a struct takes a tenth of a frozen dataclass's time.
    """

    availability: str
    availability_since: datetime
    reachability: str
    reachability_since: datetime
    shown: str
    shown_since: datetime
    candidate: str = ""
    candidate_count: int = 0
    candidate_since: datetime | None = None
    misses: int = 0
    last_good_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A fact to record: the open interval of `axis` ends at `at`, and `state` begins there."""

    axis: str
    state: str
    at: datetime


class Decision(Struct, frozen=True):
    """The new health, facts to record (at most one an axis), and whether what people see has changed."""

    health: Health
    changes: tuple[Change, ...]
    visible: bool


def first(now: datetime) -> Health:
    """Health of a site that was never polled."""
    return Health(UNKNOWN, now, NEVER, now, UNKNOWN, now)


def report(before: Health, verdict: str, now: datetime, policy: Policy = DEFAULT_POLICY) -> Decision:
    """A good report that says `verdict` (up, degraded or down) arrived at `now`."""
    changes = []
    after = replace(before, misses=0, last_good_at=now)
    if before.reachability != REACHABLE:
        changes.append(Change(REACHABILITY, REACHABLE, now))
        after = replace(after, reachability=REACHABLE, reachability_since=now)
    if before.availability != verdict:
        changes.append(Change(AVAILABILITY, verdict, now))
        after = replace(after, availability=verdict, availability_since=now)
    after = _show(after, verdict, now, policy)
    return Decision(after, tuple(changes), _seen(before) != _seen(after))


def missed(before: Health, now: datetime, policy: Policy = DEFAULT_POLICY) -> Decision:
    """A poll that failed, for whatever reason, at `now`."""
    after = replace(before, misses=before.misses + 1)
    if after.misses < policy.misses_to_unreachable:
        return Decision(after, (), visible=False)
    changes = []
    begin = before.last_good_at or before.availability_since
    if before.reachability != UNREACHABLE:
        changes.append(Change(REACHABILITY, UNREACHABLE, begin))
        after = replace(after, reachability=UNREACHABLE, reachability_since=begin)
    if before.availability != UNKNOWN:
        changes.append(Change(AVAILABILITY, UNKNOWN, begin))
        after = replace(after, availability=UNKNOWN, availability_since=begin)
    if before.shown != UNKNOWN:
        after = replace(after, shown=UNKNOWN, shown_since=begin)
    after = replace(after, candidate="", candidate_count=0, candidate_since=None)
    return Decision(after, tuple(changes), _seen(before) != _seen(after))


def backoff(misses: int) -> int:
    """Intervals until the next poll of a site that missed `misses`: 1, 1, 1, then doubling up to MAX_BACKOFF.

    The first polls after a miss come at the usual pace, so that unreachability is found (and denied) quickly.
    """
    return 1 if misses < DEFAULT_POLICY.misses_to_unreachable else min(MAX_BACKOFF, 2 ** (misses - 2))


def away_for(health: Health, now: datetime) -> timedelta | None:
    """Time since the last good report, if there was one."""
    return now - health.last_good_at if health.last_good_at else None


def _show(after: Health, verdict: str, now: datetime, policy: Policy) -> Health:
    """Worse is shown at once; better, from an earlier verdict, after `reports_to_improve` in a row."""
    calm = replace(after, candidate="", candidate_count=0, candidate_since=None) if after.candidate else after
    if after.shown == verdict:
        return calm
    if after.shown == UNKNOWN or _BADNESS[verdict] > _BADNESS[after.shown]:
        return replace(calm, shown=verdict, shown_since=now)
    count = after.candidate_count + 1 if after.candidate == verdict else 1
    since = after.candidate_since if after.candidate == verdict and after.candidate_since else now
    if count >= policy.reports_to_improve:
        return replace(calm, shown=verdict, shown_since=since)
    return replace(after, candidate=verdict, candidate_count=count, candidate_since=since)


def _seen(health: Health) -> tuple[str, str]:
    return health.shown, health.reachability
