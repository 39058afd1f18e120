"""The tick: finds rollouts with something to do, and does it. Level-triggered, bounded in time.

A rollout's row is locked while a tick works on it, and skipped by any other; a tick that dies leaves nothing half done,
for all of it is one transaction, and one that is stopped midway is ended by the database. What triggers noted as
changed at sites becomes due first.
"""

import logging
import time
from dataclasses import dataclass
from typing import Final

from django.db import connections

from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from fleet.rollouts.engine import asks, decide, wants_another
from fleet.rollouts.engine.asks import needs_ticks
from fleet.rollouts.engine.facts import Rows, Snapshot
from fleet.rollouts.models import Rollout
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.rows import rows
from fleet.rollouts.services.carrying import carry_out
from fleet.rollouts.states import ENDED_ROLLOUTS, ENDED_STEPS
from sites.services.claims import poll_within

logger = logging.getLogger(__name__)
ROLLOUTS: Final = job("rollouts")
_MOST_AT_ONCE: Final = 4
_IN_FLIGHT_S: Final = (0.3, 5.0)
_IN_FLIGHT_POLLS_PER_S: Final = 800
_IN_DOUBT_S: Final = 5.0
_NOTES: Final = 20_000

# One that is stopped in the middle (a machine that is paused, a link that is cut) holds its locks no longer than this:
# the database ends its session, others go on, and what it writes later touches nothing.
_AT_MOST = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
# Ended steps that a change of their site may still move are looked at while their rollout is open.
_NOTE_CHANGED = """
WITH taken AS (
    DELETE FROM rollouts_changedsite WHERE id IN (SELECT id FROM rollouts_changedsite ORDER BY id LIMIT %(limit)s)
    RETURNING site_id
), found AS (
    SELECT s.id FROM rollouts_sitestep s JOIN rollouts_rollout r ON r.id = s.rollout_id
    WHERE s.site_id IN (SELECT site_id FROM taken) AND r.is_live AND s.state <> 'queued'
        AND (s.state <> ALL(%(ended)s) OR r.state IN ('running', 'paused')
            AND (s.state = 'proven' OR s.state = 'failed' AND s.failure = 'lost'))
    ORDER BY s.id FOR UPDATE OF s
)
UPDATE rollouts_sitestep s SET due_at = now() FROM found
WHERE s.id = found.id AND (s.due_at IS NULL OR s.due_at > now())
"""
# What was looked at in vain, and has ended, is not due any more.
_FORGET = """
UPDATE rollouts_sitestep SET due_at = NULL WHERE id = ANY(%s) AND state = ANY(%s) AND due_at IS NOT NULL
"""
_IN_FLIGHT = """
SELECT site_id, state = 'in_doubt' FROM rollouts_sitestep
WHERE rollout_id = %s AND (slot OR state = 'in_doubt') AND state <> 'rollback_waiting'
"""
_LIVE = """
SELECT id FROM rollouts_rollout WHERE is_live ORDER BY watched_at NULLS FIRST, id
"""


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick came to: how many rollouts were worked on, and how many sites of theirs are in flight."""

    rollouts: int = 0
    in_flight: int = 0


def tick(*, budget_s: float = 5.0) -> Ticked:
    """One round over all rollouts with something to do, those first that were looked at longest ago.

    A rollout that fails is logged, and holds up no other. Opens its own scopes.
    """
    ends = time.monotonic() + budget_s
    note_changed()
    with scope(ROLLOUTS), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_LIVE)
        found = [pk for (pk,) in cursor.fetchall()]
    done = Ticked()
    for rollout_id in found:
        if time.monotonic() > ends:
            break
        try:
            one = tick_one(rollout_id)
        except Exception:  # whatever it is, it must not stop the other rollouts
            logger.exception("a tick of rollout %s failed", rollout_id)
        else:
            done = Ticked(done.rollouts + one.rollouts, done.in_flight + one.in_flight)
    return done


def note_changed() -> None:
    """Steps of sites of which something changed are due. Opens its own scope."""
    with scope(ROLLOUTS), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_NOTE_CHANGED, {"limit": _NOTES, "ended": sorted(ENDED_STEPS)})


def tick_one(rollout_id: int) -> Ticked:
    """Have one rollout do what it does next, in one transaction; nothing if another works on it.

    Opens its own scope.
    """
    with scope(ROLLOUTS):
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_AT_MOST)
        row = Rollout.objects.select_for_update(skip_locked=True).filter(pk=rollout_id, is_live=True)
        found = row.values_list("standard_id", flat=True).first()
        if found is None:
            return Ticked()
        now = database_now()
        for _ in range(_MOST_AT_ONCE):
            seen = head(rollout_id, now)
            looked = rows(seen, asks(seen, now), standard_id=found, now=now)
            said = decide(Snapshot(seen, looked), now)
            carry_out(seen, said, actor=ROLLOUTS, now=now)
            _forget(looked)
            if not wants_another(said):
                break
        _rest(rollout_id)
        return Ticked(1, _poll_often(rollout_id))


def _forget(looked: Rows) -> None:
    ids = [look.step.id for look in looked.due if look.step.state in ENDED_STEPS]
    if ids:
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_FORGET, [ids, sorted(ENDED_STEPS)])


def _rest(rollout_id: int) -> None:
    """A rollout that has ended, and of which nothing can still happen, is not looked at any more."""
    has_ended = Rollout.objects.filter(pk=rollout_id, state__in=[str(state) for state in ENDED_ROLLOUTS]).exists()
    if has_ended and not needs_ticks(head(rollout_id, database_now())):
        Rollout.objects.filter(pk=rollout_id).update(is_live=False)


def _poll_often(rollout_id: int) -> int:
    """Sites in flight are asked every third of a second, many together more seldom; those in doubt every five seconds.

    Returns how many are in flight.
    """
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_IN_FLIGHT, [rollout_id])
        found = cursor.fetchall()
    in_flight = [pk for pk, in_doubt in found if not in_doubt]
    least_s, most_s = _IN_FLIGHT_S
    poll_within(in_flight, min(most_s, max(least_s, len(in_flight) / _IN_FLIGHT_POLLS_PER_S)))
    poll_within([pk for pk, in_doubt in found if in_doubt], _IN_DOUBT_S)
    return len(in_flight)
