"""What a report says of versions and round trips, read from facts as known at a moment. The scope must be open.

Which standards were offered needs a scope that sees all of a rollout.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from slas.crediting import credit_by, part_of, share_by_count
from slas.models import Contract, Segment
from slas.reporting.counted import Delay, Latency, Offered, Synced
from slas.reporting.paper import by_rank
from slas.selectors import latency, version_sync
from slas.selectors.contracts import terms_of
from slas.settlement import Settled
from slas.spans import meet
from slas.synchronising import Row
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
        total, objective = one.total, one.objective
        assert objective.percentile is not None
        assert objective.limit is not None
        known = (total.days, one.days - total.days, total.seen_ms, total.scheduled_ms)
        figure = (total.at(objective), total.rtt_ms, total.polls)
        limit = (objective.percentile, objective.limit)
        name, reach = segment.provider.name, str(objective.reach)
        found.append(Latency(name, reach, *limit, len(one.sites), *figure, *known, _text(one.verdict)))
        for place, trips, days in one.sites:
            verdict = _text(latency.judged(objective, trips.at(objective)))
            known = (trips.days, days - trips.days, trips.seen_ms, trips.scheduled_ms)
            figure = (trips.at(objective), trips.rtt_ms, trips.polls)
            delays.append(Delay(name, place.slug, place.name, *figure, *known, verdict))
    return found, sorted(delays, key=by_rank)


# ------------------------------------------------------------------------------------------------------------
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
        **row.origin._asdict(),
    )


def _text(verdict: object) -> str | None:
    return None if verdict is None else str(verdict)
