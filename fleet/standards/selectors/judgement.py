"""How sites compare with the standards that they follow: the statements, in parts, and what is read with them alone.

A set of components is compared with a standard once for each distinct pair, whatever number of sites has it; what
differs from site to site (is it running, what else runs there) is then looked at by site. All of it is one statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections

from fleet.kit.tenancy import DEFAULT

# The first ring by position whose selector holds a site; its own `ring` counts as a label.
SELECTED = """(s.labels || jsonb_build_object('ring', s.ring)) @> r.labels
        AND (r.regions = '[]' OR r.regions @> to_jsonb(s.region))
        AND (r.providers = '[]' OR r.providers @> to_jsonb(s.provider_id))"""

# `supposed_*`: what a ring would be given, to see what that would do; null for what it has.
FOLLOWED = f"""
followed AS (
    SELECT s.id AS site_id, s.provider_id, s.labels, r.id AS ring_id,
        CASE WHEN r.id = %(supposed_ring)s::bigint THEN %(supposed_standard)s::bigint ELSE rs.standard_id END
            AS standard_id,
        rs.since AS standard_since
    FROM edge_sites_site s
    LEFT JOIN LATERAL (
        SELECT r.id FROM standards_ring r WHERE {SELECTED} ORDER BY r.position LIMIT 1
    ) r ON true
    LEFT JOIN standards_ringstandard rs ON rs.ring_id = r.id AND rs.until IS NULL
    WHERE s.life = 'active' AND (%(sites)s::int[] IS NULL OR s.id = ANY(%(sites)s::int[]))
)"""  # noqa: S608  (constants)

# Some sites, held against one standard, whichever they follow.
HELD_AGAINST = """
followed AS (
    SELECT s.id AS site_id, s.provider_id, s.labels, null::bigint AS ring_id, %(standard)s::bigint AS standard_id,
        null::timestamptz AS standard_since
    FROM edge_sites_site s WHERE s.id = ANY(%(sites)s::int[])
)"""

_FACTS = """
standard AS (
    SELECT t.id, t.components, t.by_architecture, t.extras,
        ARRAY(SELECT c ->> 'name' FROM jsonb_array_elements(t.components) c WHERE c ->> 'kind' = 'workload')
            AS workloads
    FROM standards_standard t WHERE t.id IN (SELECT standard_id FROM followed)
),
facts AS MATERIALIZED (
    SELECT f.site_id, f.provider_id, f.ring_id, f.standard_id, f.standard_since, t.component_set_id, t.boot,
        t.reachability, t.reachability_since, t.last_good_at, t.workloads, t.workloads_at,
        CASE WHEN n.by_architecture THEN COALESCE(f.labels ->> 'arch', '') ELSE '' END AS architecture,
        n.extras, n.workloads AS named
    FROM followed f JOIN edge_sites_sitestate t ON t.site_id = f.site_id LEFT JOIN standard n ON n.id = f.standard_id
)"""

FACTS = f"{FOLLOWED},{_FACTS}"

# Distinct pairs that were not compared before. A workload whose version the site does not know is known by its digest.
VERDICTS = """
pairs AS MATERIALIZED (
    SELECT DISTINCT standard_id, component_set_id, architecture FROM facts
    WHERE standard_id IS NOT NULL AND component_set_id IS NOT NULL
),
stored AS MATERIALIZED (
    SELECT v.standard_id, v.component_set_id, v.architecture, v.differences
    FROM pairs p JOIN standards_componentverdict v USING (standard_id, component_set_id, architecture)
),
fresh AS MATERIALIZED (
    SELECT p.* FROM pairs p WHERE NOT EXISTS (
        SELECT 1 FROM stored v WHERE v.standard_id = p.standard_id AND v.component_set_id = p.component_set_id
            AND v.architecture = p.architecture)
),
present AS MATERIALIZED (
    SELECT c.digest AS component_set_id, x ->> 0 AS kind, x ->> 1 AS name, x ->> 2 AS version, x ->> 3 AS digest
    FROM edge_sites_componentset c, jsonb_array_elements(c.components) x
    WHERE c.digest IN (SELECT component_set_id FROM fresh)
),
wanted AS MATERIALIZED (
    SELECT n.id AS standard_id, e.kind, e.name, e.version, e.digests
    FROM standard n, jsonb_to_recordset(n.components) AS e(kind text, name text, version text, digests jsonb)
),
differing AS (
    SELECT p.standard_id, p.component_set_id, p.architecture, w.kind, w.name,
        CASE WHEN h.kind IS NULL THEN 'missing' ELSE 'other' END AS verb,
        jsonb_build_object('version', w.version, 'digest', d.digest) AS want,
        CASE WHEN h.kind IS NOT NULL THEN jsonb_build_object('version', h.version, 'digest', h.digest) END AS have
    FROM fresh p
    JOIN wanted w ON w.standard_id = p.standard_id
    CROSS JOIN LATERAL (SELECT COALESCE(w.digests ->> p.architecture, w.digests ->> '') AS digest) d
    LEFT JOIN present h ON h.component_set_id = p.component_set_id AND h.kind = w.kind AND h.name = w.name
    WHERE h.kind IS NULL
        OR (w.version IS NOT NULL AND h.version IS DISTINCT FROM w.version
            AND NOT (w.kind = 'workload' AND h.version IS NULL))
        OR (w.digests <> '{}' AND CASE
            WHEN d.digest IS NOT NULL THEN h.digest IS DISTINCT FROM d.digest
            WHEN p.architecture <> '' OR h.digest IS NULL THEN true
            ELSE NOT EXISTS (SELECT 1 FROM jsonb_each_text(w.digests) i WHERE i.value = h.digest) END)
    UNION ALL
    SELECT p.standard_id, p.component_set_id, p.architecture, h.kind, h.name, 'unlisted', null,
        jsonb_build_object('version', h.version, 'digest', h.digest)
    FROM fresh p
    JOIN present h ON h.component_set_id = p.component_set_id AND h.kind = 'config'
    JOIN wanted w ON w.standard_id = p.standard_id AND w.kind = 'workload' AND w.name = h.name
    WHERE NOT EXISTS (SELECT 1 FROM wanted o WHERE o.standard_id = p.standard_id AND o.kind = 'config'
        AND o.name = h.name)
),
compared AS MATERIALIZED (
    SELECT p.standard_id, p.component_set_id, p.architecture,
        COALESCE(jsonb_agg(jsonb_build_object('kind', d.kind, 'name', d.name, 'verb', d.verb, 'want', d.want,
            'have', d.have) ORDER BY d.kind, d.name) FILTER (WHERE d.kind IS NOT NULL), '[]') AS differences
    FROM fresh p LEFT JOIN differing d USING (standard_id, component_set_id, architecture)
    GROUP BY 1, 2, 3
),
verdicts AS (SELECT * FROM stored UNION ALL SELECT * FROM compared)"""

# By site: workloads of the standard that do not run, managed ones that it does not name, and the others.
SEEN = """
seen AS MATERIALIZED (
    SELECT f.site_id, v.differences AS set_differences, COALESCE(v.differences, '[]') || l.found AS differences,
        l.extras,
        CASE WHEN f.standard_id IS NULL OR v.differences IS NULL OR f.reachability <> 'reachable' THEN 'unknown'
            WHEN v.differences = '[]' AND l.found = '[]' THEN 'conform' ELSE 'drift' END AS state
    FROM facts f
    LEFT JOIN verdicts v ON v.standard_id = f.standard_id AND v.component_set_id = f.component_set_id
        AND v.architecture = f.architecture
    CROSS JOIN LATERAL (
        SELECT
            COALESCE(jsonb_agg(jsonb_build_object('kind', 'workload', 'name', o.name, 'verb', o.verb, 'want', o.want,
                'have', o.have) ORDER BY o.verb, o.name) FILTER (WHERE o.verb <> 'extra'), '[]') AS found,
            COALESCE(jsonb_agg(o.name ORDER BY o.name) FILTER (WHERE NOT o.managed), '[]') AS extras
        FROM (
            SELECT n.name, 'stopped' AS verb, '{"state": "running"}'::jsonb AS want,
                CASE WHEN w.name IS NOT NULL THEN jsonb_build_object('state', w.state) END AS have, true AS managed
            FROM unnest(f.named) n(name)
            LEFT JOIN jsonb_to_recordset(f.workloads) AS w(name text, state text) ON w.name = n.name
            WHERE w.state IS DISTINCT FROM 'running' AND NOT COALESCE(v.differences, '[]') @> jsonb_build_array(
                jsonb_build_object('kind', 'workload', 'name', n.name, 'verb', 'missing'))
            UNION ALL
            SELECT w.name, CASE WHEN w.managed OR f.extras = 'forbid' THEN 'unlisted' ELSE 'extra' END, null,
                jsonb_build_object('state', w.state), COALESCE(w.managed, false)
            FROM jsonb_to_recordset(f.workloads) AS w(name text, state text, managed boolean)
            WHERE f.named IS NOT NULL AND w.name <> ALL(f.named)
        ) o
    ) l
)"""

FOLLOWED_BY_SITE = f"WITH {FACTS} SELECT site_id, ring_id, standard_id FROM facts ORDER BY site_id"  # noqa: S608

COUNTED = f"""
WITH {FACTS}, {VERDICTS}, {SEEN}
SELECT count(*), count(*) FILTER (WHERE e.state = 'conform'), count(*) FILTER (WHERE e.state = 'drift'),
    count(*) FILTER (WHERE e.state = 'unknown'),
    count(*) FILTER (WHERE e.state = 'drift' AND c.state IS DISTINCT FROM 'drift')
FROM facts f JOIN seen e USING (site_id) LEFT JOIN standards_sitecompliance c USING (site_id)
WHERE f.ring_id = %(supposed_ring)s
"""  # noqa: S608

CONFORMING = f"""
WITH {HELD_AGAINST}, {_FACTS}, {VERDICTS}, {SEEN}
SELECT site_id FROM seen WHERE state = 'conform'
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Followed:
    """What a site follows: its ring and that ring's standard, by id; None where there is none."""

    ring_id: int | None
    standard_id: int | None


def followed_standards(site_ids: Sequence[int] | None = None) -> dict[int, Followed]:
    """By id of each active site (of these, or of all): what it follows now. One statement; the scope must be wide."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(FOLLOWED_BY_SITE, parameters(site_ids))
        return {row[0]: Followed(row[1], row[2]) for row in cursor.fetchall()}


def conforming(*, standard_id: int, site_ids: Sequence[int]) -> set[int]:
    """Which of these sites run exactly this standard by their last report, whichever they follow; reachable ones only.

    One statement; the scope must be wide.
    """
    if not site_ids:
        return set()
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(CONFORMING, {"standard": standard_id, "sites": list(site_ids)})
        return {row[0] for row in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the sites of a ring would compare; `newly` are those in drift that are not now."""

    sites: int
    conform: int
    drift: int
    unknown: int
    newly: int


def outcome_of(*, ring_id: int, standard_id: int | None) -> Outcome:
    """What giving the ring this standard would do, in numbers, with nothing written. The scope must be wide."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(COUNTED, parameters(None, ring_id=ring_id, standard_id=standard_id))
        return Outcome(*cursor.fetchone())


def parameters(
    site_ids: Sequence[int] | None, *, ring_id: int | None = None, standard_id: int | None = None
) -> dict[str, Any]:
    """Parameters of FACTS."""
    listed = None if site_ids is None else list(site_ids)
    return {"sites": listed, "supposed_ring": ring_id, "supposed_standard": standard_id}
