"""How sites compare with their standards, as judged above this app: kept in their state rows, and shown on the map."""

from collections.abc import Iterable

from django.db import connections

from fleet.kit import live
from fleet.kit.tenancy import DEFAULT

# Beyond this many at once, pages of single sites learn it from their next report.
HINTS_AT_ONCE = 500

_LOCK = "SELECT 1 FROM edge_sites_sitestate WHERE site_id = ANY(%s) ORDER BY site_id FOR NO KEY UPDATE"
# `version` stays: a poll that is being written changes nothing of this, and this nothing of that.
_UPDATE = """
UPDATE edge_sites_sitestate s SET compliance = n.compliance, changed_at = now()
FROM unnest(%s::int[], %s::text[]) AS n(site_id, compliance)
WHERE s.site_id = n.site_id AND s.compliance <> n.compliance
RETURNING s.site_id, s.provider_id, s.shown, s.reachability, s.compliance, extract(epoch FROM s.shown_since)::bigint
"""


def note_compliance(judged: Iterable[tuple[int, str]]) -> int:
    """Keep what each of these sites (by id) is: `conform`, `drift` or `unknown`. Returns how many that changed.

    Only rows that change are written; locks them in the order of ids. Publishes deltas and hints after the commit.
    Writes within the open scope.
    """
    by_site = dict(judged)
    if not by_site:
        return 0
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_LOCK, [sorted(by_site)])
        cursor.execute(_UPDATE, [list(by_site), list(by_site.values())])
        deltas = [live.Delta(*row) for row in cursor.fetchall()]
    hints: list[tuple[live.Hint, int | None]] = []
    if len(deltas) <= HINTS_AT_ONCE:
        hints += [(("site", delta.site_id), delta.provider_id) for delta in deltas]
    hints += [(("figures", 0), provider_id) for provider_id in sorted({delta.provider_id for delta in deltas})]
    live.publish(deltas, hints=hints)
    return len(deltas)
