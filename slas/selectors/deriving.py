"""What outages are derived from, for many sites at once; the scope must be open, and wide."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from slas.causes import Known
from slas.outages import Interval, Standing
from slas.states import Kind

Place = tuple[int, str]  # a site and an axis

# From where on an axis of a site must be looked at: from what is due, or from the begin of the outages that touch it.
_REACH: Final = """
WITH due AS (
    SELECT d.site_id, d.since, x.axis, x.kinds
    FROM unnest(%s::int[], %s::timestamptz[]) AS d(site_id, since)
    CROSS JOIN (VALUES ('availability', '{down,degraded}'::text[]), ('reachability', '{unreachable}'::text[]))
        AS x(axis, kinds)
),
reach AS MATERIALIZED (
    SELECT d.site_id, d.axis, d.kinds, LEAST(d.since, min(p.valid_from)) AS since
    FROM due d
    LEFT JOIN slas_incidentspan p ON p.site_id = d.site_id AND p.kind = ANY(d.kinds) AND p.superseded_at IS NULL
        AND (p.valid_to IS NULL OR p.valid_to >= d.since - interval '1 ms')
    GROUP BY d.site_id, d.axis, d.kinds, d.since
)
"""
_INTERVALS: Final = (
    _REACH
    + """
SELECT r.site_id, r.axis, i.valid_from, i.valid_to, i.state, i.provider_id, i.id, i.source, i.evidence, i.evidence_end
FROM reach r JOIN edge_sites_stateinterval i ON i.site_id = r.site_id AND i.axis = r.axis AND i.superseded_at IS NULL
    AND (i.valid_to IS NULL OR i.valid_to > r.since)
ORDER BY r.site_id, r.axis, i.valid_from, i.id
"""
)
_STANDING: Final = (
    _REACH
    + """
SELECT r.site_id, r.axis, p.id, p.incident_id, p.kind, p.provider_id, p.valid_from, p.valid_to
FROM reach r JOIN slas_incidentspan p ON p.site_id = r.site_id AND p.kind = ANY(r.kinds) AND p.superseded_at IS NULL
    AND (p.valid_to IS NULL OR p.valid_to > r.since)
ORDER BY r.site_id, r.axis, p.valid_from, p.id
"""
)

# What is known of an outage when it began. Maintenance is that which counts; a change is one that was sent and had not
# ended; a machine that was gone, and one that ran on, are known by its journal.
_KNOWN: Final = """
SELECT p.id, p.kind,
    (SELECT b.id FROM slas_centreblind b
        WHERE p.kind = 'unreachable' AND p.valid_from >= b.valid_from - interval '1 minute'
            AND (b.valid_to IS NULL OR p.valid_from < b.valid_to) ORDER BY b.valid_from LIMIT 1),
    w.id, COALESCE(w.side, ''),
    (SELECT d.id FROM edge_sites_desireddocument d
        LEFT JOIN LATERAL (
            SELECT min(r.received_at) AS ended FROM edge_sites_desiredreceipt r
            WHERE r.document_id = d.id AND r.state IN ('applied', 'failed', 'rolled_back', 'superseded')
        ) e ON true
        WHERE d.site_id = p.site_id AND d.sent_at <= p.valid_from AND d.sent_at > p.valid_from - interval '1 day'
            AND COALESCE(e.ended, d.sent_at + interval '1 hour') > p.valid_from
        ORDER BY d.sent_at DESC LIMIT 1),
    COALESCE(s.rebooted, false), COALESCE(s.ran_on, false),
    COALESCE(jsonb_array_length(p.evidence -> 'reasons') > 0 AND NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements_text(p.evidence -> 'reasons') AS reason
        WHERE NOT EXISTS (
            SELECT 1 FROM edge_sites_componentspan c JOIN edge_sites_componentset t ON t.digest = c.component_set_id,
                jsonb_array_elements(t.components) AS part
            WHERE c.site_id = p.site_id AND c.superseded_at IS NULL AND c.valid_from <= p.valid_from
                AND (c.valid_to IS NULL OR c.valid_to > p.valid_from)
                AND part ->> 0 = 'workload' AND part ->> 1 = split_part(reason, ':', 1))), false)
FROM slas_incidentspan p
LEFT JOIN LATERAL (
    SELECT w.id, w.side FROM slas_window w JOIN slas_windowsite x ON x.window_id = w.id AND x.site_id = p.site_id
    WHERE w.state = 'approved' AND w.begins <= p.valid_from AND w.ends > p.valid_from
        AND (w.decided_at <= w.begins OR w.decided_reason <> '')
    ORDER BY w.begins LIMIT 1
) w ON true
LEFT JOIN LATERAL (
    SELECT bool_or(i.evidence -> 'journal' ->> 'why' = 'reboot') AS rebooted,
        p.valid_to IS NOT NULL AND bool_and(i.source = 'journal' AND i.state IN ('up', 'degraded')) AS ran_on
    FROM edge_sites_stateinterval i
    WHERE i.site_id = p.site_id AND i.axis = 'availability' AND i.superseded_at IS NULL
        AND i.valid_from < COALESCE(p.valid_to, 'infinity') AND (i.valid_to IS NULL OR i.valid_to > p.valid_from)
) s ON true
WHERE p.id = ANY(%s)
"""


def intervals_of(due: Mapping[int, datetime]) -> dict[Place, list[Interval]]:
    """What stands of both axes of each site, from where its outages may have changed; `due` is since when, by site."""
    found: dict[Place, list[Interval]] = defaultdict(list)
    for site, axis, *row in _rows(_INTERVALS, [list(due), list(due.values())]):
        found[site, axis].append(Interval(*row))
    return found


def standing_of(due: Mapping[int, datetime]) -> dict[Place, list[Standing]]:
    """The spans on record of the same sites and times."""
    found: dict[Place, list[Standing]] = defaultdict(list)
    for site, axis, key, incident, kind, provider, begin, end in _rows(_STANDING, [list(due), list(due.values())]):
        found[site, axis].append(Standing(key, incident, Kind(kind), provider, begin, end))
    return found


def known_of(span_ids: Sequence[int]) -> dict[int, Known]:
    """What is known of spans, by id, but for rollouts."""
    if not span_ids:
        return {}
    return {
        key: Known(Kind(kind), blind, window, side, {}, document, rebooted, ran_on, workloads)
        for key, kind, blind, window, side, document, rebooted, ran_on, workloads in _rows(_KNOWN, [list(span_ids)])
    }


def _rows(query: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())
