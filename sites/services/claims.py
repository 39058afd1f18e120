"""Which sites are polled next, and by which poller."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connections

from fleet.kit.tenancy import DEFAULT, job, scope
from sites.models import SHARDS

TICK = job("tick")
BATCH_SIZE = 500
CLAIM_LIMIT = 20_000

# One statement claims what is due and moves it on. A site keeps its phase; one that fell behind (nobody claimed for
# longer than its interval) gets a new random one, so that a restart does not poll the whole fleet in one second. Backed
# off it waits for half to all of its back-off, in whole intervals: sites that fell silent together would else all be
# asked in one interval out of four, and their return be noticed that late.
_CLAIM = """
UPDATE edge_sites_pollschedule s
SET due_at = s.next_poll_at,
    next_poll_at = CASE
        WHEN s.next_poll_at + make_interval(secs => s.interval_s * ceil(s.backoff / 2.0)) > now()
        THEN s.next_poll_at + make_interval(
            secs => s.interval_s * (ceil(s.backoff / 2.0) + floor(random() * (s.backoff / 2 + 1))))
        ELSE now() + make_interval(secs => s.interval_s * (0.5 + random() / 2)) END
WHERE s.ctid = ANY(ARRAY(
    SELECT ctid FROM edge_sites_pollschedule WHERE next_poll_at <= now()
    ORDER BY next_poll_at LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING s.site_id, s.shard, s.interval_s
"""

# Rows that somebody holds are being polled, or brought forward, already.
_POLL_WITHIN = """
UPDATE edge_sites_pollschedule p SET next_poll_at = now() + make_interval(secs => %(s)s * (0.5 + random() / 2))
FROM (
    SELECT site_id FROM edge_sites_pollschedule
    WHERE site_id = ANY(%(sites)s) AND next_poll_at > now() + make_interval(secs => %(s)s)
    ORDER BY site_id FOR UPDATE SKIP LOCKED
) AS found
WHERE p.site_id = found.site_id
"""


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """Sites for one poller; the message about them is worthless after `expires_s`."""

    poller: int
    site_ids: tuple[int, ...]
    expires_s: int


def claim(*, beat: bool) -> list[ClaimedBatch]:
    """Take the due sites of all shards, in one UPDATE that also says when they are due again.

    With `beat`, pollers that have nothing due get an empty batch, so that each minute has its proof of watching.
    """
    with scope(TICK), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_CLAIM, [CLAIM_LIMIT])
        rows = cursor.fetchall()
        cursor.execute("SELECT shard, poller FROM edge_sites_pollershard")
        poller_of = dict(cursor.fetchall())
    sites: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for site_id, shard, interval_s in rows:
        sites[poller_of.get(shard, 0)].append((site_id, interval_s))
    batches = [
        ClaimedBatch(poller, tuple(pk for pk, _ in part), max(2, min(interval_s for _, interval_s in part)))
        for poller, due in sites.items()
        for part in (due[start : start + BATCH_SIZE] for start in range(0, len(due), BATCH_SIZE))
    ]
    if beat:
        batches += [ClaimedBatch(poller, (), 20) for poller in sorted(set(poller_of.values()) - set(sites))]
    return batches


def poll_within(site_ids: Sequence[int], seconds: float) -> None:
    """Have these sites polled again within `seconds`, whatever their interval. Writes within the open scope."""
    if site_ids:
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_POLL_WITHIN, {"sites": list(site_ids), "s": seconds})


def map_pollers(count: int) -> None:
    """Spread the shards over pollers 0 to count - 1. Raises ValueError unless 1 <= count <= SHARDS."""
    if not 1 <= count <= SHARDS:
        raise ValueError(f"from 1 to {SHARDS} pollers")
    with scope(TICK), connections[DEFAULT].cursor() as cursor:
        cursor.execute("UPDATE edge_sites_pollershard SET poller = shard %% %s", [count])
