"""Which outages a rollout caused: the plug for contracts, which charge them to the operator; the scope must be open.

An outage is a rollout's if it began at a site while a document of a step was at work there: after its first byte was
sent, and before its attempt had ended, by proof, failure, or a newer document. The soak belongs to it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from fleet.rollouts.engine.actions import DocumentKind

# A freeze changes nothing at a site: it stands still.
_CHANGES: Final = [str(kind) for kind in DocumentKind if kind is not DocumentKind.FREEZE]
_AT_WORK: Final = """
SELECT DISTINCT ON (o.id) o.id, s.id, s.rollout_id, s.wave, a.id, a.kind, d.sent_at, a.ended_at
FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[]) AS o(id, site_id, valid_from)
JOIN rollouts_sitestep s ON s.site_id = o.site_id
JOIN rollouts_attempt a ON a.step_id = s.id AND a.kind = ANY(%s)
JOIN edge_sites_desireddocument d ON d.id = a.document_id
WHERE d.sent_at <= o.valid_from AND (a.ended_at IS NULL OR a.ended_at > o.valid_from)
ORDER BY o.id, d.sent_at DESC
"""


class AtWork(NamedTuple):
    """The step that was at work where an outage began, by its newest attempt. `until` None: it still is."""

    step_id: int
    rollout_id: int
    wave: int
    attempt_id: int
    kind: DocumentKind
    since: datetime
    until: datetime | None


def caused_by_rollouts(outages: Sequence[tuple[int, int, datetime]]) -> dict[int, AtWork]:
    """The step that was at work when an outage began, by a key of the caller's; those that no rollout caused are left
    out. An outage, of whatever kind, is given as its key, its site's id, and when it began."""
    if not outages:
        return {}
    keys, sites, begins = (list(column) for column in zip(*outages, strict=True))
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_AT_WORK, [keys, sites, begins, _CHANGES])
        return {
            outage: AtWork(step, rollout, wave, attempt, DocumentKind(kind), sent_at, ended_at)
            for outage, step, rollout, wave, attempt, kind, sent_at, ended_at in cursor.fetchall()
        }
