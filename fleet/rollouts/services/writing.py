"""Statements that write what the engine says, each for many rows at once and under its guard; within the open scope."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from fleet.rollouts import states
from fleet.rollouts.engine.actions import LookAtAll, MoveSteps
from fleet.rollouts.engine.facts import RolloutRow, Step, WaveRow
from fleet.rollouts.models import Rollout, Wave

_WORDS_MOST = 600

# Columns that the engine writes, with their types. Its document and its origin are written when it is given out.
_COLUMNS = {
    "state": "text",
    "since": "timestamptz",
    "due_at": "timestamptz",
    "begun_at": "timestamptz",
    "waits_since": "timestamptz",
    "wait": "text",
    "failure": "text",
    "reason": "text",
    "lease": "int",
    "tries": "int",
    "lane": "bool",
    "slot": "bool",
    "frozen": "bool",
    "undoing": "bool",
    "escalated": "bool",
    "boot_before": "text",
}
_UPDATE_STEPS = f"""
UPDATE rollouts_sitestep s SET {", ".join(f"{name} = v.{name}" for name in _COLUMNS)},
    document_id = CASE WHEN v.has_document THEN s.document_id END
FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::bool[],
    {", ".join(f"%s::{kind}[]" for kind in _COLUMNS.values())})
    AS v(id, was_state, was_lease, has_document, {", ".join(_COLUMNS)})
WHERE s.id = v.id AND s.state = v.was_state AND s.lease = v.was_lease
RETURNING s.id
"""  # noqa: S608  (constants)

_END_ATTEMPTS = """
UPDATE rollouts_attempt a SET state = v.state, ended_at = CASE WHEN v.state <> 'accepted' THEN %s END
FROM unnest(%s::bigint[], %s::text[]) AS v(step_id, state)
WHERE a.step_id = v.step_id AND a.state IN ('given_out', 'accepted') AND a.state <> v.state
RETURNING a.document_id, a.state
"""

_MOVE_STEPS = """
UPDATE rollouts_sitestep SET state = %(target)s, since = %(now)s, reason = %(reason)s, due_at = %(due_at)s,
    slot = false, failure = '', wait = '', tries = 0, undoing = false, frozen = false,
    lane = lane AND %(target)s <> 'queued'
WHERE rollout_id = %(rollout)s AND state = %(state)s AND (%(wave)s::int IS NULL OR wave = %(wave)s)
    AND (%(lane)s::bool IS NULL OR lane = %(lane)s)
"""
_LOOK_AT_ALL = """
UPDATE rollouts_sitestep SET due_at = %(now)s
WHERE rollout_id = %(rollout)s AND state = ANY(%(states)s) AND (%(wave)s::int IS NULL OR wave = %(wave)s)
"""
# Another rollout has a step open there, which holds the site's lock that the caller has taken.
_TAKEN = """
SELECT site_id FROM rollouts_sitestep WHERE site_id = ANY(%s) AND rollout_id <> %s AND state = ANY(%s)
"""


def update_steps(changes: Sequence[tuple[Step, Step]]) -> set[int]:
    """Turn each step's row from the first into the second; ids of those that still had the first's state and lease."""
    if not changes:
        return set()
    values: list[list[Any]] = [
        [before.id for before, _ in changes],
        [str(before.state) for before, _ in changes],
        [before.lease for before, _ in changes],
        [after.document is not None for _, after in changes],
    ]
    values += [
        [_text(getattr(after, name)) if kind == "text" else getattr(after, name) for _, after in changes]
        for name, kind in _COLUMNS.items()
    ]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_UPDATE_STEPS, values)
        return {pk for (pk,) in cursor.fetchall()}


def _text(value: str | None) -> str:
    """Enums as text, none of them as empty text; reasons as long as their column."""
    return str(value or "")[:_WORDS_MOST]


def end_attempts(ends: Mapping[int, states.AttemptState], now: datetime) -> list[int]:
    """Move the open attempt of each of these steps; ids of the documents of those that came to nothing."""
    if not ends:
        return []
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_END_ATTEMPTS, [now, list(ends), [str(state) for state in ends.values()]])
        nothing = (states.AttemptState.FAILED, states.AttemptState.EXPIRED, states.AttemptState.REPLACED)
        return [document for document, state in cursor.fetchall() if state in nothing]


def move_steps(rollout_id: int, action: MoveSteps, now: datetime) -> int:
    """Move all steps that the action speaks of, in one UPDATE; how many there were."""
    parameters: dict[str, Any] = {
        "rollout": rollout_id,
        "target": str(action.target),
        "state": str(action.state),
        "wave": action.wave,
        "lane": action.lane,
        "reason": action.reason[:_WORDS_MOST],
        "due_at": action.due_at,
        "now": now,
    }
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_MOVE_STEPS, parameters)
        return int(cursor.rowcount)


def look_at_all(rollout_id: int, action: LookAtAll, now: datetime) -> None:
    """Have all steps that the action speaks of be due."""
    listed = [str(state) for state in action.states]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_LOOK_AT_ALL, {"rollout": rollout_id, "states": listed, "wave": action.wave, "now": now})


def taken_elsewhere(rollout_id: int, site_ids: Sequence[int], open_states: Sequence[str]) -> set[int]:
    """Which of these sites another rollout has a step open at. Lock them first."""
    if not site_ids:
        return set()
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_TAKEN, [list(site_ids), rollout_id, list(open_states)])
        return {pk for (pk,) in cursor.fetchall()}


def write_wave(rollout_id: int, before: WaveRow, after: WaveRow) -> None:
    """Turn a wave's row from the first into the second, if it still is the first."""
    Wave.objects.filter(rollout=rollout_id, index=before.index, state=before.state).update(
        state=after.state,
        since=after.since,
        opened_at=after.opened_at,
        reason=after.reason,
        undoing=after.undoing,
        answer=after.answer,
    )


def write_rollout(before: RolloutRow, after: RolloutRow, *, is_live: bool, started_at: datetime | None) -> None:
    """Turn a rollout's row from the first into the second, if it still is the first. `started_at`: if it starts now."""
    values: dict[str, Any] = {
        "state": after.state,
        "since": after.since,
        "pause": after.pause or "",
        "reason": after.reason,
        "until": after.until,
        "approved_hash": after.approved_hash,
        "lane": after.lane,
        "watched_at": after.watched_at,
        "watching_since": after.watching_since,
        "is_live": is_live,
    }
    if started_at is not None:
        values["started_at"] = started_at
    Rollout.objects.filter(pk=before.id, state=before.state).update(**values)
