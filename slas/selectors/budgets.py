"""Error budgets: worked out from facts, and as last kept; the scope must be open."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from django.db.models import Count, F, FloatField, Q, QuerySet, Sum, Window
from django.db.models.functions import Cast, RowNumber

from fleet.kit.tenancy import Scope
from slas.burning import Burning, Watched, burning, longest, lowest
from slas.calendars import open_spans
from slas.measuring import Inputs, pieces_of
from slas.models import Budget, BurnAlert, Contract, ContractVersion, Segment
from slas.periods import begin_of
from slas.selectors.contracts import Covered, agreed, covered, segments_in
from slas.selectors.figures import told_of
from slas.spans import Span, length
from slas.states import Measure, Reach
from slas.terms import Objective, Terms, calendar_of
from slas.upkeep import moment_of, ms

# A budget that was not worked out for so long says nothing: the worker stands still.
STALE: Final = timedelta(minutes=15)
# So many sites of a segment are named that have least left.
WORST: Final = 5
# Of a site that was handed over its former provider sees neither name nor page: the segment's sum alone has it.
_SEEN: Final = Q(site=None) | Q(site__slug__isnull=False)
# The widest window of an alert is a tenth of its period, which is a month of some zone.
_WIDEST: Final = timedelta(days=3.2)


@dataclass(frozen=True, slots=True)
class Watch:
    """An objective under one segment in the present period: of all its sites together first, then of each."""

    segment: Segment
    objective: Objective
    period: tuple[datetime, datetime]
    rows: Sequence[Burning]


class Left(NamedTuple):
    """The smallest share that is left, or in `problem` why there is none."""

    share: Fraction | None
    problem: str


class Spread(NamedTuple):
    """How many sites of a segment have a budget, and of how many nothing is left."""

    sites: int
    gone: int


def month_of(now: datetime, zone: str) -> tuple[datetime, datetime]:
    """Begin and end of the month of a zone that a moment lies in."""
    local = now.astimezone(ZoneInfo(zone))
    month = local.year * 12 + local.month - 1
    return begin_of(month, zone), begin_of(month + 1, zone)


def budgets_of(contract: Contract, now: datetime) -> Iterator[Watch]:
    """Budgets of availability and reachability of the present month, and how fast they go, as known now.

    The facts of a month, or of the widest window of an alert, are read once; its cost is that of a month's figures.
    Raises NotFound where nothing was agreed yet.
    """
    version = agreed(contract, now)
    begin, end = month_of(now, version.zone)
    since = min(begin, now - _WIDEST)
    ahead = _Ahead(version, now, end)
    for one in told_of(version, segments_in(version), since, now, now):
        assert one.objective.target is not None
        period = (ms(begin), ms(end))
        assert longest(period[1] - period[0], one.objective.target) <= ms(now) - ms(since)
        watched = _watched(one.terms, one.objective, one.inputs, ahead.of(one.segment, one.terms))
        rows = burning(one.objective, one.terms.rules(one.objective), watched, period, ms(now))
        yield Watch(one.segment, one.objective, (begin, end), rows)


def budgets_in(who: Scope) -> QuerySet[Budget]:
    """Every budget that the viewer may see, as last kept; who is limited to regions or labels sees none."""
    found = Budget.objects.filter(_SEEN).select_related("contract", "segment", "provider", "site")
    return found.none() if who.narrowed else found.order_by("contract__name", "segment", "measure", "site")


def alerts_in(who: Scope) -> QuerySet[BurnAlert]:
    """Every alert that the viewer may see, newest first."""
    found = BurnAlert.objects.filter(_SEEN).select_related("contract", "provider", "site")
    return found.none() if who.narrowed else found


def present(found: QuerySet[Budget], now: datetime) -> QuerySet[Budget]:
    """Of these, those whose period and segment go on."""
    in_force = Q(segment__ends=None) | Q(segment__ends__gt=now)
    return found.filter(in_force, segment__begins__lte=now, begins__lte=now, ends__gt=now)


def spreads_of(budgets: QuerySet[Budget]) -> dict[tuple[int, str], Spread]:
    """By segment and measure, over the sites among these budgets."""
    rows = budgets.filter(site__isnull=False).order_by().values_list("segment", "measure")
    found = rows.annotate(sites=Count("pk"), gone=Count("pk", filter=Q(spent_ms__gt=F("allowed_ms"))))
    return {(segment, measure): Spread(sites, gone) for segment, measure, sites, gone in found}


def worst_of(budgets: QuerySet[Budget]) -> dict[tuple[int, str], list[Budget]]:
    """By segment and measure, the sites among these budgets that lost anything and have least left, WORST each."""
    share = Cast(F("allowed_ms") - F("spent_ms"), FloatField()) / F("allowed_ms")
    place = Window(RowNumber(), partition_by=["segment", "measure"], order_by=[share.asc(), F("site").asc()])
    found: dict[tuple[int, str], list[Budget]] = {}
    for row in (
        budgets.filter(site__isnull=False, spent_ms__gt=0, allowed_ms__gt=0)
        .alias(place=place)
        .filter(place__lte=WORST)
        .order_by("place")
    ):
        found.setdefault((row.segment_id, row.measure), []).append(row)
    return found


def open_alerts(who: Scope) -> QuerySet[BurnAlert]:
    """Of those that the viewer may see, the ones that go on."""
    return alerts_in(who).filter(ended_at=None)


def at_risk(who: Scope, now: datetime) -> set[tuple[int, int, str, int | None]]:
    """Promises whose budget goes too fast or is used up: contract, provider, measure, and the site (None: of all)."""
    names = ("contract", "provider", "measure", "site")
    promised = Q(reach=Reach.POOLED, site=None) | (~Q(reach=Reach.POOLED) & Q(site__isnull=False))
    gone = present(budgets_in(who), now).filter(promised, spent_ms__gt=F("allowed_ms"))
    return {*open_alerts(who).order_by().values_list(*names), *gone.order_by().values_list(*names)}


def left_of(site_ids: Iterable[int], now: datetime) -> Left | None:
    """What is left of the availability budgets of some sites: the smallest share over their segments.

    Under a segment that promises for all sites together the whole segment's budget counts, else that of these sites,
    added up. None where no contract promises availability for any of them.
    """
    rows = present(Budget.objects.filter(measure=Measure.AVAILABILITY), now)
    own = list(
        rows.filter(site__in=list(site_ids))
        .order_by()
        .values_list("segment", "reach")
        .annotate(allowed=Sum("allowed_ms"), spent=Sum("spent_ms"))
    )
    if not own:
        return None
    whole = {
        segment: (allowed, spent, as_of)
        for segment, allowed, spent, as_of in rows.filter(
            site=None, segment__in=[segment for segment, *_ in own]
        ).values_list("segment", "allowed_ms", "spent_ms", "as_of")
    }
    oldest = min(as_of for *_, as_of in whole.values())
    if oldest < now - STALE:
        return Left(None, f"was last worked out at {oldest:%Y-%m-%d %H:%M} UTC; is a worker running?")
    return Left(
        lowest(
            whole[segment][:2] if reach == Reach.POOLED else (allowed, spent) for segment, reach, allowed, spent in own
        ),
        "",
    )


def budgeted_among(site_ids: Iterable[int], now: datetime) -> set[int]:
    """Of these sites, those of which a contract promises availability now."""
    rows = present(Budget.objects.filter(measure=Measure.AVAILABILITY, site__in=list(site_ids)), now)
    return {pk for pk in rows.values_list("site", flat=True) if pk is not None}


# ------------------------------------------------------------------------------------------------------------
class _Ahead:
    """How much of the calendar of the rest of the period each site will have under each segment."""

    def __init__(self, version: ContractVersion, now: datetime, end: datetime) -> None:
        self._places: dict[int, list[Covered]] = defaultdict(list)
        for place in covered(version, now, end):
            self._places[place.segment_id].append(place)
        self._known: dict[tuple[Terms, str, Span], int] = {}

    def of(self, segment: Segment, terms: Terms) -> dict[int, int]:
        found: dict[int, int] = defaultdict(int)
        for place in self._places.get(segment.pk, ()):
            key = (terms, place.zone, place.window)
            if key not in self._known:
                self._known[key] = _open_ms(*key)
            found[place.site_id] += self._known[key]
        return found


def _open_ms(terms: Terms, zone: str, window: Span) -> int:
    calendar = calendar_of(terms.hours, zone, (moment_of(window[0]), moment_of(window[1])))
    return length([window] if calendar is None else open_spans(calendar, window))


def _watched(
    terms: Terms, objective: Objective, inputs: Iterable[Inputs], ahead_ms: dict[int, int]
) -> Sequence[Watched]:
    rules = terms.rules(objective)
    found: dict[int, Watched] = {}
    for one in inputs:
        began = max(one.window[0], one.history.begins[0]) if one.history.begins else one.window[1]
        watched = found.setdefault(one.site_id, Watched(one.site_id, began))
        watched.pieces += pieces_of(one, objective.measure, rules)
        is_active = bool(one.history.ends) and one.history.ends[-1] is None
        watched.ahead_ms = ahead_ms.get(one.site_id, 0) if is_active else 0
    return list(found.values())
