"""The pass that finds when the centre itself could not watch. Level-triggered: what it finds twice is written once."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from django.conf import settings
from django.db import connections

from fleet.kit import audit
from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.blindness import Blind, Loss, mass_losses, silences
from slas.models import CentreBlind
from slas.states import Blindness

WATCH: Final = job("centre")
LOOK_BACK: Final = timedelta(days=2)
# Two processes must not both find the same.
_LOCK: Final = 0x534C_4342
# The newest beat from before is where the first silence begins.
_BEATS: Final = """
SELECT DISTINCT minute FROM edge_sites_pollerbeat
WHERE minute >= %(since)s OR minute = (SELECT max(minute) FROM edge_sites_pollerbeat WHERE minute < %(since)s)
ORDER BY minute
"""
_LOSSES: Final = """
SELECT site_id, provider_id, valid_from, valid_to FROM edge_sites_stateinterval
WHERE axis = 'reachability' AND state = 'unreachable' AND superseded_at IS NULL
    AND recorded_at >= %(since)s AND valid_from >= %(since)s
"""
_WATCHED: Final = """
SELECT count(*) FROM edge_sites_sitestate t JOIN edge_sites_pollschedule s ON s.site_id = t.site_id
WHERE t.reachability <> '' AND NOT (t.reachability = 'unreachable' AND t.reachability_since < %s)
"""
_NOTE: Final = """
INSERT INTO slas_dueincidents (site_id, provider_id, since)
SELECT site_id, provider_id, valid_from FROM slas_incidentspan
WHERE kind = 'unreachable' AND superseded_at IS NULL
    AND valid_from >= %s::timestamptz - interval '1 minute' AND valid_from < COALESCE(%s, 'infinity'::timestamptz)
"""


def find_blindness() -> int:
    """Write down times in which the centre was blind, and when they ended; returns how many rows that wrote.

    Sites whose link was lost meanwhile are looked at anew. Audited. Opens its own scope.
    """
    with scope(WATCH), connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        (is_alone,) = cursor.fetchone()
        if not is_alone:
            return 0
        now = database_now()
        since = now - LOOK_BACK
        cursor.execute(_BEATS, {"since": since})
        written = _keep(Blindness.BEATS, silences([minute for (minute,) in cursor.fetchall()], now), now)
        cursor.execute(_LOSSES, {"since": since})
        losses = [Loss(*row) for row in cursor.fetchall()]
        cursor.execute(_WATCHED, [since])
        (watched,) = cursor.fetchone()
        share = Fraction(settings.CENTRE_BLIND_PERCENT, 100)
        return written + _keep(Blindness.MASS_LOSS, mass_losses(losses, watched, share), now)


# ------------------------------------------------------------------------------------------------------------
def _keep(rule: Blindness, found: Iterable[Blind], now: datetime) -> int:
    """Add what is new, close what has ended. What touches a time that is on record is that one."""
    written = 0
    known = list(CentreBlind.objects.filter(rule=rule, valid_to=None)) + list(
        CentreBlind.objects.filter(rule=rule, valid_to__gte=now - 2 * LOOK_BACK)
    )
    for one in found:
        row = next((row for row in known if _touch(row, one)), None)
        if row is None:
            row = CentreBlind(rule=rule, valid_from=one.begin, valid_to=one.end, recorded_at=now)
            row.closed_at = None if one.end is None else now
            row.save(force_insert=True)
            known.append(row)
        elif row.valid_to is None and one.end is not None:
            row.valid_to, row.closed_at = max(one.end, row.valid_from), now
            row.save(update_fields=["valid_to", "closed_at"])
        else:
            continue
        written += 1
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_NOTE, [row.valid_from, row.valid_to])
        until = row.valid_to.isoformat() if row.valid_to else None
        audit.record(
            WATCH,
            "centre.blind",
            object_type="centre",
            object_id=row.pk,
            object_name=str(rule),
            provider_id=None,
            after={"from": row.valid_from.isoformat(), "to": until},
        )
    return written


def _touch(row: CentreBlind, one: Blind) -> bool:
    return (row.valid_to is None or one.begin <= row.valid_to) and (one.end is None or row.valid_from <= one.end)
