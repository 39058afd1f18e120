"""Many sites at once: what sites.services.sites does for one. The caller checks rights and writes the audit.

Raw SQL, since one statement a table is five times as fast as the same rows built in Python: 20,000 sites in seconds.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from sites.models import SHARDS, Acknowledgement, ComponentSpan, Outage, PollSchedule, Site, StateInterval
from sites.states import Life

BATCH = 2_000
FIRST_POLLS_A_SECOND = 200
SOON_S = 5.0

_TENURES = """
    INSERT INTO edge_sites_sitetenure (site_id, provider_id, valid_from, name, slug, place, time_zone)
    SELECT id, provider_id, %(now)s, name, slug, place, time_zone FROM edge_sites_site WHERE id = ANY(%(ids)s)
"""
_SCHEDULES = """
    INSERT INTO edge_sites_pollschedule (site_id, provider_id, shard, interval_s, backoff, next_poll_at)
    SELECT id, provider_id, id %% %(shards)s, poll_interval_s, 1,
        %(now)s + random() * least(poll_interval_s, %(spread_s)s) * interval '1 second'
    FROM edge_sites_site WHERE id = ANY(%(ids)s)
"""
# A site that was retired kept its state; it starts anew.
_STATES = """
    INSERT INTO edge_sites_sitestate (
        site_id, provider_id, version, availability, availability_since, reachability, reachability_since, shown,
        shown_since, candidate, candidate_count, misses, compliance, changed_at, last_error, last_error_detail,
        reasons, workloads, boot, journal_head, busy_reason
    )
    SELECT id, provider_id, 0, 'unknown', %(now)s, '', %(now)s, 'unknown',
        %(now)s, '', 0, 0, 'unknown', %(now)s, '', '',
        '[]', '[]', '', '', ''
    FROM edge_sites_site WHERE id = ANY(%(ids)s)
    ON CONFLICT (site_id) DO UPDATE SET
        version = edge_sites_sitestate.version + 1, provider_id = EXCLUDED.provider_id,
        availability = EXCLUDED.availability, availability_since = EXCLUDED.availability_since,
        reachability = EXCLUDED.reachability, reachability_since = EXCLUDED.reachability_since,
        shown = EXCLUDED.shown, shown_since = EXCLUDED.shown_since, changed_at = EXCLUDED.changed_at,
        candidate = '', candidate_count = 0, candidate_since = NULL, misses = 0, last_good_at = NULL
"""
_INTERVALS = """
    INSERT INTO edge_sites_stateinterval (site_id, provider_id, axis, state, valid_from, source, evidence)
    SELECT id, provider_id, 'availability', 'unknown', %(now)s, 'inference', '{"life": "active"}'
    FROM edge_sites_site WHERE id = ANY(%(ids)s)
"""


def make_many(sites: Sequence[Site], *, now: datetime) -> list[Site]:
    """Save new sites with their tenures, and begin to poll those that are active. Call it under an open scope.

    The values must have been checked. Raises IntegrityError, and saves nothing, when a slug is taken.
    """
    made = Site.objects.bulk_create(sites, batch_size=BATCH)
    _execute([_TENURES], made, now)
    _begin_polling([site for site in made if site.life == Life.ACTIVE], now)
    return made


def begin_many(sites: Sequence[Site], *, now: datetime) -> None:
    """Make planned or retired sites active: polled from now on, their state unknown until then."""
    Site.objects.filter(pk__in=[site.pk for site in sites]).update(life=Life.ACTIVE, updated_at=now)
    _begin_polling(sites, now)


def retire_many(sites: Sequence[Site], *, now: datetime, evidence: dict[str, Any]) -> None:
    """End the life of active sites: no longer polled, open facts closed with `evidence`, history kept."""
    ids = [site.pk for site in sites]
    Site.objects.filter(pk__in=ids).update(life=Life.RETIRED, updated_at=now)
    PollSchedule.objects.filter(site__in=ids).delete()
    for facts in (StateInterval.objects, Outage.objects, ComponentSpan.objects):
        facts.filter(site__in=ids, valid_to=None, superseded_at=None).update(
            valid_to=now, closed_at=now, evidence_end=evidence
        )
    Acknowledgement.objects.filter(site__in=ids, cleared_at=None).update(cleared_at=now)


def _begin_polling(sites: Sequence[Site], now: datetime) -> None:
    """A few sites are polled soon; many are spread over their whole interval from the start."""
    _execute([_SCHEDULES, _STATES, _INTERVALS], sites, now, spread_s=max(SOON_S, len(sites) / FIRST_POLLS_A_SECOND))


def _execute(statements: Sequence[str], sites: Sequence[Site], now: datetime, **values: float) -> None:
    parameters: dict[str, Any] = {"ids": [site.pk for site in sites], "now": now, "shards": SHARDS, **values}
    with connections[DEFAULT].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement, parameters)
