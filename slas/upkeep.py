"""Which maintenance counts: agreed on in time, with the notice that a contract wants, until its cap is used up. Pure.

Windows are honoured in order of their begin, clipped to the service hours; what is over the cap of a month, quarter or
year of the contract's zone counts as any other time. Overlaps are one time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from slas.periods import begin_of
from slas.spans import Span, Spans, length, meet, union, without
from slas.terms import CAP_PERIODS, Upkeep

HOUR_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A window that was approved; all moments in milliseconds. `is_excepted` says that the approval gave a reason why
    it counts although it came late, or was asked for at short notice."""

    begin: int
    end: int
    asked_at: int
    approved_at: int
    is_excepted: bool


def counts(window: Asked, upkeep: Upkeep) -> bool:
    """Whether a window counts at all."""
    if window.is_excepted:
        return True
    notice_ms = window.begin - window.asked_at
    return window.approved_at <= window.begin and notice_ms >= upkeep.notice_h * HOUR_MS


def honoured(
    windows: Iterable[Asked], upkeep: Upkeep, hours: Sequence[Span] | None, cap_spans: Sequence[Span]
) -> Spans:
    """The time that counts as maintenance. `cap_spans` are the whole periods that the cap is for, in order.

    `hours` are those of all of `cap_spans` (None: always).
    """
    listed = sorted((one for one in windows if counts(one, upkeep)), key=lambda one: (one.begin, one.end))
    if upkeep.cap_h is None:
        return uncapped(listed, upkeep, hours)
    found: Spans = []
    for period in cap_spans:
        left = int(upkeep.cap_h * HOUR_MS)
        taken: Spans = []
        for one in listed:
            fresh = without(_within(meet([(one.begin, one.end)], [period]), hours), taken)
            kept = _first(fresh, left)
            left -= length(kept)
            taken = union([*taken, *kept])
            if left <= 0:
                break
        found += taken
    return union(found)


def uncapped(windows: Iterable[Asked], upkeep: Upkeep, hours: Sequence[Span] | None) -> Spans:
    """The time that would count as maintenance if there were no cap."""
    return _within(union((one.begin, one.end) for one in windows if counts(one, upkeep)), hours)


def cap_periods(upkeep: Upkeep, zone: str, begin: datetime, end: datetime) -> Spans:
    """The months, quarters or years of a zone that touch `[begin, end)`, whole, in milliseconds."""
    months = CAP_PERIODS[upkeep.cap_per]
    local = begin.astimezone(ZoneInfo(zone))
    at = local.year * 12 + (local.month - 1) // months * months
    found: Spans = []
    while not found or found[-1][1] < ms(end):
        found.append((ms(begin_of(at, zone)), ms(begin_of(at + months, zone))))
        at += months
    return found


def ms(moment: datetime) -> int:
    """Epoch milliseconds, down to the whole one."""
    return (moment - _EPOCH) // _MS


def moment_of(at_ms: int) -> datetime:
    """The moment of epoch milliseconds, in UTC."""
    return _EPOCH + at_ms * _MS


# ------------------------------------------------------------------------------------------------------------
def _within(spans: Spans, hours: Sequence[Span] | None) -> Spans:
    return spans if hours is None else meet(spans, hours)


def _first(spans: Spans, most_ms: int) -> Spans:
    """The first so many milliseconds of a set."""
    found: Spans = []
    for begin, end in spans:
        if most_ms <= 0:
            break
        found.append((begin, min(end, begin + most_ms)))
        most_ms -= found[-1][1] - begin
    return found
