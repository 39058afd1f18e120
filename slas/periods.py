"""Months, quarters, years and ranges of days of a zone: they begin at local midnight with their real length. Pure."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_FORMS: Final = re.compile(r"(\d{4})(?:-(\d{2})|-Q([1-4]))?")
_RANGE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.\.(\d{4}-\d{2}-\d{2})")
MONTH: Final = r"^[0-9]{4}-[0-9]{2}$"
QUARTER: Final = r"^[0-9]{4}-Q[1-4]$"
MOST_DAYS: Final = 1830


class PeriodError(ValueError):
    """What is wrong with a period, in a sentence."""


def period_of(text: str, zone: str) -> tuple[datetime, datetime]:
    """Begin and end, in UTC, of `2026-11`, `2026-Q4` or `2026` in a zone. Raises PeriodError."""
    found = _FORMS.fullmatch(text)
    if found is None or not 1990 <= int(found[1]) <= 2200 or not 1 <= int(found[2] or 1) <= 12:
        raise PeriodError("Write a period like 2026-11, 2026-Q4 or 2026.")
    first, count = int(found[1]) * 12, 12
    if found[2]:
        first, count = first + int(found[2]) - 1, 1
    elif found[3]:
        first, count = first + 3 * (int(found[3]) - 1), 3
    return begin_of(first, zone), begin_of(first + count, zone)


def span_of(text: str, zone: str) -> tuple[datetime, datetime]:
    """The same, also of days like `2026-11-03..2026-11-20`, of which the last counts too. Raises PeriodError."""
    found = _RANGE.fullmatch(text)
    if found is None:
        try:
            return period_of(text, zone)
        except PeriodError:
            raise PeriodError("Write a period like 2026-11, 2026-Q4, 2026 or 2026-11-03..2026-11-20.") from None
    try:
        first, last = (date.fromisoformat(part) for part in found.groups())
    except ValueError:
        raise PeriodError("There is no such day.") from None
    if not 1990 <= first.year <= last.year <= 2200 or last < first:
        raise PeriodError("The last day comes before the first.")
    if (last - first).days >= MOST_DAYS:
        raise PeriodError(f"That is more than {MOST_DAYS} days.")
    begin, end = (midnight(day, zone) for day in (first, last + timedelta(days=1)))
    return begin, end


def days_between(begin: datetime, end: datetime, zone: str) -> list[tuple[datetime, datetime]]:
    """The days of a zone that lie wholly within `[begin, end)`, in UTC; a day may have 23 hours, or 25."""
    found: list[tuple[datetime, datetime]] = []
    day = begin.astimezone(ZoneInfo(zone)).date() - timedelta(days=1)
    while True:
        first, last = (midnight(at, zone) for at in (day, day + timedelta(days=1)))
        if last > end:
            return found
        if first >= begin:
            found.append((first, last))
        day += timedelta(days=1)


def begin_of(month: int, zone: str) -> datetime:
    """When a month begins in a zone, in UTC; months are counted from the year 0."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def month_of(moment: datetime, zone: str) -> int:
    """The month that a moment is in, counted from the year 0."""
    local = moment.astimezone(ZoneInfo(zone))
    return local.year * 12 + local.month - 1


def month_text(month: int) -> str:
    """A month as people write it: `2026-11`."""
    return f"{month // 12:04}-{month % 12 + 1:02}"


def quarter_text(month: int) -> str:
    """The quarter that a month is in: `2026-Q4`."""
    return f"{month // 12:04}-Q{month % 12 // 3 + 1}"


def is_month(period: str) -> bool:
    """Whether a period is written as one month."""
    return re.search(MONTH, period) is not None


def is_quarter(period: str) -> bool:
    """Whether a period is written as one quarter."""
    return re.search(QUARTER, period) is not None


def midnight(day: date, zone: str) -> datetime:
    """When a day begins in a zone, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
