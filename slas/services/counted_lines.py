"""Lines of a scorecard for promises that are not shares of time, with their figures in words."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from slas.models import Contract, Segment
from slas.reporting.counted import LATENCY, Delay, Latency, Offered, Synced
from slas.reporting.paper import Restored
from slas.rounding import percent_2, percent_4
from slas.selectors.counted import delays_of, restored_of
from slas.version_sync import Outcome

# Days are counted some minutes after they are over; later than this none comes any more.
LATE_DAYS: Final = timedelta(days=2)
NAMED: Final = 3
Line = dict[str, Any]
# What lines of time have besides.
_NOTHING: Final[Line] = {
    **dict.fromkeys(("measured", "floor", "ceiling", "coverage", "floor_4", "target")),
    **dict.fromkeys(("down_ms", "degraded_ms", "unknown_ms", "excluded_ms"), 0),
    "burden": "",
    "worst": [],
}


def counted_lines(
    contract: Contract,
    segments: Mapping[int, Segment],
    begin: datetime,
    end: datetime,
    now: datetime,
    *,
    versions: tuple[Sequence[Synced], Sequence[Offered]],
    before: Sequence[tuple[str, Line]] = (),
    stamp: str = "",
) -> Iterable[tuple[str, Line]]:
    """The name of a provider, and a line of its card: `figure`, `promise`, `says` are texts. `versions` are those of
    the month (slas.selectors.counted.synced_of).

    Those of round trips are taken from `before` where they have the same `stamp` and no day of them is missing.
    `waits` says that more will be known of it, though no fact of a site changes.
    """
    synced, offered = versions
    for one in synced:
        yield one.provider, _synced(one, [each for each in offered if each.provider == one.provider])
    kept = [(name, line) for name, line in before if line["measure"] == LATENCY]
    if kept and all(line["stamp"] == stamp and not line["waits"] for _, line in kept):
        yield from kept
    else:
        latencies, delays = delays_of(contract, segments, begin, end, now)
        for each in latencies:
            own = [one for one in delays if one.provider == each.provider]
            yield each.provider, {**_latency(each, own, is_late=now - end > LATE_DAYS), "stamp": stamp}
    for found in restored_of(contract, segments, begin, end, now):
        yield found.provider, _restored(found)


# ------------------------------------------------------------------------------------------------------------
def _synced(one: Synced, offered: Iterable[Offered]) -> dict[str, Any]:
    late = list(dict.fromkeys(each.name for each in offered if each.outcome == Outcome.LATE))
    limit = "each standard's deadline" if one.limit_h is None else f"{one.limit_h.normalize():f} h"
    says = f"{one.on_time} on time, {one.late} late, {one.pending} pending"
    return _NOTHING | {
        "measure": one.measure,
        "scope": one.reach,
        "sites": one.sites,
        "target": f"{percent_4(one.target):f}",
        "floor_4": None if one.share is None else f"{percent_4(one.share):f}",
        "promise": f"≥ {_trimmed(one.target)} % within {limit}",
        "figure": None if one.share is None else f"{percent_2(one.share)} %",
        "says": says + (f"; late: {_names(late)}" if late else ""),
        "verdict": one.verdict,
        "credit": f"{one.credit:f}",
        "currency": one.currency,
        "waits": one.pending > 0,
    }


def _latency(one: Latency, delays: Iterable[Delay], *, is_late: bool) -> dict[str, Any]:
    slow = [f"{each.name} ({each.figure} ms)" for each in delays if each.verdict == "MISSED"]
    coverage = "" if one.coverage is None else f", {percent_2(one.coverage)} % of the time covered"
    return _NOTHING | {
        "measure": one.measure,
        "scope": one.reach,
        "sites": one.sites,
        "promise": f"{one.percentile} of 100 polls ≤ {one.limit_ms.normalize():f} ms",
        "figure": None if one.figure is None else f"{one.figure} ms",
        "says": f"{one.polls} polls{coverage}" + (f"; too slow: {_names(slow)}" if slow else ""),
        "verdict": one.verdict,
        "credit": "0",
        "currency": "",
        "waits": one.missing > 0 and not is_late,
    }


def _restored(one: Restored) -> dict[str, Any]:
    assert one.limit is not None
    limit, unit = f"{one.limit.normalize():f}", "" if one.measure.endswith("count") else " h"
    figure = None if one.figure is None else f"{float(one.figure):.2f}{unit}"
    promise = f"{'≥' if one.measure.endswith('mtbf_h') else '≤'} {limit}{unit}"
    if one.target is not None:
        figure = None if one.figure is None else f"{percent_2(one.figure)} %"
        promise = f"≥ {_trimmed(one.target)} % within {limit} min"
    return _NOTHING | {
        "measure": one.measure,
        "scope": "",
        "sites": 0,
        "promise": promise,
        "figure": figure,
        "says": f"{one.count} outage{'' if one.count == 1 else 's'}",
        "verdict": one.verdict,
        "credit": f"{one.credit:f}",
        "currency": one.currency,
        "waits": False,
    }


def _names(found: list[str]) -> str:
    more = len(found) - NAMED
    return ", ".join(found[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _trimmed(share: Fraction) -> str:
    return f"{(percent_4(share) or Decimal(0)).normalize():f}"
