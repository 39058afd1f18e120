"""The pass that derives outages from states, and causes from what is known. Level-triggered, set-based.

Triggers note a site as due when a state of it is written; services do, when something changes that a cause rests on.
Only what touches the time that changed is looked at: a late journal costs its own site, and what it is about.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string

from fleet.kit import live
from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.causes import Judged, judge
from slas.models import Finding, Incident, IncidentSpan
from slas.outages import KINDS, Added, Changes, Run, changes, runs
from slas.selectors.deriving import intervals_of, known_of, standing_of
from slas.services.events import note_outages
from slas.states import Told

DERIVER = job("outages")
# Sites whose whole history is new must fit into memory, and other writers not wait.
LIMIT: Final = 2_000
_LOCK: Final = 0x534C_4F55
_TAKE: Final = """
DELETE FROM slas_dueincidents WHERE id IN (SELECT id FROM slas_dueincidents ORDER BY id LIMIT %s)
RETURNING site_id, since
"""
_CLOSE: Final = """
UPDATE slas_incidentspan p SET valid_to = c.valid_to, closed_at = %s, evidence_end = c.evidence
FROM unnest(%s::bigint[], %s::timestamptz[], %s::jsonb[]) AS c(id, valid_to, evidence) WHERE p.id = c.id
"""
_NOTE: Final = """
INSERT INTO slas_dueincidents (site_id, provider_id, since)
SELECT s.id, s.provider_id, %s FROM edge_sites_site s WHERE s.id = ANY(%s)
"""

# Scorecards of the months that changed; often noted, seldom written: see slas.services.scorecards.
_STALE: Final = """
UPDATE slas_scorecard c SET due_at = clock_timestamp()
FROM (
    SELECT t.provider_id, min(d.since) AS since FROM unnest(%s::int[], %s::timestamptz[]) AS d(site_id, since)
    JOIN edge_sites_sitetenure t ON t.site_id = d.site_id GROUP BY t.provider_id
) d
WHERE c.provider_id = d.provider_id AND c.ends > d.since
    AND (c.due_at IS NULL OR c.due_at < clock_timestamp() - interval '30 s')
"""
# So are the reports that hold what changed: see slas.services.report_making.
_STALE_REPORTS: Final = """
UPDATE slas_report r SET due_at = clock_timestamp()
FROM (
    SELECT g.contract_id, min(d.since) AS since FROM unnest(%s::int[], %s::timestamptz[]) AS d(site_id, since)
    JOIN edge_sites_sitetenure t ON t.site_id = d.site_id JOIN slas_segment g ON g.provider_id = t.provider_id
    GROUP BY g.contract_id
) d
WHERE r.contract_id = d.contract_id AND r.ends > d.since AND r.state <> ''
    AND (r.due_at IS NULL OR r.due_at < clock_timestamp() - interval '30 s')
"""

# Which rollout's step was at work where a span began, by its id: see fleet.rollouts.selectors.causes.
Begun = tuple[int, int, datetime]  # a span, its site, and when it began
AtWork = Callable[[Sequence[Begun]], Mapping[int, Any]]


@dataclass(slots=True)
class _Batch:
    """What a pass writes."""

    closed: list[tuple[int, Run]]
    superseded: list[int]
    added: list[tuple[int, Added]]
    merged: list[tuple[int, int]]

    def take(self, site_id: int, found: Changes) -> None:
        """Add what is to be done about one site."""
        self.closed += found.closed
        self.superseded += found.superseded
        self.added += [(site_id, one) for one in found.added]
        self.merged += found.merged


def note_due(site_ids: Iterable[int], since: datetime) -> None:
    """Have the outages of these sites looked at anew from a moment on. Writes within the open scope."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_NOTE, [since, list(site_ids)])


def derive_due() -> int:
    """Derive the outages of the sites that are due; returns how many sites were. Opens its own scope.

    One pass at a time: while another works this returns 0, and what is due waits for the next.
    """
    with scope(DERIVER), connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        (is_alone,) = cursor.fetchone()
        if not is_alone:
            return 0
        cursor.execute(_TAKE, [LIMIT])
        due: dict[int, datetime] = {}
        for site_id, since in cursor.fetchall():
            due[site_id] = min(since, due.get(site_id, since))
        if due:
            _derive(due)
            cursor.execute(_STALE, [list(due), list(due.values())])
            cursor.execute(_STALE_REPORTS, [list(due), list(due.values())])
    return len(due)


# ------------------------------------------------------------------------------------------------------------
def _derive(due: Mapping[int, datetime]) -> None:
    now = database_now()
    intervals, standing = intervals_of(due), standing_of(due)
    batch = _Batch([], [], [], [])
    for place in sorted(intervals.keys() | standing.keys()):
        wanted = [run for kind in KINDS[place[1]] for run in runs(intervals.get(place, []), kind)]
        batch.take(place[0], changes(wanted, standing.get(place, [])))
    made = _write(batch, now)
    gone = set(batch.superseded)
    still = [row.key for rows in standing.values() for row in rows if row.key not in gone]
    judged = _judge([*still, *made], now)
    touched = {key for key, _ in batch.closed} | set(made) | judged
    note_outages(_happened(batch, made), now, actor=DERIVER.name)
    told = IncidentSpan.objects.filter(pk__in=touched | gone).values_list("site_id", "provider_id")
    live.publish(hints=[(hint, pk) for site, pk in set(told) for hint in (("site", site), ("attention", 0))])


def _happened(batch: _Batch, made: Sequence[int]) -> dict[int, Told]:
    """What became of outages, each said of one span: begun, over, or otherwise than it was known.

    One that was only learnt of when it was over is told as over. A part that another took the place of says nothing.
    """
    found = {key: Told.OUTAGE_ENDED for key, _ in batch.closed}
    spans = IncidentSpan.objects.filter(pk__in=[*batch.superseded, *made])
    replaced = {row.incident_id: row.pk for row in spans if row.pk in set(batch.superseded)}
    stand = {row.incident_id for row in spans if row.pk in set(made)}
    for row in spans:
        if row.pk not in set(made):
            continue
        is_new = Told.OUTAGE_OPENED if row.valid_to is None else Told.OUTAGE_ENDED
        found[row.pk] = Told.OUTAGE_CORRECTED if row.incident_id in replaced else is_new
    gone = {pk: Told.OUTAGE_CORRECTED for incident, pk in replaced.items() if incident not in stand}
    return found | gone


def _write(batch: _Batch, now: datetime) -> list[int]:
    """Close and supersede, then add. Returns the ids of the spans that were added."""
    if batch.closed:
        with connections[DEFAULT].cursor() as cursor:
            ends = [run.last.evidence_end for _, run in batch.closed]
            cursor.execute(_CLOSE, [now, [key for key, _ in batch.closed], [run.end for _, run in batch.closed], ends])
    if batch.superseded:
        IncidentSpan.objects.filter(pk__in=batch.superseded).update(superseded_at=now)
    new = [
        Incident(site_id=site, kind=one.run.kind)
        for site, one in batch.added
        if one.incident is None and not one.with_last
    ]
    Incident.objects.bulk_create(new, batch_size=1000)
    fresh = iter(new)
    last: int | None = None
    spans = []
    for site, one in batch.added:
        if one.incident is not None:
            last = one.incident
        elif not one.with_last:
            last = next(fresh).pk
        assert last is not None  # a part that goes on follows the part that it goes on with
        spans.append(_span(site, last, one.run, now))
    IncidentSpan.objects.bulk_create(spans, batch_size=1000)
    for gone, into in batch.merged:
        Incident.objects.filter(pk=gone, merged_into=None).exclude(pk=into).update(merged_into=into)
    return [span.pk for span in spans]


def _span(site_id: int, incident_id: int, run: Run, now: datetime) -> IncidentSpan:
    return IncidentSpan(
        site_id=site_id,
        incident_id=incident_id,
        provider_id=run.provider_id,
        kind=run.kind,
        valid_from=run.begin,
        valid_to=run.end,
        recorded_at=now,
        closed_at=None if run.end is None else now,
        source=run.first.source,
        evidence={"interval": run.first.key, **json.loads(run.first.evidence)},
        evidence_end=json.loads(run.last.evidence_end) if run.end and run.last.evidence_end else None,
    )


# Causes -----------------------------------------------------------------------------------------------------
def _judge(span_ids: Sequence[int], now: datetime) -> set[int]:
    """Find the causes of spans, and add what differs from what was found before. Returns the spans that it was for."""
    known = known_of(span_ids)
    spans = list(
        IncidentSpan.objects.filter(pk__in=known).only("pk", "site_id", "incident_id", "provider_id", "valid_from")
    )
    for span, step in _at_work([(row.pk, row.site_id, row.valid_from) for row in spans]).items():
        proof = {"step": step.step_id, "rollout": step.rollout_id, "wave": step.wave, "attempt": step.attempt_id}
        known[span] = replace(known[span], step=proof)
    keys = {row.pk: (row.incident_id, row.provider_id) for row in spans}
    before = _newest_by_rule({incident for incident, _ in keys.values()})
    added: list[Finding] = []
    told: set[int] = set()
    for span in sorted(known):
        found, key = judge(known[span]), keys[span]
        if before.get(key, _NOTHING) != (found.cause, found.charged_to, found.proof):
            before[key] = (found.cause, found.charged_to, found.proof)
            added.append(_finding(key, found, now))
            told.add(span)
    Finding.objects.bulk_create(added, batch_size=1000)
    return told


_NOTHING: Final[tuple[str, str, dict[str, Any]]] = ("unknown", "nobody", {})


def _newest_by_rule(incidents: set[int]) -> dict[tuple[int, int], tuple[str, str, dict[str, Any]]]:
    found = Finding.objects.filter(incident__in=incidents, is_correction=False).order_by("id")
    return {(row.incident_id, row.provider_id): (row.cause, row.charged_to, row.proof) for row in found}


def _finding(key: tuple[int, int], found: Judged, now: datetime) -> Finding:
    return Finding(
        incident_id=key[0],
        provider_id=key[1],
        cause=found.cause,
        charged_to=found.charged_to,
        proof=found.proof,
        reason=found.rule,
        author_name=DERIVER.name,
        at=now,
    )


def _at_work(begun: Sequence[Begun]) -> Mapping[int, Any]:
    """Rollouts lie above contracts, which do not know them: the settings say who answers."""
    find: AtWork = import_string(settings.OUTAGES_CAUSED_BY)
    return find(begun) if begun else {}
