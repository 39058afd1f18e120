"""Service hours: a weekly calendar in a time zone, with holidays, expanded to spans date by date. Pure, no Django.

A slot runs from its first to its last moment on the wall clock of its date: 09:00 to 17:00 is eight hours on every day.
A local time that occurs twice means its first occurrence; one that does not exist is read with the offset before the
switch. So a slot that a switch of clocks empties counts nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from slas.spans import Span, Spans, meet, union

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_END = 24 * 60
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class CalendarError(ValueError):
    """What is wrong with a calendar, in a sentence."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """`weekly` has for each day, Monday first, its slots in minutes of the wall clock; `holidays` have none."""

    zone: str
    weekly: tuple[tuple[tuple[int, int], ...], ...]
    holidays: frozenset[date] = frozenset()

    @property
    def has_hours(self) -> bool:
        """Whether any day has a slot."""
        return any(self.weekly)


def zone_of(name: object) -> ZoneInfo:
    """A time zone by its name. Raises CalendarError."""
    try:
        if isinstance(name, str) and name and len(name) <= 64:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise CalendarError(f"there is no time zone {name!r}")


def make_calendar(
    zone: object, weekly: Mapping[str, Sequence[Sequence[str]]], holidays: Sequence[str] = ()
) -> Calendar:
    """A calendar of slots like `{"mon": [["09:00", "17:00"]]}` and dates like `2026-12-25`. Raises CalendarError."""
    zone_of(zone)
    unknown = sorted(set(weekly) - set(DAYS))
    if unknown:
        raise CalendarError(f"there is no day {unknown[0]!r}: use {', '.join(DAYS)}")
    days = tuple(tuple(_slot(day, slot) for slot in weekly.get(day, ())) for day in DAYS)
    return Calendar(str(zone), days, frozenset(_date(text) for text in holidays))


def open_spans(calendar: Calendar, window: Span) -> Spans:
    """When the calendar is open within the window, in milliseconds."""
    return list(_open_spans(calendar, window))


@lru_cache(maxsize=4096)
def _open_spans(calendar: Calendar, window: Span) -> tuple[Span, ...]:
    zone = zone_of(calendar.zone)
    day, last = (_moment(at).astimezone(zone).date() for at in window)
    found: Spans = []
    while day <= last:
        if day not in calendar.holidays:
            found += [(_instant(day, a, zone), _instant(day, b, zone)) for a, b in calendar.weekly[day.weekday()]]
        day += _DAY
    return tuple(meet(union(found), [window]))


def _moment(at_ms: int) -> datetime:
    return _EPOCH + at_ms * _MS


def _instant(day: date, minute: int, zone: ZoneInfo) -> int:
    """Milliseconds of a wall clock's minute of a date; 24:00 is the next date's midnight."""
    if minute == DAY_END:
        day, minute = day + _DAY, 0
    local = datetime.combine(day, time(minute // 60, minute % 60), tzinfo=zone)
    return (local.astimezone(UTC) - _EPOCH) // _MS


def _slot(day: str, slot: object) -> tuple[int, int]:
    if not isinstance(slot, list | tuple) or len(slot) != 2:
        raise CalendarError(f"a slot of {day} is a begin and an end, like 09:00 and 17:00")
    begin, end = (_minute(day, text) for text in slot)
    if end <= begin:
        raise CalendarError(f"the slot {slot[0]} to {slot[1]} of {day} does not end after it begins: split it at 24:00")
    return begin, end


def _minute(day: str, text: object) -> int:
    if not isinstance(text, str) or not _CLOCK.fullmatch(text):
        raise CalendarError(f"{text!r} of {day} is no time of day: write it like 09:00, at most 24:00")
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _date(text: object) -> date:
    try:
        if isinstance(text, str) and len(text) == len("2026-12-25"):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise CalendarError(f"{text!r} is no date: write it like 2026-12-25")
