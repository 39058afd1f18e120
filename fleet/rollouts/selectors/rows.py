"""The rows that a tick looks at: what is due, what may begin, what goes back, what is to be frozen or thawed.

See engine/asks.py for what each list is. Which steps are looked at is found in their own table; each look is a step
with what is known of its site, in one statement that is kept planned; whether sites run the exact standard is asked
of fleet.standards for those looks alone.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, LiteralString

from django.db import connections
from msgspec.structs import replace

from fleet.kit.prepared import prepared
from fleet.kit.tenancy import DEFAULT
from fleet.rollouts.engine.asks import MAX_ROWS, Asks
from fleet.rollouts.engine.facts import (
    PROGRESS_OF_AGENT,
    Head,
    Look,
    Origin,
    Progress,
    Rows,
    Site,
    Step,
    Taken,
)
from fleet.rollouts.models import OPEN_STEPS
from fleet.rollouts.selectors.failures import failure_of
from fleet.rollouts.states import AT_WORK, ENDED_STEPS, Failure, RolloutState, StepState, Wait
from fleet.standards.selectors.judgement import conforming
from sites.services.delivery import PASSING

MOST_DUE: Final = 10 * MAX_ROWS
_FROZEN_BY_OTHERS: Final = timedelta(minutes=1)
_OPEN: Final = [str(state) for state in OPEN_STEPS]
_OVER: Final = [str(state) for state in (StepState.SKIPPED, StepState.SUPERSEDED, StepState.ROLLED_BACK)]
_GOES_ON: Final = ["running", "paused", "succeeded", "partially_succeeded"]

_LOOK = """
SELECT st.id, st.site_id, st.wave, st.provider_id, st.region, st.state, st.since, st.due_at, st.begun_at,
    st.waits_since, st.wait, st.failure, st.reason, st.lease, st.tries, st.lane, st.slot, st.frozen, st.undoing,
    st.escalated, st.origin, st.origin_components, st.boot_before,
    d.epoch, d.version, d.issued_at, d.sent_at, d.expires_at,
    s.provider_id, s.region, s.time_zone,
    s.life = 'active' AND e.reachability = 'reachable' AND NOT COALESCE(t.recovering, false) AS reachable,
    e.last_good_at, e.availability, COALESCE(e.component_set_id, ''), e.boot, e.busy_until,
    COALESCE(t.reported_epoch, 0), COALESCE(t.reported_version, 0), COALESCE(t.reported_state, ''),
    COALESCE(t.reported_detail, ''),
    CASE WHEN n.refused <> '' OR t.answer = 'refused' AND t.answer_reason <> ALL(%(passing)s) THEN n.epoch END,
    n.version, CASE WHEN n.refused <> '' THEN n.refused ELSE concat_ws(': ', t.answer_reason, t.answer_detail) END,
    COALESCE(n.hold, false) AND n.id IS DISTINCT FROM st.document_id AS is_frozen,
    COALESCE(o.newer, false), COALESCE(o.open, false)
FROM rollouts_sitestep st
JOIN rollouts_rollout r ON r.id = st.rollout_id
JOIN edge_sites_site s ON s.id = st.site_id
JOIN edge_sites_sitestate e ON e.site_id = st.site_id
LEFT JOIN edge_sites_sitedesired t ON t.site_id = st.site_id
LEFT JOIN edge_sites_desireddocument d ON d.id = st.document_id
LEFT JOIN edge_sites_desireddocument n ON n.id = t.document_id
LEFT JOIN LATERAL (
    SELECT bool_or(q.started_at > r.started_at AND q.state = ANY(%(goes_on)s) AND x.state <> ALL(%(over)s)) AS newer,
        bool_or(x.state = ANY(%(open)s)) AS open
    FROM rollouts_sitestep x JOIN rollouts_rollout q ON q.id = x.rollout_id
    WHERE x.site_id = st.site_id AND x.rollout_id <> st.rollout_id AND q.started_at IS NOT NULL
) o ON true
WHERE st.id = ANY(%(ids)s)
"""

# Steps that are verified are looked at on every tick: proof may lie in the time of a report alone.
_DUE = """
SELECT id, wave FROM (
    (SELECT id, wave FROM rollouts_sitestep
    WHERE rollout_id = %(rollout)s AND due_at <= %(now)s AND state <> 'queued'
        AND (state <> ALL(%(ended)s) OR (%(watched)s AND (state = 'proven' OR state = 'failed')))
    ORDER BY due_at LIMIT %(limit)s)
    UNION
    SELECT id, wave FROM rollouts_sitestep
    WHERE rollout_id = %(rollout)s AND slot AND state IN ('verifying', 'rolling_back')
) x ORDER BY wave, id
"""
_QUEUED = """
SELECT id FROM rollouts_sitestep
WHERE rollout_id = %(rollout)s AND wave = ANY(%(waves)s) AND lane = %(lane)s AND state = 'queued'
    AND (due_at IS NULL OR due_at <= %(now)s)
    AND provider_id <> ALL(%(full_providers)s) AND region <> ALL(%(full_regions)s)
ORDER BY wave, id LIMIT %(limit)s
"""
_UNDO = """
SELECT id FROM rollouts_sitestep
WHERE rollout_id = %(rollout)s AND wave = ANY(%(waves)s) AND state = ANY(%(states)s)
ORDER BY slot DESC, wave DESC, id LIMIT %(limit)s
"""
_TURN = """
SELECT id FROM rollouts_sitestep
WHERE rollout_id = %(rollout)s AND slot AND frozen <> %(frozen)s AND state = ANY(%(states)s)
ORDER BY id LIMIT %(limit)s
"""
# The plan that is kept looks each step up by itself: above so many, one that is made for them costs less.
_FEW: Final = 1000

_HAVE_KERNEL = """
SELECT t.site_id FROM edge_sites_sitestate t JOIN edge_sites_componentset c ON c.digest = t.component_set_id
WHERE t.site_id = ANY(%s) AND EXISTS (
    SELECT 1 FROM jsonb_array_elements(c.components) x JOIN standards_standard n ON n.id = %s
    WHERE x ->> 0 = 'kernel' AND x ->> 2 = n.content -> 'os' ->> 'kernel')
"""


def rows(head: Head, asks: Asks, *, standard_id: int, now: datetime) -> Rows:
    """What the tick at `now` asks for. The scope must be wide."""
    common: dict[str, Any] = {"rollout": head.rollout.id, "now": now}
    candidates = {
        "waves": list(asks.waves),
        "full_providers": sorted(asks.full_providers),
        "full_regions": sorted(asks.full_regions),
    }
    watched = head.rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED)
    due = common | {"ended": sorted(ENDED_STEPS), "watched": watched, "limit": MOST_DUE}
    undo = common | {"waves": list(asks.undo_waves), "states": list(asks.undo_states), "limit": asks.undo}
    turn = common | {
        "frozen": bool(asks.frozen),
        "states": [str(state) for state in (*AT_WORK, StepState.IN_DOUBT)],
        "limit": MAX_ROWS,
    }
    found = {
        "due": _looks(_DUE, due, now),
        "queued": _looks(_QUEUED, common | candidates | {"lane": False, "limit": asks.queued}, now, asks.queued > 0),
        "lane": _looks(_QUEUED, common | candidates | {"lane": True, "limit": asks.lane}, now, asks.lane > 0),
        "undo": _looks(_UNDO, undo, now, asks.undo > 0),
        "turn": _looks(_TURN, turn, now, asks.frozen is not None),
    }
    proven = _with_proof(found, standard_id)
    return Rows(**(_with_kernels(proven, standard_id) if head.plan.reboots else proven))


def _looks(which: LiteralString, parameters: Mapping[str, Any], now: datetime, is_asked: bool = True) -> list[Look]:
    if not is_asked:
        return []
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(which, parameters)
        ids = [row[0] for row in cursor.fetchall()]
    if not ids:
        return []
    its = {"ids": ids, "passing": sorted(PASSING), "goes_on": _GOES_ON, "over": _OVER, "open": _OPEN}
    found = {row[0]: _look(row, now) for row in (prepared(_LOOK, its) if len(ids) <= _FEW else _rows(_LOOK, its))}
    return [found[pk] for pk in ids if pk in found]


def _rows(query: LiteralString, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())


def _look(row: Sequence[Any], now: datetime) -> Look:
    return Look(_step(row[:28]), _site(row[1], row[28:], now))


def _step(row: Sequence[Any]) -> Step:
    document = None if row[23] is None else (row[23], row[24])
    return Step(
        id=row[0],
        site=row[1],
        wave=row[2],
        provider=row[3],
        region=row[4],
        state=StepState(row[5]),
        since=row[6],
        due_at=row[7],
        begun_at=row[8],
        waits_since=row[9],
        wait=Wait(row[10]) if row[10] else None,
        failure=Failure(row[11]) if row[11] else None,
        reason=row[12],
        lease=row[13],
        tries=row[14],
        lane=row[15],
        slot=row[16],
        frozen=row[17],
        undoing=row[18],
        escalated=row[19],
        origin=Origin(row[20]),
        origin_components=row[21],
        boot_before=row[22],
        document=document,
        given_at=row[25],
        sent=row[26] is not None,
        expires_at=row[27],
    )


def _site(site_id: int, row: Sequence[Any], now: datetime) -> Site:
    (provider, region, zone, reachable, last_good, availability, components, boot, busy_until) = row[:9]
    (epoch, version, state, detail, refused_epoch, refused_version, refused_detail, is_frozen, newer, is_open) = row[9:]
    if is_frozen:  # by somebody else: what it is told now would only wait there
        busy_until = max(busy_until or now, now + _FROZEN_BY_OTHERS)
    progress = PROGRESS_OF_AGENT.get(state, Progress.NONE)
    refused = (0, 0) if refused_epoch is None else (refused_epoch, refused_version)
    return Site(
        id=site_id,
        provider=provider,
        region=region,
        zone=zone,
        reachable=reachable,
        dark_since=None if reachable else last_good,
        report_at=last_good,
        up=availability == "up",
        components=components,
        boot=boot,
        document=(epoch, version),
        progress=progress,
        failure=failure_of(detail) if progress is Progress.FAILED else None,
        detail=refused_detail if refused != (0, 0) else detail,
        refused=refused,
        busy_until=busy_until,
        taken=Taken.NEWER if newer else Taken.LOCKED if is_open else Taken.FREE,
    )


def _with_proof(found: Mapping[str, Sequence[Look]], standard_id: int) -> dict[str, list[Look]]:
    """Each site is held against the rollout's standard, where its step rests on that."""
    asked = {look.site.id for name in ("due", "undo", "turn") for look in found[name] if look.site.reachable}
    proven = conforming(standard_id=standard_id, site_ids=sorted(asked))
    return {
        name: [Look(look.step, replace(look.site, conforms=True)) if look.site.id in proven else look for look in looks]
        for name, looks in found.items()
    }


def _with_kernels(found: Mapping[str, Sequence[Look]], standard_id: int) -> dict[str, Sequence[Look]]:
    """Of sites that may be claimed: whether they have the kernel already, so that no boot is to be proven."""
    candidates = sorted({look.site.id for name in ("queued", "lane") for look in found[name]})
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_HAVE_KERNEL, [candidates, standard_id])
        have = {pk for (pk,) in cursor.fetchall()}
    return {
        name: [Look(look.step, replace(look.site, has_kernel=True)) if look.site.id in have else look for look in looks]
        for name, looks in found.items()
    }
