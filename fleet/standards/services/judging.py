"""The pass that judges: who is due, how they compare, and what that changes. Level-triggered, set-based.

Triggers note a site as due when something changes that a judgement rests on; services do, when rings and standards
change. A lost note is healed by judge_all(), which looks at every site, and writes as little.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connections

from fleet.kit import live
from fleet.kit.tenancy import DEFAULT, job, scope
from fleet.standards.selectors.judgement import FACTS, SEEN, VERDICTS, parameters
from sites.services.compliance import note_compliance

JUDGE = job("compliance")
LIMIT: Final = 20_000
_LOCK: Final = 0x5354_4E44

# Causes of drift by site, for the sites that are asked about (None: all): {site: (one of Cause, detail)}.
Causes = Callable[[Sequence[int] | None], Mapping[int, tuple[str, str]]]
_causes: list[Causes] = []

TAKE = """
DELETE FROM standards_duesite WHERE id IN (SELECT id FROM standards_duesite ORDER BY id LIMIT %s)
RETURNING site_id
"""

# `at` is when it began, as exactly as is known: when the site was last heard, when its set was first reported, when its
# ring was given the standard; else when it was judged. An interval ends where the next begins.
JUDGED = """
judged AS MATERIALIZED (
    SELECT f.*, e.state, e.differences, e.extras AS extra_names,
        c.site_id IS NULL OR (c.provider_id, c.ring_id, c.standard_id, c.state, c.differences, c.extras, c.cause,
            c.cause_detail, c.checked_set, c.checked_boot, c.checked_reachability) IS DISTINCT FROM (f.provider_id,
            f.ring_id, f.standard_id, e.state, e.differences, e.extras, w.cause, w.detail,
            COALESCE(f.component_set_id, ''), f.boot, f.reachability) AS is_changed,
        c.site_id IS NULL OR (c.standard_id, c.state) IS DISTINCT FROM (f.standard_id, e.state) AS is_new,
        w.cause, w.detail,
        GREATEST(c.since, LEAST(now(), CASE
            WHEN c.site_id IS NULL OR f.standard_id IS DISTINCT FROM c.standard_id THEN
                CASE WHEN f.standard_since > c.judged_at THEN f.standard_since ELSE now() END
            WHEN e.state = 'unknown' AND f.reachability <> 'reachable' THEN f.reachability_since
            WHEN f.component_set_id IS DISTINCT FROM c.checked_set THEN COALESCE(p.valid_from, now())
            WHEN f.reachability <> c.checked_reachability THEN f.reachability_since
            ELSE COALESCE(f.workloads_at, now()) END)) AS at,
        CASE WHEN c.standard_id = f.standard_id THEN c.began ELSE '{}' END AS began_before, c.since AS since_before
    FROM facts f
    JOIN seen e USING (site_id)
    LEFT JOIN standards_sitecompliance c USING (site_id)
    LEFT JOIN edge_sites_componentspan p ON p.site_id = f.site_id AND p.valid_to IS NULL AND p.superseded_at IS NULL
    LEFT JOIN edge_sites_sitedesired t ON t.site_id = f.site_id
    LEFT JOIN edge_sites_desireddocument d ON d.id = t.document_id
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN e.state <> 'drift' THEN ''
            WHEN g.cause IS NOT NULL THEN g.cause
            WHEN (d.content #>> '{standard,id}')::bigint = f.standard_id AND NOT
                ((t.reported_epoch, t.reported_version) = (d.epoch, d.version) AND t.reported_state = 'applied')
                THEN 'not_applied'
            WHEN e.set_differences <> '[]' AND p.valid_from <= f.standard_since THEN 'standard_changed'
            WHEN e.set_differences = '[]' OR EXISTS (
                SELECT 1 FROM standards_complianceinterval i WHERE i.site_id = f.site_id
                    AND i.standard_id = f.standard_id AND i.state = 'conform' AND i.superseded_at IS NULL)
                THEN 'changed_on_site'
            ELSE '' END AS cause,
        CASE
            WHEN e.state <> 'drift' THEN ''
            WHEN g.cause IS NOT NULL THEN g.detail
            WHEN (d.content #>> '{standard,id}')::bigint IS DISTINCT FROM f.standard_id THEN ''
            WHEN t.answer = 'refused' THEN left('refused: ' || t.answer_detail, 300)
            WHEN (t.reported_epoch, t.reported_version) = (d.epoch, d.version) AND t.reported_state <> 'applied'
                THEN left(concat_ws(': ', t.reported_state, NULLIF(t.reported_detail, '')), 300)
            ELSE '' END AS detail
        FROM (SELECT 1) one LEFT JOIN jsonb_to_recordset(%(causes)s::jsonb)
            AS g(site_id bigint, cause text, detail text) ON g.site_id = f.site_id
    ) w
)"""

WRITE = f"""
WITH {FACTS}, {VERDICTS}, {SEEN}, {JUDGED},
kept AS (
    INSERT INTO standards_componentverdict (standard_id, component_set_id, architecture, verdict, differences)
    SELECT standard_id, component_set_id, architecture,
        CASE WHEN differences = '[]' THEN 'conform' ELSE 'drift' END, differences
    FROM compared
    ON CONFLICT DO NOTHING
),
written AS (
    INSERT INTO standards_sitecompliance AS c (site_id, provider_id, ring_id, standard_id, state, since, differences,
        began, extras, cause, cause_detail, proven_at, judged_at, checked_set, checked_boot, checked_reachability)
    SELECT site_id, provider_id, ring_id, standard_id, state, CASE WHEN is_new THEN at ELSE since_before END,
        differences, COALESCE((
            SELECT jsonb_object_agg(k.key, COALESCE(began_before -> k.key, to_jsonb(at)))
            FROM jsonb_array_elements(differences) x,
                LATERAL (SELECT (x ->> 'kind') || '/' || (x ->> 'name') AS key) k), '{{}}'),
        extra_names, cause, detail, last_good_at, now(), COALESCE(component_set_id, ''), boot, reachability
    FROM judged WHERE is_changed
    ON CONFLICT (site_id) DO UPDATE SET provider_id = EXCLUDED.provider_id, ring_id = EXCLUDED.ring_id,
        standard_id = EXCLUDED.standard_id, state = EXCLUDED.state, since = EXCLUDED.since,
        differences = EXCLUDED.differences, began = EXCLUDED.began, extras = EXCLUDED.extras, cause = EXCLUDED.cause,
        cause_detail = EXCLUDED.cause_detail, proven_at = EXCLUDED.proven_at, judged_at = EXCLUDED.judged_at,
        checked_set = EXCLUDED.checked_set, checked_boot = EXCLUDED.checked_boot,
        checked_reachability = EXCLUDED.checked_reachability
)
SELECT site_id, provider_id, standard_id, state, at, is_new, COALESCE(component_set_id, ''), boot, last_good_at
FROM judged WHERE is_changed ORDER BY site_id
"""  # noqa: S608  (constants)

_ENTERED = """unnest(%(sites)s::int[], %(providers)s::int[], %(standards)s::bigint[], %(states)s::text[],
    %(at)s::timestamptz[], %(sets)s::text[], %(boots)s::text[], %(polls)s::timestamptz[])
    AS n(site_id, provider_id, standard_id, state, at, set_digest, boot, poll)"""
_EVIDENCE = "jsonb_build_object('poll', n.poll, 'set', n.set_digest, 'boot', n.boot)"
INTERVALS = f"""
UPDATE standards_complianceinterval i
SET valid_to = GREATEST(n.at, i.valid_from), closed_at = now(), evidence_end = {_EVIDENCE}
FROM {_ENTERED}
WHERE i.site_id = n.site_id AND i.valid_to IS NULL AND i.superseded_at IS NULL;
INSERT INTO standards_complianceinterval
    (site_id, provider_id, standard_id, state, valid_from, recorded_at, source, evidence)
SELECT n.site_id, n.provider_id, n.standard_id, n.state, n.at, now(), 'poll', {_EVIDENCE} FROM {_ENTERED}
"""  # noqa: S608

# Sites that are no longer active are not judged; their history ends.
FORGET = """
WITH gone AS (
    DELETE FROM standards_sitecompliance c USING edge_sites_site s
    WHERE s.id = c.site_id AND s.life <> 'active' AND (%(sites)s::int[] IS NULL OR s.id = ANY(%(sites)s::int[]))
    RETURNING c.site_id
), closed AS (
    UPDATE standards_complianceinterval i SET valid_to = GREATEST(now(), i.valid_from), closed_at = now()
    FROM gone WHERE i.site_id = gone.site_id AND i.valid_to IS NULL AND i.superseded_at IS NULL
)
SELECT site_id FROM gone ORDER BY site_id
"""


def add_causes(causes: Causes) -> None:
    """Have rollouts say why sites drift: `causes` is asked with the ids of sites that are judged, in their scope.

    What it says goes before what is found here. Whoever adds it notes sites as due when its answer changes.
    """
    if causes not in _causes:
        _causes.append(causes)


def note_due(site_ids: Sequence[int]) -> None:
    """Have these sites judged by the next pass. Writes within the open scope, which must be wide."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            "INSERT INTO standards_duesite (site_id, provider_id)"
            " SELECT id, provider_id FROM edge_sites_site WHERE id = ANY(%s)",
            [list(site_ids)],
        )


def judge_due() -> int:
    """Judge the sites that are due, and return how many changed. Opens its own scope.

    One pass at a time: while another works this returns 0, and what is due waits for the next.
    """
    with scope(JUDGE), connections[DEFAULT].cursor() as cursor:
        if not _alone(cursor):
            return 0
        cursor.execute(TAKE, [LIMIT])
        due = sorted({row[0] for row in cursor.fetchall()})
        return _judge(cursor, due) if due else 0


def judge_all() -> int:
    """Judge every site, and return how many changed: one statement however many there are. Opens its own scope."""
    with scope(JUDGE), connections[DEFAULT].cursor() as cursor:
        return _judge(cursor, None) if _alone(cursor) else 0


def _alone(cursor: Any) -> bool:
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
    return bool(cursor.fetchone()[0])


def _judge(cursor: Any, site_ids: Sequence[int] | None) -> int:
    cursor.execute(FORGET, {"sites": site_ids})
    gone = [row[0] for row in cursor.fetchall()]
    cursor.execute(WRITE, parameters(site_ids) | {"causes": _causes_of(site_ids)})
    changed = cursor.fetchall()
    entered = [row for row in changed if row[5]]
    if entered:
        cursor.execute(INTERVALS, _columns(entered))
    note_compliance([*((row[0], row[3]) for row in entered), *((site_id, "unknown") for site_id in gone)])
    if changed or gone:
        live.publish(hints=[(("compliance", 0), provider_id) for provider_id in {row[1] for row in changed} or {None}])
    return len(changed) + len(gone)


def _columns(rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    sites, providers, standards, states, at, _, sets, boots, polls = (
        list(column) for column in zip(*rows, strict=True)
    )
    moments: list[datetime] = at
    return {
        "sites": sites,
        "providers": providers,
        "standards": standards,
        "states": states,
        "at": moments,
        "sets": sets,
        "boots": boots,
        "polls": polls,
    }


def _causes_of(site_ids: Sequence[int] | None) -> str:
    """What was added with add_causes() says of the sites, as the statement reads it."""
    said: dict[int, tuple[str, str]] = {}
    for causes in _causes:
        said |= causes(site_ids)
    return json.dumps([{"site_id": pk, "cause": cause, "detail": detail[:300]} for pk, (cause, detail) in said.items()])
