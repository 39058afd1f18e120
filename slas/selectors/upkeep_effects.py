"""What a maintenance window would mean for each contract: its notice, and how much of its cap it uses; in the scope."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F

from fleet.kit.tenancy import Scope
from slas.calendars import open_spans
from slas.models import Segment, WindowSite
from slas.selectors.contracts import Covered, contracts_in, covered, terms_of, version_as_of
from slas.spans import Span, Spans, length, meet
from slas.states import WindowState
from slas.terms import Terms, calendar_of
from slas.upkeep import Asked, cap_periods, honoured, moment_of, ms


@dataclass(frozen=True, slots=True)
class Effect:
    """For the sites of one contract: hours of notice that it wants and gets; milliseconds by the cap, of the site that
    has the least left. `excess_ms` would count as any other time; `cap_h` is None where there is no cap."""

    contract: str
    sites: int
    counts: str
    notice_h: float
    given_h: float
    cap_h: float | None
    cap_per: str
    used_ms: int
    excess_ms: int

    @property
    def is_short(self) -> bool:
        """Whether it is asked for too late to count by itself."""
        return self.given_h < self.notice_h


def effects_of(
    who: Scope,
    *,
    provider_id: int,
    sites: Sequence[int],
    span: tuple[datetime, datetime],
    asked_at: datetime,
    but: int | None = None,
) -> list[Effect]:
    """One for each contract and segment that covers any of the sites then. `but` is the window itself, once kept."""
    found = []
    for contract in contracts_in(who):
        version = version_as_of(contract)
        segments = [one for one in version.segments.all() if one.provider_id == provider_id and one.touches(*span)]
        if not segments:
            continue
        places: dict[int, dict[int, Covered]] = defaultdict(dict)
        for place in covered(version, *span, site_ids=sites):
            places[place.segment_id][place.site_id] = place
        for segment in segments:
            if places[segment.pk]:
                found.append(_effect(contract.name, version.zone, segment, places[segment.pk], span, asked_at, but))
    return found


def _effect(
    name: str,
    zone: str,
    segment: Segment,
    places: dict[int, Covered],
    span: tuple[datetime, datetime],
    asked_at: datetime,
    but: int | None,
) -> Effect:
    terms = terms_of(segment)
    upkeep = terms.upkeep
    used = excess = 0
    if upkeep.cap_h is not None:
        caps = cap_periods(upkeep, zone, *span)
        begin = ms(span[0])
        fresh = Asked(begin, ms(span[1]), begin - ms_of(upkeep.notice_h), begin, True)
        kept = _kept(list(places), caps, but)
        seen: dict[tuple[Any, ...], tuple[int, int]] = {}
        for site, place in places.items():
            key = (place.zone, *kept.get(site, ()))
            if key not in seen:
                seen[key] = _cap_of(terms, place.zone, kept.get(site, []), fresh, caps)
            used, excess = max(used, seen[key][0]), max(excess, seen[key][1])
    return Effect(
        contract=name,
        sites=len(places),
        counts=upkeep.counts,
        notice_h=float(upkeep.notice_h),
        given_h=(span[0] - asked_at).total_seconds() / 3600,
        cap_h=None if upkeep.cap_h is None else float(upkeep.cap_h),
        cap_per=upkeep.cap_per,
        used_ms=used,
        excess_ms=excess,
    )


def ms_of(hours: Any) -> int:
    """Hours in milliseconds."""
    return int(hours * 3_600_000)


def _cap_of(terms: Terms, zone: str, kept: Sequence[Asked], fresh: Asked, caps: Spans) -> tuple[int, int]:
    """How much is used without the window, and how much of all would not count with it."""
    whole: Span = (caps[0][0], caps[-1][1])
    calendar = calendar_of(terms.hours, zone, (moment_of(whole[0]), moment_of(whole[1])))
    hours = None if calendar is None else open_spans(calendar, whole)
    before = length(honoured(kept, terms.upkeep, hours, caps))
    after = length(honoured([*kept, fresh], terms.upkeep, hours, caps))
    own = length([(fresh.begin, fresh.end)] if hours is None else meet([(fresh.begin, fresh.end)], hours))
    return before, max(0, own - (after - before))


def _kept(sites: Sequence[int], caps: Spans, but: int | None) -> dict[int, list[Asked]]:
    """Approved windows of the whole periods of the cap, by site."""
    rows = WindowSite.objects.filter(
        site__in=sites,
        window__state=WindowState.APPROVED,
        window__begins__lt=moment_of(caps[-1][1]),
        window__ends__gt=moment_of(caps[0][0]),
        provider=F("window__provider"),
    ).exclude(window=but)
    found: dict[int, list[Asked]] = defaultdict(list)
    for row in rows.select_related("window").order_by("window__begins"):
        one = row.window
        if one.decided_at is not None:
            begin, end, asked, agreed = (ms(at) for at in (one.begins, one.ends, one.requested_at, one.decided_at))
            found[row.site_id].append(Asked(begin, end, asked, agreed, bool(one.decided_reason)))
    return found
