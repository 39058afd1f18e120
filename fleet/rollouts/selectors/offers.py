"""Which standards were offered to sites, and whose the time until the proof was: the plug for contracts.

A standard is offered by a rollout that has started, or by a document that somebody gives out by hand. The scope must be
open; nothing that happened after `as_of` is told.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from slas.offers import Offer, Origin
from slas.version_sync import Owner

_Key = tuple[int, int]  # a site and a standard

# Documents that bring a site back, or have it stand still, offer nothing.
_DOCUMENTS: Final = """
SELECT d.id, d.site_id, t.id AS standard_id, d.made_at, d.sent_at
FROM edge_sites_desireddocument d JOIN standards_standard t ON t.id::text = d.content -> 'standard' ->> 'id'
LEFT JOIN rollouts_attempt a ON a.document_id = d.id
WHERE d.site_id = ANY(%(sites)s) AND NOT d.hold AND d.made_at <= %(as_of)s AND (a.kind IS NULL OR a.kind = 'apply')
"""
# The exact set, once it stood after the offer; or what the rollout took for proof.
_OFFERS: Final = f"""
WITH documents AS MATERIALIZED ({_DOCUMENTS}),
steps AS MATERIALIZED (
    SELECT s.id, s.rollout_id, s.site_id, r.standard_id, r.started_at FROM rollouts_sitestep s
    JOIN rollouts_rollout r ON r.id = s.rollout_id
    WHERE s.site_id = ANY(%(sites)s) AND r.started_at <= %(as_of)s
),
offered AS MATERIALIZED (
    SELECT site_id, standard_id, min(at) AS at FROM (
        SELECT site_id, standard_id, started_at AS at FROM steps
        UNION ALL SELECT site_id, standard_id, made_at FROM documents
    ) x GROUP BY 1, 2
),
newest AS (
    SELECT site_id, standard_id, (array_agg(id ORDER BY started_at DESC, id DESC))[1] AS step FROM steps GROUP BY 1, 2
),
sent AS (
    SELECT site_id, standard_id, min(sent_at) AS at, (array_agg(id ORDER BY sent_at, id))[1] AS document
    FROM documents WHERE sent_at <= %(as_of)s GROUP BY 1, 2
),
signed AS (
    SELECT d.site_id, d.standard_id, (array_agg(r.id ORDER BY r.received_at, r.id))[1] AS receipt
    FROM documents d JOIN edge_sites_desiredreceipt r ON r.document_id = d.id
    WHERE r.received_at <= %(as_of)s AND r.state = 'applied' GROUP BY 1, 2
),
kept AS (
    SELECT s.site_id, s.standard_id, min(e.at) AS at FROM steps s JOIN rollouts_rolloutevent e ON e.step_id = s.id
    JOIN edge_sites_site i ON i.id = s.site_id
    WHERE e.at <= %(as_of)s AND (e.wait = 'offline' AND e.state = 'catch_up' OR e.wait = 'held' AND EXISTS (
        SELECT 1 FROM rollouts_hold h WHERE h.by_provider AND h.made_at <= e.at AND h.until > e.at
            AND (h.lifted_at IS NULL OR h.lifted_at > e.at) AND (h.site_id IS NULL OR h.site_id = s.site_id)
            AND (h.provider_id IS NULL OR h.provider_id = i.provider_id) AND (h.region = '' OR h.region = i.region)))
    GROUP BY 1, 2
),
settled AS (
    SELECT s.site_id, s.standard_id, min(e.at) AS at, (array_agg(e.id ORDER BY e.at, e.id))[1] AS event,
        (array_agg(s.id ORDER BY e.at, e.id))[1] AS step
    FROM steps s JOIN rollouts_rolloutevent e ON e.step_id = s.id
    WHERE e.event = 'settle' AND e.at <= %(as_of)s GROUP BY 1, 2
),
ran AS (
    SELECT o.site_id, o.standard_id, min(c.valid_from) AS at,
        (array_agg(c.id ORDER BY c.valid_from, c.id))[1] AS components
    FROM offered o
    JOIN standards_standard t ON t.id = o.standard_id
    JOIN edge_sites_site i ON i.id = o.site_id
    JOIN edge_sites_componentspan c ON c.site_id = o.site_id AND c.recorded_at <= %(as_of)s
        AND (c.superseded_at IS NULL OR c.superseded_at > %(as_of)s) AND (c.valid_to IS NULL OR c.valid_to > o.at)
    JOIN standards_componentverdict v ON v.standard_id = o.standard_id AND v.component_set_id = c.component_set_id
        AND v.verdict = 'conform'
        AND v.architecture = CASE WHEN t.by_architecture THEN COALESCE(i.labels ->> 'arch', '') ELSE '' END
    GROUP BY 1, 2
)
SELECT o.site_id, o.standard_id, t.name, t.deadline_h, t.published_at, o.at, LEAST(sent.at, kept.at),
    LEAST(settled.at, ran.at), i.rollout_id, i.id, sent.document, signed.receipt,
    CASE WHEN settled.at <= ran.at OR ran.at IS NULL THEN settled.event END,
    CASE WHEN ran.at < settled.at OR settled.at IS NULL THEN ran.components END
FROM offered o JOIN standards_standard t ON t.id = o.standard_id AND t.published_at IS NOT NULL
LEFT JOIN sent USING (site_id, standard_id) LEFT JOIN kept USING (site_id, standard_id)
LEFT JOIN settled USING (site_id, standard_id) LEFT JOIN ran USING (site_id, standard_id)
LEFT JOIN newest USING (site_id, standard_id) LEFT JOIN signed USING (site_id, standard_id)
LEFT JOIN steps i ON i.id = COALESCE(settled.step, newest.step)
ORDER BY 1, o.at
"""  # noqa: S608  (constants)

# Whose time it is while a rollout stands still, or has given up: the operator's, until another one begins at the site.
# So it is while a step waits for what the operator decides on, or was taken back; a lease is for so many hours at most.
_OURS: Final = """
WITH steps AS MATERIALIZED (
    SELECT s.id, s.site_id, s.rollout_id, r.standard_id,
        LEAD(r.started_at) OVER (PARTITION BY s.site_id, r.standard_id ORDER BY r.started_at) AS until
    FROM rollouts_sitestep s JOIN rollouts_rollout r ON r.id = s.rollout_id
    WHERE s.site_id = ANY(%(sites)s) AND r.started_at <= %(as_of)s
),
rollouts AS MATERIALIZED (
    SELECT e.rollout_id, e.state, e.at,
        LEAD(e.at, 1, %(as_of)s) OVER (PARTITION BY e.rollout_id ORDER BY e.id) AS until
    FROM rollouts_rolloutevent e
    WHERE e.thing = 'rollout' AND e.at <= %(as_of)s AND e.rollout_id IN (SELECT rollout_id FROM steps)
),
moves AS MATERIALIZED (
    SELECT s.site_id, s.standard_id, s.until AS next, e.state, e.wait, e.at,
        LEAD(e.at, 1, %(as_of)s) OVER (PARTITION BY e.step_id ORDER BY e.id) AS until
    FROM steps s JOIN rollouts_rolloutevent e ON e.step_id = s.id AND e.at <= %(as_of)s
)
SELECT s.site_id, s.standard_id, x.at, LEAST(x.until, s.until) FROM steps s JOIN rollouts x USING (rollout_id)
WHERE x.state IN ('paused', 'aborting', 'aborted', 'failed', 'rolling_back', 'rolled_back', 'rollback_failed')
UNION ALL
SELECT site_id, standard_id, at,
    LEAST(until, next, CASE WHEN wait = 'busy' THEN at + make_interval(hours => %(lease_h)s) END) FROM moves
WHERE wait IN ('busy', 'window', 'over_budget') AND state IN ('deferred', 'catch_up')
    OR state IN ('skipped', 'superseded', 'rolling_back', 'rollback_waiting', 'rolled_back', 'rollback_failed')
UNION ALL
SELECT DISTINCT s.site_id, s.standard_id, h.made_at, LEAST(h.until, h.lifted_at, %(as_of)s)
FROM steps s JOIN edge_sites_site i ON i.id = s.site_id
JOIN rollouts_hold h ON NOT h.by_provider AND h.made_at <= %(as_of)s AND (h.site_id IS NULL OR h.site_id = s.site_id)
    AND (h.provider_id IS NULL OR h.provider_id = i.provider_id) AND (h.region = '' OR h.region = i.region)
"""
LEASE_H: Final = 72


def offers_of(site_ids: Sequence[int], as_of: datetime) -> list[Offer]:
    """Every standard that was offered to these sites until a moment, by site and when; as known then."""
    params = {"sites": list(site_ids), "as_of": as_of, "lease_h": LEASE_H}
    ours: dict[_Key, list[tuple[int, int, Owner]]] = defaultdict(list)
    for site, standard, begin, end in _rows(_OURS, params):
        if begin < end:
            ours[site, standard].append((_ms(begin), _ms(end), Owner.OPERATOR))
    return [
        Offer(
            site,
            name,
            deadline_h,
            _ms(published),
            _ms(offered),
            None if sent is None else _ms(sent),
            None if proven is None else _ms(proven),
            tuple(sorted(ours.get((site, standard), ()))),
            Origin(*origin),
        )
        for site, standard, name, deadline_h, published, offered, sent, proven, *origin in _rows(_OFFERS, params)
    ]


def _rows(query: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) // 1000
