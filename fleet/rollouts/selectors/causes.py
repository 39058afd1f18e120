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
FROM edge_sites_outage o
JOIN rollouts_sitestep s ON s.site_id = o.site_id
JOIN rollouts_attempt a ON a.step_id = s.id AND a.kind = ANY(%s)
JOIN edge_sites_desireddocument d ON d.id = a.document_id
WHERE o.id = ANY(%s) AND d.sent_at <= o.valid_from AND (a.ended_at IS NULL OR a.ended_at > o.valid_from)
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


def caused_by_rollouts(outage_ids: Sequence[int]) -> dict[int, AtWork]:
    """Of these outages, by id: the step that was at work when it began; those that no rollout caused are left out."""
    if not outage_ids:
        return {}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_AT_WORK, [_CHANGES, list(outage_ids)])
        return {
            outage: AtWork(step, rollout, wave, attempt, DocumentKind(kind), sent_at, ended_at)
            for outage, step, rollout, wave, attempt, kind, sent_at, ended_at in cursor.fetchall()
        }
