"""What every tick reads of a rollout: its row and waves, counters over its steps, holds, approvals, calendars.

The counters are counted, not kept: by an index that holds all that they need.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

import msgspec
from django.db import connections

from fleet.kit.tenancy import DEFAULT
from fleet.rollouts.engine.facts import Approval as Said
from fleet.rollouts.engine.facts import CountKey, Flight, Head, RolloutRow, WaveRow
from fleet.rollouts.engine.facts import Hold as Held
from fleet.rollouts.gates import Measure, MetricLimit, SlaBudget
from fleet.rollouts.models import Approval, Hold, ProviderCalendar, Rollout, Wave
from fleet.rollouts.plan import Plan, plan_hash, read_plan
from fleet.rollouts.states import (
    ACTIVE_WAVE,
    Failure,
    LaneState,
    Pause,
    RolloutState,
    StepState,
    WaveState,
)
from fleet.rollouts.windows import Calendar
from slas.selectors.budgets import left_of

METRICS = ("cpu_ratio", "mem_ratio", "disk_ratio", "temp_celsius", "rtt_ms")

_COUNTS = """
SELECT wave, lane, state, failure, count(*) FROM rollouts_sitestep WHERE rollout_id = %s GROUP BY 1, 2, 3, 4
"""
_SLOTS = """
SELECT rollout_id = %s, lane, provider_id, region, count(*) FROM rollouts_sitestep WHERE slot GROUP BY 1, 2, 3, 4
"""
_STARTED = """
SELECT count(*) FILTER (WHERE NOT lane), count(*) FILTER (WHERE lane) FROM rollouts_attempt
WHERE rollout_id = %s AND kind = 'apply' AND given_at > %s - interval '60 s' AND given_at <= %s
"""
# Of the sites of a wave that were changed.
_METRICS = """
SELECT avg(e.cpu_ratio), avg(e.mem_ratio), avg(e.disk_ratio), avg(e.temp_celsius), avg(e.rtt_ms)::float
FROM rollouts_sitestep s JOIN edge_sites_sitestate e ON e.site_id = s.site_id
WHERE s.rollout_id = %s AND s.wave = %s AND NOT s.lane AND s.state IN ('soaking', 'proven')
    AND e.reachability = 'reachable'
"""


def head(rollout_id: int, now: datetime) -> Head:
    """The head of a rollout as its tables are now. The scope must be wide."""
    row = Rollout.objects.defer("plan").get(pk=rollout_id)
    plan, its_hash = _plan_of(rollout_id, row.plan_hash)
    waves = [_wave_row(wave) for wave in Wave.objects.filter(rollout=rollout_id).order_by("index")]
    return Head(
        rollout=rollout_row(row),
        plan=plan,
        plan_hash=its_hash,
        waves=waves,
        counts=_counts(rollout_id, len(waves)),
        flight=_flight(rollout_id, now),
        approvals=[_said(one) for one in Approval.objects.filter(rollout=rollout_id).order_by("pk")],
        holds=[_held(one) for one in Hold.objects.filter(lifted_at=None, until__gt=now).order_by("pk")],
        calendars={
            one.provider_id: msgspec.convert(one.calendar, Calendar) for one in ProviderCalendar.objects.order_by("pk")
        },
        metrics=_metrics(rollout_id, plan, waves),
        budget_left=_budget_left(plan, waves, now),
    )


@lru_cache(maxsize=64)
def _plan_of(rollout_id: int, expected: str) -> tuple[Plan, str]:
    """The plan, and the hash of what was read. `expected` is the cache's key: a plan with that hash never changes."""
    plan = read_plan(Rollout.objects.values_list("plan", flat=True).get(pk=rollout_id))
    return plan, plan_hash(plan)


def rollout_row(row: Rollout) -> RolloutRow:
    """The engine's row of a model's."""
    return RolloutRow(
        id=row.pk,
        state=RolloutState(row.state),
        since=row.since,
        pause=Pause(row.pause) if row.pause else None,
        reason=row.reason,
        until=row.until,
        approved_hash=row.approved_hash,
        lane=LaneState(row.lane),
        watched_at=row.watched_at,
        watching_since=row.watching_since,
    )


def _wave_row(row: Wave) -> WaveRow:
    return WaveRow(
        index=row.index,
        state=WaveState(row.state),
        since=row.since,
        opened_at=row.opened_at,
        reason=row.reason,
        undoing=row.undoing,
        answer=row.answer,
    )


def _counts(rollout_id: int, waves: int) -> dict[int, dict[CountKey, int]]:
    found: dict[int, dict[CountKey, int]] = {index: {} for index in range(waves)}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_COUNTS, [rollout_id])
        for wave, lane, state, failure, count in cursor.fetchall():
            found[wave][lane, StepState(state), Failure(failure) if failure else None] = count
    return found


def _flight(rollout_id: int, now: datetime) -> Flight:
    own = {False: 0, True: 0}
    providers: Counter[int] = Counter()
    regions: Counter[str] = Counter()
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_SLOTS, [rollout_id])
        for is_own, lane, provider, region, count in cursor.fetchall():
            own[lane] += count if is_own else 0
            providers[provider] += count
            regions[region] += count
        cursor.execute(_STARTED, [rollout_id, now, now])
        started, lane_started = cursor.fetchone()
    return Flight(
        wave=own[False],
        lane=own[True],
        by_provider=providers,
        by_region=regions,
        started=started,
        lane_started=lane_started,
    )


def _said(row: Approval) -> Said:
    return Said(
        person=row.user_id, plan_hash=row.plan_hash, yes=row.yes, provider=row.provider_id, expires_at=row.expires_at
    )


def _held(row: Hold) -> Held:
    return Held(
        id=row.pk,
        reason=row.reason,
        until=row.until,
        provider=row.provider_id,
        region=row.region or None,
        site=row.site_id,
        overridden_by=frozenset(row.overridden_by),
    )


def _metrics(rollout_id: int, plan: Plan, waves: Sequence[WaveRow]) -> dict[str, Measure]:
    """Means over the sites of the present wave that were changed; nothing where no gate asks for them."""
    active = next((wave for wave in waves if wave.state in ACTIVE_WAVE), None)
    if active is None or not any(isinstance(gate, MetricLimit) for gate in plan.waves[active.index].gates):
        return {}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_METRICS, [rollout_id, active.index])
        return {name: Measure(value) for name, value in zip(METRICS, cursor.fetchone(), strict=True)}


def _budget_left(plan: Plan, waves: Sequence[WaveRow], now: datetime) -> Measure | None:
    """What is left of the availability budgets of the sites of the present wave, as a share; None where no gate asks
    for it, or no contract promises availability for any of them."""
    active = next((wave for wave in waves if wave.state in ACTIVE_WAVE), None)
    if active is None or not any(isinstance(gate, SlaBudget) for gate in plan.waves[active.index].gates):
        return None
    left = left_of(plan.waves[active.index].sites, now)
    if left is None:
        return None
    return Measure(None if left.share is None else float(left.share), left.problem)
