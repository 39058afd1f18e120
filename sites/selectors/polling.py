"""What pollers need of sites, and how far they are."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import psycopg
from django.db import connections

from fleet.kit.tenancy import DEFAULT, job, scope
from sites.addresses import Network, networks
from sites.agent_client import PollTarget
from sites.health import Health
from sites.models import PollerBeat
from sites.wire import Peer

POLL_SCOPE = job("poller")

_TARGETS = """
SELECT s.id, s.uuid, s.provider_id, s.address, s.tls_name, s.tls_pin, p.allowed_networks::text, c.due_at, c.backoff,
    t.version, t.availability,
    t.availability_since, t.reachability, t.reachability_since, t.shown, t.shown_since, t.candidate,
    t.candidate_count, t.candidate_since, t.misses, t.last_good_at, t.component_set_id, t.boot, t.reasons::text,
    t.last_error, t.busy_until, CASE WHEN c.gateway_until > now() THEN c.gateway ELSE '' END, t.desired
FROM edge_sites_site s
JOIN edge_sites_sitestate t ON t.site_id = s.id
JOIN edge_sites_pollschedule c ON c.site_id = s.id
JOIN edge_sites_provider p ON p.id = s.provider_id
WHERE s.id = ANY(%s::int[]) AND s.life = 'active'
"""
_DUE_AT = 7


def poll_targets(site_ids: Sequence[int]) -> list[PollTarget]:
    """What a poll needs of each site that is still active. Opens the poller's scope itself."""
    if not site_ids:
        return []
    # psycopg's own cursor, asked for binary rows, takes a third of the time that Django's takes for text.
    with scope(POLL_SCOPE), psycopg.Cursor(connections[DEFAULT].connection) as cursor:
        cursor.execute(_TARGETS, [list(site_ids)], binary=True)
        # Not asked of the planner: before the first claim its statistics say that no row is due, and it would begin
        # with the schedule of the whole fleet.
        return [_target(row) for row in cursor if row[_DUE_AT] is not None]


def _target(row: Sequence[Any]) -> PollTarget:
    return PollTarget(
        site_id=row[0],
        uuid=row[1],
        provider_id=row[2],
        peer=Peer(row[3], row[4], row[5], row[26]),
        networks=networks_of(row[6]),
        due_at=row[7],
        backoff=row[8],
        version=row[9],
        health=Health(*row[10:21]),
        digest=row[21],
        boot=row[22],
        reasons=_reasons(row[23]),
        last_error=row[24],
        busy=row[25] is not None,
        desired=row[27],
    )


@lru_cache(maxsize=1024)
def networks_of(text: str) -> tuple[Network, ...]:
    """A provider's networks from their JSON."""
    return networks(json.loads(text))


@lru_cache(maxsize=4096)
def _reasons(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def beats(*, since: datetime) -> list[PollerBeat]:
    """Pollers' beats since then, oldest first."""
    return list(PollerBeat.objects.filter(minute__gte=since).order_by("minute", "poller"))


def poll_lag_s() -> float:
    """Seconds that the most overdue site has waited for its claim; 0 when none is due."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM now() - min(next_poll_at))::float8 FROM edge_sites_pollschedule")
        row = cursor.fetchone()
    return max(0.0, row[0] or 0.0) if row else 0.0
