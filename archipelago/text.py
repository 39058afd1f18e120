"""Words and tables for a terminal. What others wrote is made plain first: a name must not move the cursor."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
_SPAN: Final = re.compile(r"([0-9]{1,6})(s|min|m|h|d)\Z")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


def plain(value: object) -> str:
    """Text that others may have written, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def words(name: object) -> str:
    """A state or a verb, as people say it."""
    return plain(name).replace("_", " ")


def sites(count: int) -> str:
    """So many sites."""
    return f"{count:,} site{'' if count == 1 else 's'}"


def moment(text: str | None) -> datetime | None:
    """A moment as the API writes it."""
    return None if text is None else datetime.fromisoformat(text)


def age(text: str | None, now: datetime) -> str:
    """How long ago a moment was, in its largest unit; `-` for none."""
    at = moment(text)
    if at is None:
        return "-"
    seconds = max(0, int((now - at).total_seconds()))
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), ("s", 1))
    return f"{seconds // size} {unit}"


def clock(text: str | None) -> str:
    """A moment in UTC, to the minute; `-` for none."""
    at = moment(text)
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def counts(found: Mapping[str, int]) -> str:
    """Counts by state: `3 proven, 2 queued`; those of none are left out."""
    return ", ".join(f"{count:,} {words(state)}" for state, count in found.items() if count) or "no sites"


def size(count: int) -> str:
    """So many bytes."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 10 else f"{value:.1f} {units[0]}"


def seconds_of(text: str) -> int:
    """The seconds in a span such as `90s`, `30m`, `2h` or `1d`. Raises ValueError."""
    found = _SPAN.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no span: it is like 30m, 2h or 1d")
    return int(found[1]) * _SECONDS[found[2]]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table, its columns as wide as their widest cell."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def as_json(value: Any) -> str:
    """JSON for other programs; nothing in it moves a cursor either."""
    return json.dumps(value, indent=2)
