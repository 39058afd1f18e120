"""How busy a simulated site is through the week, and the integral of that for counters that only grow."""

from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from typing import Final, Literal
from zoneinfo import ZoneInfo

Profile = Literal["factory", "shop", "warehouse"]

_HOUR_S: Final = 3_600
_WEEK_H: Final = 168
_WEEK_S: Final = _WEEK_H * _HOUR_S
_MONDAY_S: Final = 4 * 86_400  # the epoch began on a Thursday; the Monday after it is the origin of weeks

# One value an hour of local time, 0 idle to 1 as busy as it gets.
_SHOP_DAY = (
    *(0.06,) * 4, 0.10, 0.14, 0.18, 0.30, 0.55, 0.62, 0.68, 0.78,
    0.85, 0.74, 0.66, 0.70, 0.82, 0.95, 1.00, 0.80, 0.42, 0.16, 0.10, 0.07,
)  # fmt: skip
_SHOP_SUNDAY = tuple(0.05 + 0.05 * v for v in _SHOP_DAY)
_FACTORY_DAY = (
    0.45, 0.45, 0.45, 0.45, 0.45, 0.50, 0.88, 0.92, 0.94, 0.80, 0.93, 0.95,
    0.70, 0.90, 0.86, 0.84, 0.82, 0.78, 0.66, 0.80, 0.78, 0.72, 0.50, 0.46,
)  # fmt: skip
_FACTORY_WEEKEND = (0.14,) * 24
_WAREHOUSE_DAY = (
    0.95, 1.00, 0.98, 0.92, 0.85, 0.60, 0.40, 0.32, 0.30, 0.30, 0.32, 0.34,
    0.30, 0.30, 0.34, 0.40, 0.46, 0.50, 0.52, 0.56, 0.66, 0.78, 0.88, 0.92,
)  # fmt: skip
_WAREHOUSE_WEEKEND = tuple(0.10 + 0.35 * v for v in _WAREHOUSE_DAY)

_WEEKS: Final[dict[Profile, tuple[float, ...]]] = {
    "shop": _SHOP_DAY * 6 + _SHOP_SUNDAY,
    "factory": _FACTORY_DAY * 5 + _FACTORY_WEEKEND * 2,
    "warehouse": _WAREHOUSE_DAY * 5 + _WAREHOUSE_WEEKEND * 2,
}


class WeekCurve:
    """A demand curve of period one week, linear between the hours."""

    def __init__(self, hours: tuple[float, ...]) -> None:
        """`hours` are the 168 values at the full hours from Monday 0:00 local time on."""
        self._hours = (*hours, hours[0])
        areas = [(a + b) / 2 * _HOUR_S for a, b in zip(self._hours, self._hours[1:], strict=False)]
        self._areas = tuple(accumulate(areas, initial=0.0))

    def at(self, local_s: float) -> float:
        """Demand 0..1 at a local time in seconds since the epoch."""
        hour, part = divmod((local_s - _MONDAY_S) % _WEEK_S / _HOUR_S, 1)
        index = int(hour) % _WEEK_H
        begin = self._hours[index]
        return begin + (self._hours[index + 1] - begin) * part

    def integral_s(self, local_s: float) -> float:
        """Busy seconds from the origin of weeks to `local_s`; never falls as `local_s` grows."""
        weeks, rest_s = divmod(local_s - _MONDAY_S, _WEEK_S)
        hour, part = divmod(rest_s / _HOUR_S, 1)
        index = min(int(hour), _WEEK_H - 1)
        begin = self._hours[index]
        end = begin + (self._hours[index + 1] - begin) * part
        return weeks * self._areas[-1] + self._areas[index] + (begin + end) / 2 * part * _HOUR_S


CURVES: Final[dict[Profile, WeekCurve]] = {name: WeekCurve(hours) for name, hours in _WEEKS.items()}


@lru_cache(maxsize=4096)
def utc_offset_s(time_zone: str, quarter_hour: int) -> float:
    """Seconds a time zone is ahead of UTC in that quarter of an hour since the epoch; it changes on quarters only."""
    offset = datetime.fromtimestamp(quarter_hour * 900, UTC).astimezone(ZoneInfo(time_zone)).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
