"""Maintenance windows and change freezes in a site's own time zone, right on the days when clocks change. Pure.

A window runs from the first moment at which its begin is on the site's clock (or the clock jumps over it) to the first
moment at which its end is. So a window that lies whole in the hour that spring leaves out does not open that day, and
one in the hour that autumn repeats opens once. A freeze wins over a window. No windows at all: always open.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from agent.protocol.kinds import settle

HORIZON: Final = timedelta(days=400)
_DAY: Final = timedelta(days=1)
_MAX_STEPS: Final = 1_000

Weekday = Annotated[int, Meta(ge=0, le=6)]
# On the site's clock: a zone in it would say nothing.
Local = Annotated[datetime, Meta(tz=False)]
LocalTime = Annotated[time, Meta(tz=False)]
YEARS: Final = (1970, 2200)


class Weekly(Struct, frozen=True, forbid_unknown_fields=True):
    """Open on these days (0 is Monday) from `begin` to `end`; past midnight where `end` is not later than `begin`."""

    days: Annotated[tuple[Weekday, ...], Meta(min_length=1, max_length=7)]
    begin: LocalTime
    end: LocalTime


class Freeze(Struct, frozen=True, forbid_unknown_fields=True):
    """Closed from `begin` to `end` on the site's clock, both without a zone; for ever where `end` is None."""

    begin: Local
    end: Local | None
    reason: Annotated[str, Meta(max_length=300)] = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what is no span, or so far away that a zone's offset leads out of the calendar."""
        if self.end is not None and self.end <= self.begin:
            raise ValueError("A freeze ends after it begins")
        for at in (self.begin, self.end):
            if at is not None and not YEARS[0] <= at.year <= YEARS[1]:
                raise ValueError(f"A freeze lies between the years {YEARS[0]} and {YEARS[1]}")


class Calendar(Struct, frozen=True, forbid_unknown_fields=True):
    """When sites may be changed."""

    windows: tuple[Weekly, ...] = ()
    freezes: tuple[Freeze, ...] = ()


def open_at(calendar: Calendar, zone: str, now: datetime) -> bool:
    """Whether a site in `zone` may be changed at `now` (aware)."""
    return _frozen_until(calendar, zone, now) is None and _in_window(calendar, zone, now)


def next_open(calendars: tuple[Calendar, ...], zone: str, now: datetime) -> datetime | None:
    """The first moment from `now` on at which all calendars are open; None if there is none within HORIZON."""
    at = now.astimezone(UTC)
    for _ in range(_MAX_STEPS):
        opens = [_opens(calendar, zone, at) for calendar in calendars]
        if None in opens or at > now + HORIZON:
            return None
        latest = max((moment for moment in opens if moment), default=at)
        if latest == at:
            return at
        at = latest
    return None


def never_opens(calendars: tuple[Calendar, ...], zone: str, now: datetime) -> bool:
    """Whether a site in `zone` may at no moment from `now` on be changed."""
    return next_open(calendars, zone, now) is None


def openings(calendar: Calendar, zone: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Windows between `begin` and `end` in UTC, without the freezes: for a view of the calendar."""
    days = range((end - begin).days + 3)
    first = begin.astimezone(ZoneInfo(zone)).date() - _DAY
    spans = (span for day in days for span in _spans(calendar, zone, first + day * _DAY))
    return sorted((max(a, begin), min(b, end)) for a, b in spans if a < end and b > begin)


def day_of(zone: str, day: date) -> tuple[datetime, datetime]:
    """When a day begins and ends on a clock in `zone`, in UTC: 23 to 25 hours."""
    begin, end = (_instant(datetime.combine(one, time()), zone) for one in (day, day + _DAY))
    return begin, end


def freezes_in(calendar: Calendar, zone: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime, str]]:
    """Freezes between `begin` and `end` in UTC, each with its reason."""
    found = []
    for freeze in calendar.freezes:
        a = _instant(freeze.begin, zone)
        b = _instant(freeze.end, zone) if freeze.end else _NEVER
        if a < end and b > begin:
            found.append((max(a, begin), min(b, end), freeze.reason))
    return sorted(found)


def _opens(calendar: Calendar, zone: str, at: datetime) -> datetime | None:
    """The first moment from `at` on at which this calendar is open."""
    for _ in range(_MAX_STEPS):
        frozen_until = _frozen_until(calendar, zone, at)
        if frozen_until == _NEVER:
            return None
        if frozen_until:
            at = frozen_until
            continue
        if _in_window(calendar, zone, at):
            return at
        begin = _next_window(calendar, zone, at)
        if begin is None:
            return None
        at = begin
    return None


_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def _frozen_until(calendar: Calendar, zone: str, now: datetime) -> datetime | None:
    """The end of the freeze that `now` lies in, or None. Compared in UTC, so a repeated hour is not frozen twice."""
    ends = []
    for freeze in calendar.freezes:
        end = _instant(freeze.end, zone) if freeze.end else _NEVER
        if _instant(freeze.begin, zone) <= now < end:
            ends.append(end)
    return max(ends, default=None)


def _in_window(calendar: Calendar, zone: str, now: datetime) -> bool:
    if not calendar.windows:
        return True
    today = now.astimezone(ZoneInfo(zone)).date()
    return any(a <= now < b for day in (today - _DAY, today) for a, b in _spans(calendar, zone, day))


def _next_window(calendar: Calendar, zone: str, now: datetime) -> datetime | None:
    """The first begin after `now`. Two weeks are enough to meet each weekday, also around a change of clocks."""
    today = now.astimezone(ZoneInfo(zone)).date()
    for day in range(-1, 15):
        begins = [a for a, _ in _spans(calendar, zone, today + day * _DAY) if a > now]
        if begins:
            return min(begins)
    return None


def _spans(calendar: Calendar, zone: str, day: date) -> Iterator[tuple[datetime, datetime]]:
    """Windows that begin on `day`, in UTC; empty ones left out."""
    for window in calendar.windows:
        if day.weekday() in window.days:
            last = day if window.end > window.begin else day + _DAY
            begin = _instant(datetime.combine(day, window.begin), zone)
            end = _instant(datetime.combine(last, window.end), zone)
            if begin < end:
                yield begin, end


@lru_cache(maxsize=20_000)
def _instant(local: datetime, zone: str) -> datetime:
    """The first moment at which a clock in `zone` shows `local`, or jumps over it, in UTC."""
    tz = ZoneInfo(zone)
    early = local.replace(tzinfo=tz, fold=0).astimezone(UTC)
    if early.astimezone(tz).replace(tzinfo=None) == local:
        return early
    # The clock never shows it: find the jump, which lies between the two readings.
    low, high = sorted((early, local.replace(tzinfo=tz, fold=1).astimezone(UTC)))
    before = low.astimezone(tz).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(tz).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


settle(__name__)
