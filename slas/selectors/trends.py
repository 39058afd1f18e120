"""What each objective came to, month by month: of the newest revision of its report, else of the scorecard."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from fleet.kit.tenancy import Scope
from sites.models import Provider
from slas.models import Contract, ReportPart, ReportRevision
from slas.periods import month_of, month_text
from slas.rounding import percent_2
from slas.selectors.reports import MOST_MONTHS, reports_in
from slas.selectors.scorecards import cards_in
from slas.states import Measure

_FIGURES: Final = ("measured", "floor", "target")
# What is a share, so that it can be drawn beside the share that was promised; hours and milliseconds are in reports.
_DRAWN: Final = frozenset({Measure.AVAILABILITY, Measure.REACHABILITY, Measure.VERSION_SYNC})


class Point(NamedTuple):
    """An objective in a month, in per cent rounded down; `revision` 0: from the scorecard."""

    measured: Decimal | None
    floor: Decimal | None
    target: Decimal | None
    verdict: str | None
    revision: int


@dataclass(slots=True)
class Trend:
    """An objective of a provider under a contract, over the months that were asked for."""

    contract: Contract
    provider: Provider
    measure: str
    points: dict[str, Point] = field(default_factory=dict)


def months_until(now: datetime, count: int = MOST_MONTHS) -> list[str]:
    """The newest months, the oldest first."""
    this = month_of(now, "UTC")
    return [month_text(this - back) for back in reversed(range(count))]


def trends_in(who: Scope, months: Iterable[str], *, contract: str = "", provider: str = "") -> list[Trend]:
    """The objectives that have anything in these months: of a contract, of a provider, or all that the viewer sees.

    The scope must be open. Where a month has several segments of one provider, its last counts.
    """
    listed = list(months)
    found: dict[tuple[int, int, str], Trend] = {}

    def put(of: Any, row: Mapping[str, Any], point: Point, whose: Contract, month: str) -> None:
        key = (whose.pk, of.pk, row["measure"])
        found.setdefault(key, Trend(whose, of, row["measure"])).points[month] = point

    cards = cards_in(who, listed).filter(**_narrowed("contract__slug", contract, "provider__slug", provider))
    for card in cards:
        for row in (line for line in card.lines if line["measure"] in _DRAWN):
            put(card.provider, row, _of_card(row), card.contract, card.month)
    for part, revision, rows in _said(who, listed, contract, provider):
        for row in rows:
            report = revision.report
            put(part, row, _of_report(row, revision.number), report.contract, report.period)
    return sorted(found.values(), key=lambda one: (one.contract.name, one.provider.name, one.measure))


# ------------------------------------------------------------------------------------------------------------
def _said(who: Scope, months: list[str], contract: str, provider: str) -> Iterable[tuple[Any, ReportRevision, Any]]:
    """Provider, revision and promises of each part; nothing else of it is read, which may be thousands of sites."""
    reports = reports_in(who).filter(period__in=months, **_narrowed("contract__slug", contract)).exclude(state="")
    newest: dict[int, ReportRevision] = {}
    revisions = ReportRevision.objects.filter(report__in=reports.order_by().values("pk"))
    for revision in revisions.select_related("report__contract").order_by("number"):
        newest[revision.report_id] = revision
    by_id = {one.pk: one for one in newest.values()}
    parts = ReportPart.objects.filter(revision__in=by_id, **_narrowed("provider__slug", provider))
    rows = list(parts.values_list("revision", "provider", "data__promises", "data__synced"))
    providers = Provider.objects.in_bulk({owner for _, owner, *_ in rows})
    return [
        (providers[owner], by_id[revision], [*promises, *(synced or ())]) for revision, owner, promises, synced in rows
    ]


def _narrowed(*pairs: str) -> dict[str, str]:
    return {name: value for name, value in zip(pairs[::2], pairs[1::2], strict=True) if value}


def _of_card(row: Mapping[str, Any]) -> Point:
    measured, floor, target = (None if row[name] is None else Decimal(row[name]) for name in _FIGURES)
    if row["measure"] == Measure.VERSION_SYNC and row["floor_4"] is not None:
        measured = percent_2(Fraction(row["floor_4"]) / 100)
    return Point(measured, floor, target, row["verdict"], 0)


def _of_report(row: Mapping[str, Any], revision: int) -> Point:
    measures = row["shares"] if "shares" in row else {"measured": row["share"], "floor": None}
    shares = (measures["measured"], measures["floor"], row["target"])
    measured, floor, target = (percent_2(None if share is None else Fraction(share)) for share in shares)
    return Point(measured, floor, target, row["verdict"], revision)
