"""The pass that works out error budgets, and says when one begins and ends to go too fast. Level-triggered."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from django.db import connections

from fleet.kit import live
from fleet.kit.clock import database_now
from fleet.kit.errors import NotFound
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.budgets import Burn
from slas.models import Budget, BurnAlert, Contract
from slas.selectors.budgets import Watch, budgets_of
from slas.services.events import note_burns
from slas.states import Told

BUDGETS: Final = job("budgets")
_LOCK: Final = 0x534C_4255
_Key = tuple[int, int, str, int | None, int]

# A site's row is written when it says something else than before: most sites of most passes lost nothing.
_KEEP: Final = """
INSERT INTO slas_budget (contract_id, segment_id, provider_id, site_id, measure, reach, begins, ends, allowed_ms,
    spent_ms, as_of)
SELECT %(contract)s, %(segment)s, %(provider)s, v.site_id, %(measure)s, %(reach)s, %(begins)s, %(ends)s, v.allowed_ms,
    v.spent_ms, %(now)s
FROM unnest(%(sites)s::int[], %(allowed)s::bigint[], %(spent)s::bigint[]) AS v(site_id, allowed_ms, spent_ms)
ON CONFLICT (contract_id, segment_id, measure, site_id) DO UPDATE SET reach = excluded.reach, begins = excluded.begins,
    ends = excluded.ends, allowed_ms = excluded.allowed_ms, spent_ms = excluded.spent_ms, as_of = excluded.as_of
WHERE slas_budget.site_id IS NULL OR (slas_budget.reach, slas_budget.begins, slas_budget.ends, slas_budget.allowed_ms,
    slas_budget.spent_ms) IS DISTINCT FROM (excluded.reach, excluded.begins, excluded.ends, excluded.allowed_ms,
    excluded.spent_ms)
"""
# What is no longer promised, or no longer for this site, is no budget of it.
_FORGET: Final = """
DELETE FROM slas_budget WHERE segment_id = %(segment)s AND measure = %(measure)s AND site_id IS NOT NULL
    AND NOT site_id = ANY(%(sites)s::int[])
"""


def work_out_budgets() -> int:
    """Keep the budgets of every contract, and its alerts; returns how many alerts are open. Opens its own scope.

    One pass at a time: while another works this returns 0.
    """
    with scope(BUDGETS), connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        (is_alone,) = cursor.fetchone()
        if not is_alone:
            return 0
        now = database_now()
        firing: dict[_Key, tuple[Watch, Burn]] = {}
        kept: set[tuple[int, str]] = set()
        for contract in Contract.objects.order_by("pk"):
            for watch in _watches(contract, now):
                _keep(contract, watch, now)
                kept.add((watch.segment.pk, watch.objective.measure))
                firing |= dict(_firing(contract, watch, now))
        known = set(Budget.objects.filter(site=None).values_list("segment", "measure"))
        for segment, measure in known - kept:
            Budget.objects.filter(segment=segment, measure=measure).delete()
        _tell(firing, now)
        return len(firing)


# ------------------------------------------------------------------------------------------------------------
def _watches(contract: Contract, now: datetime) -> Iterable[Watch]:
    try:
        return list(budgets_of(contract, now))
    except NotFound:  # nothing was agreed yet
        return []


def _keep(contract: Contract, watch: Watch, now: datetime) -> None:
    sites = [row.site_id for row in watch.rows]
    params: dict[str, Any] = {
        "contract": contract.pk,
        "segment": watch.segment.pk,
        "provider": watch.segment.provider_id,
        "measure": str(watch.objective.measure),
        "reach": str(watch.objective.reach),
        "begins": watch.period[0],
        "ends": watch.period[1],
        "now": now,
        "sites": sites,
        "allowed": [int(row.budget.allowed_ms // 1) for row in watch.rows],
        "spent": [row.budget.spent_ms for row in watch.rows],
    }
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_KEEP, params)
        cursor.execute(_FORGET, params | {"sites": [pk for pk in sites if pk is not None]})


def _firing(contract: Contract, watch: Watch, now: datetime) -> Iterator[tuple[_Key, tuple[Watch, Burn]]]:
    if not (watch.segment.begins <= now and (watch.segment.ends is None or now < watch.segment.ends)):
        return
    for row in watch.rows:
        for pair, burn in enumerate(row.burns):
            if burn.fires:
                key = (contract.pk, watch.segment.provider_id, str(watch.objective.measure), row.site_id, pair)
                yield key, (watch, burn)


def _tell(firing: dict[_Key, tuple[Watch, Burn]], now: datetime) -> None:
    """Begin alerts that are new, end those that are over."""
    open_ones = list(BurnAlert.objects.filter(ended_at=None).select_related("contract", "site"))
    known: dict[_Key, int] = {
        (one.contract_id, one.provider_id, one.measure, one.site_id, one.pair): one.pk for one in open_ones
    }
    over = [pk for key, pk in known.items() if key not in firing]
    BurnAlert.objects.filter(pk__in=over).update(ended_at=now)
    fresh = [_alert(key, *firing[key], now) for key in firing if key not in known]
    BurnAlert.objects.bulk_create(fresh, batch_size=1000)
    note_burns(Told.BUDGET_CALM, [one for one in open_ones if one.pk in set(over)], now)
    begun = BurnAlert.objects.filter(pk__in=[one.pk for one in fresh]).select_related("contract", "site")
    note_burns(Told.BUDGET_BURNS, begun, now)
    changed = {key for key in known if key not in firing} | {key for key in firing if key not in known}
    if changed:
        told = {(site, provider) for _, provider, _, site, _ in changed}
        sites = [(("site", site), provider) for site, provider in told if site is not None]
        live.publish(hints=[*sites, *((("attention", 0), provider) for provider in {whose for _, whose in told})])


def _alert(key: _Key, watch: Watch, burn: Burn, now: datetime) -> BurnAlert:
    contract, provider, measure, site, pair = key
    assert burn.short is not None  # it fires
    assert burn.long is not None
    return BurnAlert(
        contract_id=contract,
        segment=watch.segment,
        provider_id=provider,
        site_id=site,
        measure=measure,
        pair=pair,
        short_ms=burn.pair.short_ms,
        long_ms=burn.pair.long_ms,
        threshold=float(burn.pair.threshold),
        rate_short=float(burn.short),
        rate_long=float(burn.long),
        began_at=now,
    )
