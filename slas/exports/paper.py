"""What the files of a report say, as plain rows: read once, laid out by each kind of file. The scope must be open.

Shares stay exact here; PDF, XLSX and CSV round down at two places, JSON half to even at four.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from fleet.kit.tenancy import Scope
from slas.crediting import credit_of, part_of
from slas.engine import Figures, Totals
from slas.models import Contract, Segment
from slas.selectors.figures import figures_of
from slas.selectors.incidents import NOT_KNOWN, spans_in, why_of
from slas.selectors.restoration import restoration_of
from slas.selectors.upkeep import windows_in


@dataclass(frozen=True, slots=True)
class Head:
    """Which report it is. `key` is the SHA-256 of the key that signs its bundle; empty where none does."""

    contract: str
    period: str
    begin: datetime
    end: datetime
    zone: str
    as_of: datetime
    revision: str
    version: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Promise:
    """An objective under a segment: what was promised, found and settled; `credit` in `currency`."""

    provider: str
    measure: str
    reach: str
    burden: str
    target: Fraction
    totals: Totals
    shares: Figures
    verdict: str | None
    sites: int
    credit: Decimal
    fee: Decimal
    part: Fraction
    currency: str


@dataclass(frozen=True, slots=True)
class Place:
    """A site under an objective."""

    provider: str
    measure: str
    slug: str
    name: str
    totals: Totals
    shares: Figures
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """An outage; `end` is None while it lasts."""

    number: int
    provider: str
    slug: str
    kind: str
    begin: datetime
    end: datetime | None
    lasted_ms: int
    cause: str
    charged_to: str
    is_corrected: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Upkeep:
    """A maintenance window."""

    provider: str
    title: str
    sites: int
    begin: datetime
    end: datetime
    state: str
    asked_by: str
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """An objective of restoration or response; `figure` and `limit` in its own unit."""

    provider: str
    measure: str
    figure: Fraction | None
    limit: Decimal | None
    count: int
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Paper:
    """All of a report."""

    head: Head
    promises: Sequence[Promise]
    places: Sequence[Place]
    lost: Sequence[Lost]
    upkeep: Sequence[Upkeep]
    restored: Sequence[Restored]


def paper_of(who: Scope, contract: Contract, begin: datetime, end: datetime, as_of: datetime, **head: str) -> Paper:
    """A contract over `[begin, end)` as known at `as_of`, as far as the viewer sees it; `head` are period, revision
    and key. Raises NotFound where nothing was agreed then."""
    report = figures_of(contract, begin, end, as_of)
    version, until = report.version, report.end
    segments = {one.pk: one for one in version.segments.all()}
    promises: list[Promise] = []
    places: list[Place] = []
    for result in report.results:
        segment, objective = segments[result.segment_id], result.objective
        part = part_of(segment.begins, segment.ends, begin, end)
        if not part:
            continue
        promises.append(
            Promise(
                segment.provider.name,
                str(objective.measure),
                str(objective.reach),
                str(objective.burden),
                objective.target or Fraction(0),
                result.totals,
                result.shares,
                _text(result.verdict),
                len(result.sites),
                credit_of(result, fee=segment.fee, currency=segment.currency, part=part),
                segment.fee,
                part,
                segment.currency,
            )
        )
        places += [
            Place(
                segment.provider.name,
                str(objective.measure),
                one.slug,
                one.name,
                one.totals,
                one.shares,
                _text(one.settled.verdict),
            )
            for one in result.sites
        ]
    sites = {one.site_id: one.slug for result in report.results for one in result.sites}
    providers = {segment.provider_id for segment in segments.values()}
    return Paper(
        Head(
            contract.name,
            head.get("period", ""),
            begin,
            until,
            version.zone,
            as_of,
            head.get("revision", ""),
            version.number,
            head.get("key", ""),
        ),
        promises,
        sorted(places, key=lambda one: (one.measure, _worst(one.shares), one.slug)),
        _lost(who, sites, providers, begin, until, as_of),
        _upkeep(who, sites, providers, begin, until, as_of),
        _restored(contract, segments, begin, end, as_of),
    )


# ------------------------------------------------------------------------------------------------------------
def _lost(
    who: Scope, sites: dict[int, str], providers: set[int], begin: datetime, end: datetime, as_of: datetime
) -> list[Lost]:
    rows = spans_in(who).filter(site__in=sites, provider__in=providers, valid_from__lt=end, recorded_at__lte=as_of)
    spans = [one for one in rows if one.valid_to is None or one.valid_to > begin]
    why = why_of({one.incident_id for one in spans}, as_of)
    found = []
    for one in sorted(spans, key=lambda span: (span.valid_from, span.pk)):
        because = why.get((one.incident_id, one.provider_id), NOT_KNOWN)
        is_over = one.valid_to is not None and one.closed_at is not None and one.closed_at <= as_of
        last = one.valid_to if is_over and one.valid_to is not None else end
        lasted = min(last, end) - max(one.valid_from, begin)
        found.append(
            Lost(
                one.incident_id,
                one.provider.name,
                sites[one.site_id],
                one.kind,
                one.valid_from,
                one.valid_to if is_over else None,
                round(lasted.total_seconds() * 1000),
                str(because.cause),
                str(because.charged_to),
                because.is_correction,
                because.reason,
            )
        )
    return found


def _upkeep(
    who: Scope, sites: Iterable[int], providers: set[int], begin: datetime, end: datetime, as_of: datetime
) -> list[Upkeep]:
    rows = windows_in(who).filter(
        sites__site__in=list(sites), provider__in=providers, begins__lt=end, ends__gt=begin, requested_at__lte=as_of
    )
    return [
        Upkeep(
            one.provider.name,
            one.title,
            len(one.sites.all()),
            one.begins,
            one.ends,
            one.state,
            one.requested_name,
            one.decided_name,
            one.decided_reason,
        )
        for one in rows.distinct().order_by("begins", "id")
    ]


def _restored(
    contract: Contract, segments: dict[int, Segment], begin: datetime, end: datetime, as_of: datetime
) -> list[Restored]:
    return [
        Restored(
            segments[one.segment_id].provider.name,
            f"{one.objective.measure} {one.objective.figure or ''}".strip(),
            one.total.figure,
            one.objective.limit,
            one.total.count,
            _text(one.verdict),
        )
        for one in restoration_of(contract, begin, end, as_of)
    ]


def _worst(shares: Figures) -> Fraction:
    """Sites of which nothing was to be measured stand last."""
    return Fraction(2) if shares.floor is None else shares.floor


def _text(verdict: object) -> str | None:
    return None if verdict is None else str(verdict)
