"""What stands against changing a site now: holds, leases, windows, budgets, other rollouts. Pure."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fleet.rollouts.engine.facts import Hold, Site, Taken
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.states import Wait
from fleet.rollouts.windows import next_open

_LOCKED_FOR: Final = timedelta(minutes=1)
_UNKNOWN: Final = timedelta(hours=1)


class Obstacle(NamedTuple):
    """Why not now, and when to look again."""

    wait: Wait
    until: datetime
    sentence: str


def obstacle(t: Tick, site: Site, ignoring: Collection[Wait] = ()) -> Obstacle | None:
    """The first thing that stands against changing this site now, or None."""
    checks = {Wait.HELD: _held, Wait.BUSY: _busy, Wait.OVER_BUDGET: _over_budget, Wait.WINDOW: _closed}
    for wait, check in checks.items():
        found = None if wait in ignoring else check(t, site)
        if found:
            return found
    return None


def covers(hold: Hold, site: Site) -> bool:
    """Whether the hold speaks of this site."""
    if hold.site is not None:
        return hold.site == site.id
    if hold.region is not None and hold.region != site.region:
        return False
    return hold.provider is None or hold.provider == site.provider


def is_overridden(t: Tick, hold: Hold) -> bool:
    """Whether two people agreed that a standard of security severity does not wait for this hold."""
    return t.plan.severity == "security" and len(hold.overridden_by) >= 2


def _held(t: Tick, site: Site) -> Obstacle | None:
    for hold in t.head.holds:
        if hold.until > t.now and covers(hold, site) and not is_overridden(t, hold):
            return Obstacle(Wait.HELD, hold.until, hold.reason)
    return None


def _busy(t: Tick, site: Site) -> Obstacle | None:
    if site.taken is Taken.LOCKED:
        return Obstacle(Wait.BUSY, t.now + _LOCKED_FOR, "another rollout is changing it")
    if site.busy_until and site.busy_until > t.now:
        return Obstacle(Wait.BUSY, site.busy_until, "the site says that it is busy")
    return None


def _over_budget(t: Tick, site: Site) -> Obstacle | None:
    return Obstacle(Wait.OVER_BUDGET, t.now + _UNKNOWN, "its SLA budget is used up") if site.over_budget else None


def _closed(t: Tick, site: Site) -> Obstacle | None:
    key = site.provider, site.zone
    if key not in t.obstacles:
        provider = t.head.calendars.get(site.provider)
        calendars = (t.plan.calendar, provider) if provider else (t.plan.calendar,)
        opens = next_open(calendars, site.zone, t.now)
        t.obstacles[key] = None if opens == t.now else opens or t.now + timedelta(days=1)
    opens = t.obstacles[key]
    return Obstacle(Wait.WINDOW, opens, "its maintenance window is closed") if opens else None
