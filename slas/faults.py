"""Reading what people write, member by member, and collecting every fault with its path. Pure.

Nothing raises on the first: whoever fills in a form wants to see all of them. A reader that has found a fault goes on
with a stand-in, and what was read is used only where no fault was found.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from slas.calendars import CalendarError, zone_of

Name = TypeVar("Name", bound=StrEnum)
_MAX_DIGITS: Final = 16


class Fault(NamedTuple):
    """Where something is wrong, like `segments.0.objectives.1.target`, and what, as a sentence."""

    path: str
    text: str


class Reader:
    """One object of members, at a path; faults go into a list that all readers of a text share."""

    def __init__(self, value: object, path: str, faults: list[Fault]) -> None:
        self.path, self.faults = path, faults
        if not isinstance(value, Mapping):
            self.fault("", "This is an object with members.")
        self.value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        self._read: set[str] = set()

    def fault(self, name: str, text: str) -> None:
        """Note a fault at a member."""
        self.faults.append(Fault(".".join(part for part in (self.path, name) if part), text))

    def take(self, name: str, otherwise: object = None) -> Any:
        """A member as it is."""
        self._read.add(name)
        return self.value.get(name, otherwise)

    def inside(self, name: str) -> "Reader":
        """The object at a member; an absent one is empty."""
        return Reader(self.take(name) or {}, f"{self.path}.{name}" if self.path else name, self.faults)

    def each(self, name: str, *, most: int = 100) -> list["Reader"]:
        """The objects of a list."""
        found = self.take(name, [])
        path = f"{self.path}.{name}" if self.path else name
        return [Reader(one, f"{path}.{at}", self.faults) for at, one in enumerate(self._sequence(name, found, most))]

    def names(self, name: str, kind: type[Name], otherwise: Iterable[Name]) -> frozenset[Name]:
        """A list of names out of a set of them."""
        found = self.take(name)
        if found is None:
            return frozenset(otherwise)
        known = {str(one) for one in kind}
        listed = self._sequence(name, found, 100)
        odd = [one for one in listed if not isinstance(one, str) or one not in known]
        if odd:
            self.fault(name, f"There is no {odd[0]!r} here: use {', '.join(sorted(known))}.")
        return frozenset(kind(one) for one in listed if one not in odd)

    def name(self, name: str, kind: type[Name], otherwise: Name | None = None) -> Name:
        """One name out of a set of them."""
        found = self.take(name, otherwise)
        try:
            return kind(found)
        except ValueError:
            self.fault(name, f"This is one of {', '.join(kind)}.")
            return next(iter(kind))

    def text(self, name: str, *, most: int = 300, least: int = 0) -> str:
        """A line of text."""
        found = self.take(name, "")
        if not isinstance(found, str) or not least <= len(found.strip()) <= most or not found.isprintable():
            self.fault(name, f"Write {least} to {most} characters on one line.")
            return ""
        return found.strip()

    def number(self, name: str, *, least: Decimal, most: Decimal, otherwise: str | None = None) -> Decimal:
        """A decimal number, written as text or as a whole number: a float would not be what somebody wrote."""
        found = self.take(name, otherwise)
        try:
            if isinstance(found, bool) or not isinstance(found, str | int | Decimal) or len(str(found)) > _MAX_DIGITS:
                raise InvalidOperation
            number = Decimal(found)
            if number.is_finite() and least <= number <= most:
                return number
        except InvalidOperation:
            pass
        self.fault(name, f'Write a number from {least} to {most}, like "{least}".')
        return least

    def zone(self, name: str, otherwise: str | None = None) -> str:
        """A time zone's name."""
        found = self.take(name, otherwise)
        try:
            return zone_of(found).key
        except CalendarError as error:
            self.fault(name, f"{str(error)[:120].capitalize()}.")
            return "UTC"

    def moment(self, name: str, zone: str) -> datetime | None:
        """A moment like `2026-11-01T00:00` on the wall clock of the zone, or one with its offset; absent is None.

        A local time that occurs twice means its first occurrence; one that does not exist is read with the offset
        before the switch.
        """
        found = self.take(name)
        if found in (None, ""):
            return None
        try:
            read = found if isinstance(found, datetime) else datetime.fromisoformat(found)
            local = read if read.tzinfo is not None else read.replace(tzinfo=ZoneInfo(zone))
            return local.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.fault(name, "Write a moment like 2026-11-01T00:00.")
            return None

    def day(self, name: str) -> date | None:
        """A date; None where it is none, which is a fault. The last of all days has no end, and is none either."""
        found = self.take(name)
        try:
            read = date.fromisoformat(found)
            if read < date.max:
                return read
        except (TypeError, ValueError):
            pass
        self.fault(name, "Write a date like 2026-12-24.")
        return None

    def dates(self, name: str) -> frozenset[date]:
        """A list of dates."""
        found = []
        for one in self._sequence(name, self.take(name, []), 1000):
            try:
                found.append(date.fromisoformat(one))
            except (TypeError, ValueError):
                self.fault(name, f"{str(one)[:40]!r} is no date: write it like 2026-12-25.")
        return frozenset(found)

    def end(self) -> None:
        """Every member was looked at; a fault for each that nobody knows."""
        for name in sorted(str(name) for name in self.value if name not in self._read):
            self.fault(name[:60], "There is no such member here.")

    def _sequence(self, name: str, found: object, most: int) -> Sequence[Any]:
        if isinstance(found, list | tuple) and len(found) <= most:
            return found
        self.fault(name, f"This is a list of at most {most}.")
        return ()
