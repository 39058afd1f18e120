"""Maintenance as pages show it: days of a month on a wall, rows of a list, effects in words."""

from calendar import Calendar as Months
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from slas.models import Window
from slas.present.words import span_words
from slas.selectors.upkeep_effects import Effect

# A state is a shape and a word.
STATES: Final = {
    "requested": ("degraded", "Waits for an answer"),
    "approved": ("up", "Approved"),
    "refused": ("down", "Refused"),
    "cancelled": ("retired", "Cancelled"),
}
SIDES: Final = {"operator": "the operator", "provider": "the provider"}
SHOWN: Final = 3


@dataclass(frozen=True)
class Row:
    """A window with what a list says of it. `local` tells its time on the sites' own clocks."""

    window: Window
    sites: int
    local: str

    @property
    def look(self) -> tuple[str, str]:
        """The shape and the word of its state."""
        return STATES[self.window.state]

    @property
    def asked_by(self) -> str:
        """The side that asked for it."""
        return SIDES[self.window.side]

    @property
    def lasts(self) -> str:
        """How long it is."""
        return span_words((self.window.ends - self.window.begins) // timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True)
class Day:
    """A day on the wall with its windows, those that do not fit counted."""

    date: date
    is_other: bool
    is_today: bool
    rows: Sequence[tuple[Row, str]]
    more: int


def row_of(window: Window, places: Mapping[str, int]) -> Row:
    """A window as a list shows it; `places` are its sites by time zone."""
    local = [f"{_clock(window, zone)} {zone}" for zone in sorted(places, key=lambda zone: -places[zone])[:SHOWN]]
    more = len(places) - len(local)
    return Row(window, sum(places.values()), "; ".join([*local, *([f"and {more} more clocks"] if more > 0 else [])]))


def _clock(window: Window, zone: str) -> str:
    begin, end = (at.astimezone(ZoneInfo(zone)) for at in (window.begins, window.ends))
    last = f"{end:%H:%M}" if begin.date() == end.date() else f"{end.day} {end:%b %H:%M}"
    return f"{begin.day} {begin:%b %H:%M} to {last}"


def weeks_of(rows: Iterable[Row], year: int, month: int, zone: str, now: datetime) -> list[list[Day]]:
    """The weeks of a month, Monday first, on a clock in `zone`; each window on every day that it touches."""
    tz = ZoneInfo(zone)
    today = now.astimezone(tz).date()
    listed = list(rows)
    weeks = Months(firstweekday=0).monthdatescalendar(year, month)
    return [[_day(listed, one, month, today, tz) for one in week] for week in weeks]


def _day(rows: Sequence[Row], day: date, month: int, today: date, tz: ZoneInfo) -> Day:
    begin = datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC)
    after = day + timedelta(days=1)
    end = datetime(after.year, after.month, after.day, tzinfo=tz).astimezone(UTC)
    found = [
        (row, f"{row.window.begins.astimezone(tz):%H:%M}" if row.window.begins >= begin else "goes on")
        for row in rows
        if row.window.begins < end and row.window.ends > begin
    ]
    return Day(day, day.month != month, day == today, found[:SHOWN], max(0, len(found) - SHOWN))


def effect_lines(effects: Iterable[Effect]) -> list[dict[str, Any]]:
    """What a window means for each contract, in sentences; `look` of the gravest."""
    found = []
    for one in effects:
        says, look = [], "up"
        if one.notice_h:
            given = f"{max(0.0, one.given_h):.0f} h"
            says.append(f"It wants {one.notice_h:g} h of notice; this is {given}.")
            if one.is_short:
                look = "degraded"
                says.append("It counts only if whoever approves it says why.")
        if one.cap_h is None:
            says.append("There is no cap.")
        else:
            says.append(
                f"At the site with most, {span_words(one.used_ms)} of {one.cap_h:g} h a {one.cap_per} are used."
            )
            if one.excess_ms:
                look = "degraded"
                says.append(f"{span_words(one.excess_ms)} over the cap would count as any other time.")
        word = "is excluded" if one.counts == "excluded" else "counts as up"
        says.append(f"Maintenance within notice and cap {word}.")
        found.append({"contract": one.contract, "sites": one.sites, "says": " ".join(says), "look": look})
    return found
