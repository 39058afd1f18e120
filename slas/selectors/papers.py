"""What a report says, read from facts as known at a moment. The scope must be open."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction

from fleet.kit.tenancy import Scope
from slas.crediting import credit_of, part_of
from slas.engine import Figures
from slas.measuring import Inputs, Result, SiteFigures, decided, measure, without_each
from slas.models import Contract, Segment
from slas.reporting.counted import Cap
from slas.reporting.paper import Decided, Head, Lost, Paper, Place, Promise, Upkeep, Without, worst_first
from slas.selectors.contracts import version_as_of
from slas.selectors.counted import delays_of, restored_of, synced_of
from slas.selectors.figures import Told, told_of
from slas.selectors.incidents import NOT_KNOWN, spans_in, why_of
from slas.selectors.upkeep import windows_in
from slas.settlement import Burden


def paper_of(
    who: Scope,
    contract: Contract,
    begin: datetime,
    end: datetime,
    as_of: datetime,
    *,
    decisions: Sequence[Decided] = (),
    **head: str,
) -> Paper:
    """A contract over `[begin, end)` as known at `as_of`, as far as the viewer sees it; `head` are period, revision
    and key. Raises NotFound where nothing was agreed then."""
    version = version_as_of(contract, as_of)
    until = max(begin, min(end, as_of))
    segments = {one.pk: one for one in version.segments.all()}
    promises: list[Promise] = []
    places: list[Place] = []
    sites: dict[int, str] = {}
    caps: dict[int, Cap] = {}
    for told in told_of(version, segments.values(), begin, until, as_of):
        part = part_of(told.segment.begins, told.segment.ends, begin, end)
        if not part:
            continue
        inputs = list(told.inputs)
        result = _settled(measure(told.segment.pk, told.terms, told.objective, inputs), told.segment, decisions)
        promises.append(_promise(result, told.segment, part, without_each(told.terms, told.objective, result, inputs)))
        places += [_place(one, told) for one in result.sites]
        sites |= {one.site_id: one.slug for one in result.sites}
        caps.setdefault(told.segment.pk, _cap(told, inputs))
    providers = {segment.provider_id for segment in segments.values()}
    synced, offered = synced_of(contract, segments, begin, end, as_of)
    latencies, delays = delays_of(contract, segments, begin, end, as_of)
    said = (head.get("revision", ""), version.number, head.get("key", ""))
    return Paper(
        Head(contract.name, head.get("period", ""), begin, until, version.zone, as_of, *said),
        promises,
        sorted(places, key=worst_first),
        _lost(who, sites, providers, begin, until, as_of),
        _upkeep(who, sites, providers, begin, until, as_of),
        restored_of(contract, segments, begin, end, as_of),
        tuple(decisions),
        tuple(synced),
        tuple(offered),
        tuple(latencies),
        tuple(delays),
        tuple(one for one in caps.values() if one.honoured_ms or one.excess_ms),
    )


# ------------------------------------------------------------------------------------------------------------
def _settled(result: Result, segment: Segment, decisions: Sequence[Decided]) -> Result:
    """By the newest decision on the objective, where there is one; they are in order of time."""
    own = [
        one
        for one in decisions
        if one.provider == segment.provider.name and one.measure == str(result.objective.measure)
    ]
    return decided(result, own[-1].figure) if own and result.objective.burden is Burden.OPEN else result


def _promise(result: Result, segment: Segment, part: Fraction, bare: Sequence[tuple[str, int, Figures]]) -> Promise:
    objective = result.objective
    return Promise(
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
        tuple(Without(*one) for one in bare),
    )


def _place(one: SiteFigures, told: Told) -> Place:
    return Place(
        told.segment.provider.name,
        str(told.objective.measure),
        one.slug,
        one.name,
        one.totals,
        one.shares,
        _text(one.settled.verdict),
    )


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


def _cap(told: Told, inputs: Sequence[Inputs]) -> Cap:
    upkeep = told.terms.upkeep
    over = [one.service(one.excess) for one in inputs]
    kept = sum(one.service(one.maintenance) for one in inputs)
    name = told.segment.provider.name
    return Cap(name, upkeep.cap_h, upkeep.cap_per, kept, sum(over), sum(1 for ms in over if ms))


def _text(verdict: object) -> str | None:
    return None if verdict is None else str(verdict)
