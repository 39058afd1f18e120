"""What a report says of versions and round trips, read from facts as known at a moment. The scope must be open.

Which standards were offered needs a scope that sees all of a rollout.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from slas.crediting import credit_by, part_of, share_by_count
from slas.models import Contract, Segment
from slas.reporting.counted import Delay, Latency, Offered, Synced
from slas.reporting.paper import Restored, by_rank
from slas.selectors import latency, restoration, version_sync
from slas.selectors.contracts import terms_of
from slas.settlement import Settled
from slas.spans import meet
from slas.synchronising import Row
from slas.terms import Objective
from slas.upkeep import moment_of


def synced_of(
    contract: Contract, segments: Mapping[int, Segment], begin: datetime, end: datetime, as_of: datetime
) -> tuple[list[Synced], list[Offered]]:
    """Version synchronisation over `[begin, end)`: what each segment promised, and every offer, the latest first."""
    synced: list[Synced] = []
    offered: list[Offered] = []
    for one in version_sync.version_sync_of(contract, begin, end, as_of):
        segment = segments[one.segment_id]
        part = part_of(segment.begins, segment.ends, begin, end)
        if part:
            includes_link = terms_of(segment).includes_link
            synced.append(_synced(one, segment, part, includes_link=includes_link))
            offered += [
                _offered(row, one.sites[row.site_id].slug, one.sites[row.site_id].name, segment, includes_link)
                for row in one.found.rows
            ]
    return synced, sorted(offered, key=lambda one: (*by_rank(one), one.standard))


def delays_of(
    contract: Contract, segments: Mapping[int, Segment], begin: datetime, end: datetime, as_of: datetime
) -> tuple[list[Latency], list[Delay]]:
    """Round trips over `[begin, end)`: what each segment promised, and every site, the slowest first."""
    found: list[Latency] = []
    delays: list[Delay] = []
    for one in latency.latency_of(contract, begin, end, as_of):
        segment = segments[one.segment_id]
        if not part_of(segment.begins, segment.ends, begin, end):
            continue
        objective, name = one.objective, segment.provider.name
        assert objective.percentile is not None
        assert objective.limit is not None
        found.append(
            Latency(
                provider=name,
                reach=str(objective.reach),
                percentile=objective.percentile,
                limit_ms=objective.limit,
                sites=len(one.sites),
                verdict=_text(one.verdict),
                **_trips(one.total, objective, one.days),
            )
        )
        for place, trips, days in one.sites:
            verdict = _text(latency.judged(objective, trips.at(objective)))
            delays.append(Delay(name, place.slug, place.name, verdict=verdict, **_trips(trips, objective, days)))
    return found, sorted(delays, key=by_rank)


def restored_of(
    contract: Contract, segments: Mapping[int, Segment], begin: datetime, end: datetime, as_of: datetime
) -> list[Restored]:
    """Restoration and response over `[begin, end)`: what each segment promised, and what came of it."""
    found = []
    for one in restoration.restoration_of(contract, begin, end, as_of):
        segment = segments[one.segment_id]
        part = part_of(segment.begins, segment.ends, begin, end)
        if part:
            name = f"{one.objective.measure} {one.objective.figure or ''}".strip()
            figures = (one.total.figure, one.objective.limit, one.total.count, _text(one.verdict))
            found.append(Restored(segment.provider.name, name, *figures, *_owed(one, segment, part)))
    return found


# ------------------------------------------------------------------------------------------------------------
def _owed(one: restoration.Restored, segment: Segment, part: Fraction) -> tuple[Any, ...]:
    """Target, credit, fee, part and currency where the promise is one of so many outages answered in time."""
    if one.objective.target is None:
        return ()
    sites = [Settled(found.verdict, found.figure) for _, found in one.sites]
    share = share_by_count(one.objective, Settled(one.verdict, one.total.figure), sites)
    credit = credit_by(share, one.objective, fee=segment.fee, currency=segment.currency, part=part)
    return one.objective.target, credit, segment.fee, part, segment.currency


def _synced(one: version_sync.Synced, segment: Segment, part: Fraction, *, includes_link: bool) -> Synced:
    objective, found = one.objective, one.found
    share = share_by_count(objective, Settled(found.verdict, found.share), found.sites.values())
    splits = [row.split for row in found.rows]
    assert objective.target is not None
    return Synced(
        provider=segment.provider.name,
        reach=str(objective.reach),
        target=objective.target,
        limit_h=objective.limit,
        includes_link=includes_link,
        sites=len({row.site_id for row in found.rows}),
        on_time=found.on_time,
        late=found.late,
        pending=found.pending,
        share=found.share,
        verdict=_text(found.verdict),
        charged_ms=tuple(found.charged),
        elapsed_ms=tuple(found.elapsed),
        freeze_ms=sum(each.freeze_ms for each in splits),
        operator_ms=sum(each.operator_ms for each in splits),
        network_ms=sum(each.network_ms for each in splits),
        provider_ms=sum(each.provider_ms for each in splits),
        credit=credit_by(share, objective, fee=segment.fee, currency=segment.currency, part=part),
        fee=segment.fee,
        part=part,
        currency=segment.currency,
    )


def _offered(row: Row, slug: str, name: str, segment: Segment, includes_link: bool) -> Offered:
    """With moments as it was counted from: a later proof is none, and of spans what lies between begin and end."""
    sync, split = row.sync, row.split
    until = sync.as_of if row.proven is None else max(row.proven, row.start)
    sent = sync.sent if sync.sent is not None and sync.sent <= until else None
    spans = [
        (moment_of(begin), moment_of(end), str(whose))
        for first, last, whose in sorted(sync.spans)
        for begin, end in meet([(first, last)], [(row.start, until)])
    ]
    return Offered(
        provider=segment.provider.name,
        slug=slug,
        name=name,
        standard=row.standard,
        published=moment_of(sync.published),
        eligible=moment_of(sync.eligible),
        sent=None if sent is None else moment_of(sent),
        proven=None if row.proven is None else moment_of(row.proven),
        until=moment_of(until),
        deadline_h=Decimal(row.deadline_h.numerator) / Decimal(row.deadline_h.denominator),
        includes_link=includes_link,
        spans=tuple(spans),
        outcome=str(split.verdict),
        freeze_ms=split.freeze_ms,
        operator_ms=split.operator_ms,
        network_ms=split.network_ms,
        provider_ms=split.provider_ms,
        elapsed_ms=split.elapsed_ms,
        charged_ms=split.charged_ms,
        site=row.site_id,
        **row.origin._asdict(),
    )


def _trips(found: latency.Trips, objective: Objective, days: int) -> dict[str, Any]:
    return {
        "figure": found.at(objective),
        "rtt_ms": found.rtt_ms,
        "polls": found.polls,
        "days": found.days,
        "missing": days - found.days,
        "seen_ms": found.seen_ms,
        "scheduled_ms": found.scheduled_ms,
    }


def _text(verdict: object) -> str | None:
    return None if verdict is None else str(verdict)
