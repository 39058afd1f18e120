"""What a segment of a contract promises: objectives, service hours, maintenance, causes, fee. Pure.

read_terms() reads what people write, and what is stored, and says every fault; the engine takes what it makes of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from slas.budgets import PAIRS
from slas.calendars import DAYS, Calendar, CalendarError, make_calendar
from slas.engine import Rules
from slas.faults import Fault, Reader
from slas.public_holidays import dates_of, problem_with
from slas.settlement import Burden, Tier
from slas.states import Cause, Measure, Reach, Restoration

EXCLUDED: Final = (Cause.OPERATOR_ROLLOUT, Cause.OPERATOR_CHANGE, Cause.WORKLOAD)
CAP_PERIODS: Final = {"month": 1, "quarter": 3, "year": 12}
SITE_ZONE: Final = "site"
PERCENTILES: Final = (50, 90, 95, 99)
# What is measured from states of sites, and so has unknown time and alerts of its budget; what has no target.
FROM_STATES: Final = frozenset({Measure.AVAILABILITY, Measure.REACHABILITY})
WITHOUT_TARGET: Final = frozenset({Measure.RESTORATION, Measure.LATENCY})
_ZERO, _HUNDRED, _DAY_H, _YEAR_H = Decimal(0), Decimal(100), Decimal(24), Decimal(8784)


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise. `target` and `share` (of sites) are shares between 0 and 1; `limit` is in the figure's own unit.

    Restoration has `figure` and `limit`; response a limit in minutes; latency a limit in milliseconds at `percentile`;
    version synchronisation a limit in hours, or None for the deadline that each standard names.
    `thresholds` are those of the burn alerts, shortest window first; None for the usual ones.
    """

    measure: Measure
    target: Fraction | None
    reach: Reach
    share: Fraction | None
    burden: Burden
    degraded: str
    figure: Restoration | None
    limit: Decimal | None
    percentile: int | None
    tiers: tuple[Tier, ...]
    cap: Fraction
    thresholds: tuple[Fraction, ...] | None


@dataclass(frozen=True, slots=True)
class Hours:
    """Service hours: `zone` is empty where each site's own counts; public holidays of a place, and more closed days."""

    zone: str
    weekly: tuple[tuple[tuple[int, int], ...], ...]
    country: str
    subdivision: str
    closed: frozenset[date]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Maintenance: how it counts, the notice that it wants, and how much of it a period may have (None: any)."""

    counts: str
    notice_h: Decimal
    cap_h: Decimal | None
    cap_per: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """Days, both ends included, on which nobody changes what sites run: no time of a version is anybody's then."""

    name: str
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything that a segment promises. Days of freezes are those of the contract's clock."""

    objectives: tuple[Objective, ...]
    hours: Hours | None
    upkeep: Upkeep
    excluded_causes: frozenset[Cause]
    includes_link: bool
    freezes: tuple[Freeze, ...] = ()

    def rules(self, objective: Objective) -> Rules:
        """What the engine must know to classify time."""
        return Rules(
            "counts_as_up" if self.upkeep.counts == "counts_as_up" else "excluded",
            "down" if objective.degraded == "down" else "up",
        )


def read_terms(value: Mapping[str, Any], faults: list[Fault], path: str = "") -> Terms:
    """The terms in an object of JSON. Adds every fault; with any, what is returned is of no use."""
    reader = Reader(value, path, faults)
    return terms_in(reader)


def terms_in(reader: Reader) -> Terms:
    """The terms among the members of a reader, which may have more."""
    objectives = tuple(_objective(one) for one in reader.each("objectives", most=20))
    if not objectives:
        reader.fault("objectives", "A contract promises something: name at least one objective.")
    odd = {fault.path for fault in reader.faults}  # what could not be read is not compared
    seen = [(one.measure, one.figure) for one in objectives]
    for at, one in enumerate(seen):
        if one in seen[:at] and not any(path.startswith(f"{reader.path}.objectives.{at}.".strip(".")) for path in odd):
            reader.fault(f"objectives.{at}", f"{one[0]} is promised twice.")
    hours = None if reader.take("calendar") is None else _hours(reader.inside("calendar"))
    return Terms(
        objectives,
        hours,
        _upkeep(reader.inside("maintenance")),
        reader.names("excluded_causes", Cause, EXCLUDED),
        _flag(reader, "includes_link"),
        tuple(found for one in reader.each("freezes", most=50) if (found := _freeze(one)) is not None),
    )


def calendar_of(hours: Hours | None, site_zone: str, window: tuple[datetime, datetime]) -> Calendar | None:
    """The calendar of a site in a window, with the holidays of its years; None for always."""
    if hours is None:
        return None
    first, last = (at.astimezone(UTC).year for at in window)
    return _calendar(hours, hours.zone or site_zone, first - 1, last + 1)


# ------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def _calendar(hours: Hours, zone: str, first: int, last: int) -> Calendar:
    public = dates_of(hours.country, hours.subdivision, range(first, last + 1)) if hours.country else frozenset()
    return Calendar(zone, hours.weekly, public | hours.closed)


def _objective(reader: Reader) -> Objective:
    measure = reader.name("measure", Measure)
    reach = reader.name("scope", Reach, Reach.EACH_SITE)
    share = None
    if reach is Reach.SHARE_OF_SITES:
        share = Fraction(reader.number("share", least=Decimal("0.01"), most=_HUNDRED)) / 100
    target = _target(reader) if measure not in WITHOUT_TARGET else None
    figure = reader.name("figure", Restoration) if measure is Measure.RESTORATION else None
    limit = None
    if measure in {Measure.RESTORATION, Measure.RESPONSE, Measure.LATENCY}:
        limit = reader.number("limit", least=_ZERO, most=Decimal(1_000_000))
    elif measure is Measure.VERSION_SYNC and reader.take("limit") is not None:
        limit = reader.number("limit", least=_ZERO, most=_YEAR_H)
    percentile = _percentile(reader) if measure is Measure.LATENCY else None
    degraded = reader.take("degraded", "up")
    if degraded not in {"up", "down"}:
        reader.fault("degraded", "Degraded time counts as up or as down.")
    tiers, cap = _credits(reader.inside("credits"), target)
    found = Objective(
        measure,
        target,
        reach,
        share,
        reader.name("burden", Burden, Burden.OPEN),
        str(degraded),
        figure,
        limit,
        percentile,
        tiers,
        cap,
        _thresholds(reader, target),
    )
    reader.end()
    return found


def _target(reader: Reader) -> Fraction:
    found = reader.number("target", least=_ZERO, most=Decimal(1000))
    if found >= _HUNDRED:
        reader.fault("target", f"A target of {found} % allows no failure at all, ever: it is below 100.")
    elif found == 0 and not reader.faults:
        reader.fault("target", "A target of 0 % promises nothing.")
    return Fraction(found) / 100


def _percentile(reader: Reader) -> int:
    found = reader.take("percentile")
    if found not in PERCENTILES or isinstance(found, bool):
        reader.fault("percentile", f"This is one of {', '.join(map(str, PERCENTILES))}.")
        return PERCENTILES[0]
    return int(found)


def _credits(reader: Reader, target: Fraction | None) -> tuple[tuple[Tier, ...], Fraction]:
    """Tiers from the mildest to the worst: each below the one before, and dearer."""
    tiers = []
    for one in reader.each("tiers", most=20):
        below = one.number("below", least=Decimal("0.0001"), most=_HUNDRED)
        tiers.append(Tier(Fraction(below) / 100, Fraction(one.number("credit", least=_ZERO, most=_HUNDRED)) / 100))
        one.end()
        if target is None:
            one.fault("below", "Tiers are for objectives with a target in per cent.")
        elif tiers[-1].below > target:
            one.fault("below", "A tier above the target would never be reached: credits are for what was missed.")
        if len(tiers) > 1 and tiers[-1].below >= tiers[-2].below:
            one.fault("below", "Tiers are in order, from the highest figure to the lowest.")
        if len(tiers) > 1 and tiers[-1].credit <= tiers[-2].credit:
            one.fault("credit", "A worse figure brings a larger credit.")
    cap = Fraction(reader.number("cap", least=Decimal("0.01"), most=_HUNDRED, otherwise="100")) / 100
    if tiers and cap < tiers[0].credit:
        reader.fault("cap", "The cap is below the smallest credit.")
    reader.end()
    return tuple(tiers), cap


def _thresholds(reader: Reader, target: Fraction | None) -> tuple[Fraction, ...] | None:
    found = reader.take("burn")
    if found is None:
        return None
    if not isinstance(found, list | tuple) or len(found) != len(PAIRS):
        reader.fault("burn", f"Name {len(PAIRS)} thresholds, for the shortest windows first.")
        return None
    inner = Reader({str(at): one for at, one in enumerate(found)}, f"{reader.path}.burn".strip("."), reader.faults)
    read = [Fraction(inner.number(str(at), least=Decimal("0.01"), most=Decimal(10**6))) for at in range(len(found))]
    most = 1 / (1 - target) if target is not None and target < 1 else None
    for at, one in enumerate(read):
        if most is not None and one > most:
            inner.fault(str(at), f"This alert can never fire: all being down burns at {float(most):.4g}, no faster.")
        if at and one > read[at - 1]:
            inner.fault(str(at), "A longer window has a lower threshold.")
    return tuple(read)


def _hours(reader: Reader) -> Hours:
    zone = reader.take("timezone", SITE_ZONE)
    zone = "" if zone == SITE_ZONE else reader.zone("timezone")
    weekly = reader.inside("weekly")
    slots: dict[str, list[list[str]]] = {}
    for day in DAYS:
        for at, slot in enumerate(_slots(weekly, day)):
            try:
                make_calendar("UTC", {day: [slot]})
                slots.setdefault(day, []).append(slot)
            except CalendarError as error:
                weekly.fault(f"{day}.{at}", f"{str(error)[:1].upper()}{str(error)[1:300]}.")
    weekly.end()
    if not slots and not any(fault.path.startswith(weekly.path) for fault in reader.faults):
        weekly.fault("", "A calendar with no hours would promise nothing: give at least one day a slot.")
    place = reader.inside("holidays")
    country, subdivision = place.text("country", most=3), place.text("subdivision", most=10)
    problem = problem_with(country, subdivision) if country else ""
    if problem or (subdivision and not country):
        place.fault("country", problem or "Name the country, too.")
    place.end()
    found = Hours(zone, make_calendar("UTC", slots).weekly, country, subdivision, reader.dates("closed"))
    reader.end()
    return found


def _slots(weekly: Reader, day: str) -> list[Any]:
    found = weekly.take(day, [])
    if not isinstance(found, list | tuple) or len(found) > 48:
        weekly.fault(day, "This is a list of slots, like 09:00 to 17:00.")
        return []
    return list(found)


def _upkeep(reader: Reader) -> Upkeep:
    counts, per = reader.take("counts", "excluded"), reader.take("cap_per", "month")
    if counts not in {"excluded", "counts_as_up"}:
        reader.fault("counts", "Maintenance is excluded, or counts_as_up.")
    if per not in CAP_PERIODS:
        reader.fault("cap_per", f"This is one of {', '.join(CAP_PERIODS)}.")
    notice_h = reader.number("notice_h", least=_ZERO, most=_YEAR_H, otherwise="0")
    cap_h = None if reader.take("cap_h") is None else reader.number("cap_h", least=_ZERO, most=_YEAR_H)
    reader.end()
    return Upkeep(str(counts), notice_h, cap_h, str(per))


def _freeze(reader: Reader) -> Freeze | None:
    name, first, last = reader.text("name", most=100, least=1), reader.day("first"), reader.day("last")
    reader.end()
    if first is None or last is None:
        return None
    if last < first:
        reader.fault("last", "It ends before it begins.")
    return Freeze(name, first, last)


def _flag(reader: Reader, name: str) -> bool:
    found = reader.take(name, False)
    if not isinstance(found, bool):
        reader.fault(name, "This is true or false.")
    return bool(found)
