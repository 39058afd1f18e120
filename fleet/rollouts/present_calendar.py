"""A calendar as a month on a wall: each day as long as it is there, with when it is open and what is frozen."""

from calendar import Calendar as Months
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from fleet.rollouts.present_plan import window_text
from fleet.rollouts.windows import Calendar, day_of, freezes_in, openings

WIDTH: Final = 1000
_SPANS_SHOWN: Final = 2
_HOUR: Final = timedelta(hours=1)
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the month, or beside it. `bars`: (x, width) of WIDTH; `hours` where the day has not 24 of them."""

    date: date
    is_other: bool
    is_today: bool
    bars: tuple[tuple[float, float], ...]
    spans: tuple[str, ...]
    more: int
    frozen: str
    hours: str


def month_of(calendar: Calendar, zone: str, year: int, month: int, now: datetime) -> list[list[Day]]:
    """The weeks of a month, Monday first, on a clock in `zone`."""
    today = now.astimezone(ZoneInfo(zone)).date()
    weeks = Months(firstweekday=0).monthdatescalendar(year, month)
    return [[_day(calendar, zone, one, month, today) for one in week] for week in weeks]


def _day(calendar: Calendar, zone: str, day: date, month: int, today: date) -> Day:
    begin, end = day_of(zone, day)
    spans = openings(calendar, zone, begin, end) if calendar.windows else [(begin, end)]
    frozen = freezes_in(calendar, zone, begin, end)
    left = _joined(_without(spans, [(a, b) for a, b, _ in frozen]))
    whole = end - begin
    bars = tuple((round((a - begin) / whole * WIDTH, 1), round((b - a) / whole * WIDTH, 1)) for a, b in left)
    words = tuple("all day" if (a, b) == (begin, end) else _hours(a, b, end, zone) for a, b in left)
    return Day(
        date=day,
        is_other=day.month != month,
        is_today=day == today,
        bars=bars,
        spans=words[:_SPANS_SHOWN],
        more=max(0, len(words) - _SPANS_SHOWN),
        frozen=", ".join(dict.fromkeys(reason or "frozen" for *_, reason in frozen)),
        hours="" if whole == 24 * _HOUR else f"{whole / _HOUR:g} h",
    )


def _without(spans: Sequence[Span], cuts: Sequence[Span]) -> list[Span]:
    """What of the spans lies in none of the cuts."""
    left = list(spans)
    for begin, end in cuts:
        parts = [part for a, b in left for part in ((a, min(b, begin)), (max(a, end), b))]
        left = [(a, b) for a, b in parts if a < b]
    return left


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The same time, in as few spans as it can be said."""
    found: list[Span] = []
    for a, b in sorted(spans):
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(b, found[-1][1]))
        else:
            found.append((a, b))
    return found


def _hours(begin: datetime, end: datetime, day_end: datetime, zone: str) -> str:
    tz = ZoneInfo(zone)
    last = "24:00" if end == day_end else f"{end.astimezone(tz):%H:%M}"
    return f"{begin.astimezone(tz):%H:%M} to {last}"


def calendar_lines(calendar: Calendar, now: datetime) -> list[str]:
    """A calendar in words: its windows, and the freezes that are not over everywhere."""
    lines = [f"{window_text(window)}." for window in calendar.windows] or ["At any time."]
    past = (now - timedelta(hours=26)).astimezone(UTC).replace(tzinfo=None)
    for freeze in calendar.freezes:
        if freeze.end is None or freeze.end > past:
            until = f"until {freeze.end:%d.%m.%Y %H:%M}" if freeze.end else "until it is taken out"
            why = f": {freeze.reason}" if freeze.reason else ""
            lines.append(f"Frozen from {freeze.begin:%d.%m.%Y %H:%M} {until}{why}.")
    return lines
