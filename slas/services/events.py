"""Noting what other systems may want to hear of SLAs, in the transaction in which it happens.

Webhooks are the fleet's, and a provider's own transaction does not see them: so it leaves a row here, of its own
provider alone, and a pass above takes it away and writes the messages.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.urls import reverse

from slas.models import BurnAlert, Dispute, DisputeStep, IncidentSpan, OutboxEvent, ReportPart
from slas.reporting.paper import load
from slas.reporting.saying import owed, sentence_of, verdict_of
from slas.selectors.incidents import NOT_KNOWN, why_of
from slas.states import Step, Told

_DISPUTE = {
    Step.FILED: Told.DISPUTE_FILED,
    Step.WITHDRAWN: Told.DISPUTE_WITHDRAWN,
    **dict.fromkeys((Step.ACCEPTED, Step.ADJUSTED, Step.REJECTED), Told.DISPUTE_DECIDED),
}


def note_outages(happened: Mapping[int, Told], now: datetime, *, actor: str, reason: str = "") -> None:
    """What became of outages, by the number of a span that says it. Writes within the open scope."""
    if not happened:
        return
    spans = list(IncidentSpan.objects.filter(pk__in=happened).select_related("site").order_by("pk"))
    why = why_of({one.incident_id for one in spans})
    made = []
    for one in spans:
        because = why.get((one.incident_id, one.provider_id), NOT_KNOWN)
        outage = {
            "id": one.incident_id,
            "kind": one.kind,
            "begins": one.valid_from.isoformat(),
            "ends": one.valid_to.isoformat() if one.valid_to else None,
            "stands": one.superseded_at is None,
            "cause": str(because.cause),
            "charged_to": str(because.charged_to),
        }
        site = {"slug": one.site.slug, "name": one.site.name}
        path = reverse("sla_outage", args=[one.incident_id])
        data = {"outage": outage, "site": site, "reason": reason, "actor": actor}
        made.append(OutboxEvent(kind=happened[one.pk], provider_id=one.provider_id, path=path, data=data, at=now))
    OutboxEvent.objects.bulk_create(made, batch_size=1000)


def note_dispute(row: Dispute, step: DisputeStep) -> None:
    """What was done about a dispute, if that is told: evidence is not."""
    kind = _DISPUTE.get(Step(step.kind))
    if kind is None:
        return
    dispute = {"id": row.pk, "outage": row.incident_id, "state": row.state, "cause": row.cause}
    data = {"dispute": dispute, "reason": step.text, "actor": step.author_name}
    path = reverse("sla_dispute", args=[row.pk])
    OutboxEvent.objects.create(kind=kind, provider_id=row.provider_id, path=path, data=data, at=step.at)


def note_burns(kind: Told, alerts: Iterable[BurnAlert], now: datetime) -> None:
    """Budgets that begin, or end, to go too fast."""
    made = []
    for one in alerts:
        alert = {
            "id": one.pk,
            "contract": one.contract.slug,
            "measure": one.measure,
            "rate": round(one.rate_long, 2),
            "threshold": one.threshold,
            "began_at": one.began_at.isoformat(),
        }
        site = {"slug": one.site.slug, "name": one.site.name} if one.site else None
        path = f"{reverse('sla_contract', args=[one.contract.slug])}#budget"
        data = {"alert": alert, "site": site, "reason": "", "actor": "job:budgets"}
        made.append(OutboxEvent(kind=kind, provider_id=one.provider_id, path=path, data=data, at=now))
    OutboxEvent.objects.bulk_create(made, batch_size=1000)


def note_report(kind: Told, parts: Iterable[ReportPart], now: datetime) -> None:
    """A report that is final, or restated: a message for each provider's part. Their revision and report are loaded."""
    made = []
    for part in parts:
        revision, report, paper = part.revision, part.revision.report, load(part.data)
        about: dict[str, Any] = {
            "id": report.pk,
            "contract": report.contract.slug,
            "period": report.period,
            "revision": revision.number,
            "state": str(revision.state),
            "verdict": verdict_of(paper),
            "sentence": sentence_of(paper),
            "credits": [{"amount": f"{amount:f}", "currency": currency} for amount, currency in owed(paper)],
            "sha256": part.sha256,
        }
        causes = (part.diff or {}).get("causes") or [""]
        data = {"report": about, "reason": " ".join(causes)[:600], "actor": revision.made_by}
        path = f"{reverse('sla_report', args=[report.pk])}?revision={revision.number}"
        made.append(OutboxEvent(kind=kind, provider_id=part.provider_id, path=path, data=data, at=now))
    OutboxEvent.objects.bulk_create(made)
