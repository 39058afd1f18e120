"""Keeping scorecards: each contract's months, computed when a fact has changed, and said as of when.

Figures of everything take a second or two. So a page shows what was kept, and this pass computes what is due: a month
that was never computed, whose contract has a new version, whose facts changed (slas.services.deriving notes that), that
goes on, or in which a standard is not proven yet. Facts are recorded a little before they are noted: what changed
shortly before `as_of` is computed twice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.models import Max

from fleet.kit import live
from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.crediting import credit_of, part_of
from slas.engine import Verdict
from slas.measuring import Result, SiteFigures
from slas.models import Adjustment, Contract, ContractVersion, Finding, Scorecard, Segment
from slas.periods import begin_of, month_of, month_text
from slas.rounding import percent_2, percent_4
from slas.selectors.contracts import versions_of
from slas.selectors.counted import synced_of
from slas.selectors.figures import figures_of
from slas.services.counted_lines import counted_lines
from slas.services.site_versions import keep_site_versions

KEEPER: Final = job("scorecards")
MONTHS: Final = 13
MOST: Final = 6
WORST: Final = 5
OVERLAP: Final = timedelta(seconds=90)
# A month that goes on is computed this often while facts change, and while none do: time itself changes its figures.
CHANGING, QUIET = timedelta(minutes=5), timedelta(hours=1)
_LOCK: Final = 0x534C_4143


def keep_scorecards(most: int = MOST) -> int:
    """Compute what is due, the newest months first, at most so many; returns how many were. Opens its own scope.

    One pass at a time: while another works this returns 0.
    """
    with scope(KEEPER), connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        now = database_now()
        due = sorted(_due(now), key=lambda one: -one[1])[:most]
        for version, month in due:
            _keep(version, month, now)
    return len(due)


def _due(now: datetime) -> list[tuple[ContractVersion, int]]:
    corrected = _corrected_at()
    waiting = set(Scorecard.objects.filter(lines__contains=[{"waits": True}]).values_list("pk", flat=True))
    kept: dict[int, dict[str, list[Scorecard]]] = defaultdict(lambda: defaultdict(list))
    for row in Scorecard.objects.defer("lines"):
        kept[row.contract_id][row.month].append(row)
    found = []
    for contract in Contract.objects.all():
        version = versions_of(contract).first()
        if version is None:
            continue
        this = month_of(now, version.zone)
        for month in range(this, this - MONTHS, -1):
            begin, end = begin_of(month, version.zone), begin_of(month + 1, version.zone)
            wanted = {one.provider_id for one in version.segments.all() if one.touches(begin, end)}
            rows = kept[contract.pk][month_text(month)]
            if {row.provider_id for row in rows} != wanted or any(
                _is_due(row, version, corrected, now, waits=row.pk in waiting) for row in rows
            ):
                found.append((version, month))
    return found


def _corrected_at() -> datetime | None:
    """When anybody last corrected a cause, or granted a dispute."""
    found = Finding.objects.filter(is_correction=True).aggregate(at=Max("at"))["at"]
    granted = Adjustment.objects.aggregate(at=Max("recorded_at"))["at"]
    return max(filter(None, (found, granted)), default=None)


def _is_due(
    row: Scorecard, version: ContractVersion, corrected: datetime | None, now: datetime, *, waits: bool
) -> bool:
    if version.made_at > row.as_of or (row.as_of < row.ends <= now):
        return True
    is_changed = any(at is not None and at > row.as_of - OVERLAP for at in (row.due_at, corrected))
    if row.ends <= now:
        return is_changed or (waits and now - row.as_of >= QUIET)
    return now - row.as_of >= (CHANGING if is_changed else QUIET)


def _keep(version: ContractVersion, month: int, now: datetime) -> None:
    """Compute a month, and put it in the place of what was kept."""
    begin, end = begin_of(month, version.zone), begin_of(month + 1, version.zone)
    segments = {one.pk: one for one in version.segments.all() if one.touches(begin, end)}
    lines: dict[int, list[dict[str, Any]]] = {one.provider_id: [] for one in segments.values()}
    for result in figures_of(version.contract, begin, end, now).results:
        segment = segments.get(result.segment_id)
        if segment is not None:
            lines[segment.provider_id].append(line_of(result, segment, begin, end))
    providers = {one.provider.name: one.provider_id for one in segments.values()}
    every = {one.pk: one for one in version.segments.all()}
    text = month_text(month)
    old = Scorecard.objects.filter(contract=version.contract_id, month=text).select_related("provider")
    before = [(row.provider.name, line) for row in old for line in row.lines]
    stamp = f"{version.number} {now.astimezone(ZoneInfo(version.zone)):%Y-%m-%d}"  # days count once they are over
    versions = synced_of(version.contract, every, begin, end, now)
    if begin <= now < end:
        keep_site_versions(version.contract_id, versions[1], providers)
    told = counted_lines(version.contract, every, begin, end, now, versions=versions, before=before, stamp=stamp)
    for name, line in told:
        lines[providers[name]].append(line)
    Scorecard.objects.filter(contract=version.contract_id, month=text).exclude(provider__in=lines).delete()
    for provider, found in lines.items():
        Scorecard.objects.update_or_create(
            contract_id=version.contract_id,
            provider_id=provider,
            month=text,
            defaults={"begins": begin, "ends": end, "as_of": now, "lines": found},
        )
    live.publish(hints=[(("scorecards", 0), provider) for provider in lines])


def line_of(result: Result, segment: Segment, begin: datetime, end: datetime) -> dict[str, Any]:
    """An objective of a segment as a scorecard keeps it; percentages as text, `floor_4` exactly enough to sort by."""
    objective, part = result.objective, part_of(segment.begins, segment.ends, begin, end)
    verdicts = [site.settled.verdict for site in result.sites]
    credit = credit_of(result, fee=segment.fee, currency=segment.currency, part=part)
    return {
        "measure": str(objective.measure),
        "scope": str(objective.reach),
        "burden": str(objective.burden),
        "target": _text(percent_4(objective.target)),
        "from": max(segment.begins, begin).isoformat(),
        "to": (end if segment.ends is None else min(segment.ends, end)).isoformat(),
        "sites": len(result.sites),
        "met": verdicts.count(Verdict.MET),
        "missed": verdicts.count(Verdict.MISSED),
        "open": verdicts.count(Verdict.UNDETERMINED),
        **_shares(result),
        "verdict": str(result.verdict) if result.verdict else None,
        "credit": f"{credit:f}",
        "currency": segment.currency,
        "worst": [_site(one) for one in _worst(result.sites)],
    }


# ------------------------------------------------------------------------------------------------------------
def _shares(found: Result | SiteFigures) -> Mapping[str, Any]:
    shares, totals = found.shares, found.totals
    return {
        "measured": _text(percent_2(shares.measured)),
        "floor": _text(percent_2(shares.floor)),
        "ceiling": _text(percent_2(shares.ceiling)),
        "coverage": _text(percent_2(shares.coverage)),
        "floor_4": _text(percent_4(shares.floor)),
        "down_ms": totals.down_ms,
        "degraded_ms": totals.degraded_ms,
        "unknown_ms": totals.unknown_ms,
        "excluded_ms": totals.excluded_ms,
    }


def _text(number: Any) -> str | None:
    return None if number is None else f"{number:f}"


def _worst(sites: Sequence[SiteFigures]) -> list[SiteFigures]:
    """Those that lost anything, the worst first."""
    lost = [site for site in sites if site.shares.floor is not None and site.shares.floor < 1]
    return sorted(lost, key=lambda site: (site.shares.floor, site.name))[:WORST]


def _site(site: SiteFigures) -> dict[str, Any]:
    verdict = site.settled.verdict
    return {"slug": site.slug, "name": site.name, "verdict": str(verdict) if verdict else None, **_shares(site)}
