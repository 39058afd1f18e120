"""Which components a site ran while nobody reached it, by its own journal."""

import json
from collections.abc import Iterable, Sequence

from django.db import connections
from django.db.models import Q
from django.utils import timezone

from agent.protocol.entries import Components
from fleet.kit.tenancy import DEFAULT
from sites import journal_states, timeline
from sites.models import ComponentSet, ComponentSpan, JournalCursor
from sites.services.backfill_history import floor, moment, proof
from sites.services.report_sql import INSERT_COMPONENT_SETS
from sites.states import Source
from sites.timeline import Evidence, Interval


def keep_sets(told: Iterable[Components]) -> None:
    """Each distinct set once, under its digest, as polls keep them; one that did not fit in an entry is left out."""
    sets = {
        body.digest: sorted([c.kind, c.name, c.version, c.digest] for c in body.components)
        for body in told
        if body.components is not None
    }
    if sets:
        rows = [{"digest": digest, "components": components} for digest, components in sorted(sets.items())]
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(INSERT_COMPONENT_SETS, [json.dumps(rows)])


def correct_components(cursor: JournalCursor, spans: Sequence[journal_states.Span]) -> bool:
    """Supersede the spans of components that the journal contradicts, back to floor(). Returns whether anything did.

    `spans` are those of journal_states.read() over digests. While the agent was away, or the machine was, nothing is
    said: what it runs afterwards it may have got at any moment of that time.
    """
    begins = floor(cursor)
    told = [span for span in spans if span.why == "verdict" and moment(span.end_ms) > begins]
    known = set(ComponentSet.objects.filter(pk__in={span.state for span in told}).values_list("pk", flat=True))
    proven = [
        Evidence(
            max(begins, moment(span.begin_ms)),
            moment(span.end_ms),
            span.state,
            {"journal": proof(cursor, span.from_seq, span.to_seq, "components")},
        )
        for span in told
        if span.state in known
    ]
    if not proven:
        return False
    standing = ComponentSpan.objects.filter(site_id=cursor.site_id, superseded_at=None).filter(
        Q(valid_to=None) | Q(valid_to__gte=proven[0].begin - timeline.GRAIN),
        valid_from__lte=proven[-1].end + timeline.GRAIN,
    )
    return _supersede(cursor.site_id, list(standing.order_by("valid_from", "pk")), proven)


def _supersede(site_id: int, standing: Sequence[ComponentSpan], proven: Sequence[Evidence]) -> bool:
    rows = {row.pk: row for row in standing}
    correction = timeline.correct([_interval(row) for row in standing], proven)
    if not correction.superseded:
        return False
    now = timezone.now()
    ComponentSpan.objects.filter(pk__in=correction.superseded).update(superseded_at=now)
    ends = {row.valid_to: row.evidence_end for row in standing if row.valid_to is not None}
    ComponentSpan.objects.bulk_create(
        [
            ComponentSpan(
                site_id=site_id,
                provider_id=new.provider_id,
                component_set_id=new.state,
                valid_from=new.begin,
                valid_to=new.end,
                recorded_at=now,
                closed_at=None if new.end is None else now,
                source=Source.JOURNAL if new.better or new.key is None else rows[new.key].source,
                evidence=new.evidence,
                evidence_end=ends.get(new.end) if new.end is not None else None,
            )
            for new in correction.added
        ]
    )
    return True


def _interval(row: ComponentSpan) -> Interval:
    return Interval(row.valid_from, row.valid_to, row.component_set_id, row.provider_id, row.pk, row.evidence)
