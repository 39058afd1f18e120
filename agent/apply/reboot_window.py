"""When a site may be booted anew: windows of the week, in a time zone of its own.

Pure: no I/O but the time zone's rules, no clock.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM: Final = re.compile(r"(?:(Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAY: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """From a minute of the week on for some minutes; with `daily` each day, and then `begin` is one of the day."""

    begin: int
    minutes: int
    daily: bool

    def is_open(self, local: datetime) -> bool:
        """Whether a local time lies within: its begin does, its end does not."""
        minute = local.weekday() * _DAY + local.hour * 60 + local.minute
        period = _DAY if self.daily else 7 * _DAY
        return (minute - self.begin) % period < self.minutes


def read_window(text: str) -> Window:
    """`Sun 02:00-04:00`, or `02:00-04:00` for each day; one may end on the day after. Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no window such as `Sun 02:00-04:00` or `23:00-01:00`")
    day, *numbers = found.groups()
    hour, minute, end_hour, end_minute = map(int, numbers)
    begin, end = hour * 60 + minute, end_hour * 60 + end_minute
    if begin == end:
        raise ValueError(f"{text!r} is an empty window")
    start = begin if day is None else DAYS.index(day) * _DAY + begin
    return Window(start, (end - begin) % _DAY, daily=day is None)


def is_open(windows: tuple[str, ...], time_zone: str, now: datetime) -> bool:
    """Whether one of the windows is open. Raises ValueError for what is none, and for a zone that does not exist."""
    try:
        local = now.astimezone(ZoneInfo(time_zone))
    except (OSError, KeyError) as error:
        raise ValueError(f"no time zone {time_zone!r}") from error
    return any(read_window(window).is_open(local) for window in windows)
