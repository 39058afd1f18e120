"""Outages in words and rows: lists, CSV, and the time line of what proves one."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.urls import reverse

from sites.csv_format import defuse
from sites.present import evidence_text
from sites.present_history import proof_text
from slas.models import Adjustment, Dispute, Finding, IncidentNote, IncidentSpan
from slas.selectors.proofs import Evidence
from slas.states import Cause, Charged, Kind

LOOKS: Final = {"down": "down", "degraded": "degraded", "unreachable": "unreachable"}
KINDS: Final = {Kind.DOWN: "Down", Kind.DEGRADED: "Degraded", Kind.UNREACHABLE: "Unreachable"}
CAUSES: Final = {
    Cause.HARDWARE: "Hardware",
    Cause.LINK: "Link",
    Cause.POWER: "Power",
    Cause.OPERATOR_ROLLOUT: "Operator's rollout",
    Cause.OPERATOR_CHANGE: "Operator's change",
    Cause.WORKLOAD: "Workload",
    Cause.MAINTENANCE: "Maintenance",
    Cause.CENTRE: "The centre was blind",
    Cause.THIRD_PARTY: "Third party",
    Cause.UNKNOWN: "Not known",
}
CHARGED_TO: Final = {
    Charged.PROVIDER: "the provider",
    Charged.OPERATOR: "the operator",
    Charged.THIRD_PARTY: "a third party",
    Charged.NOBODY: "nobody",
}
CSV_COLUMNS: Final = (
    *("outage", "site", "name", "provider", "kind", "from", "to", "seconds", "cause", "charged_to", "owner"),
    *("taken_at", "source", "recorded_at"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the time line: when, what it is (an icon), what it says, what proves it, where to look.

    `recorded_at` is when we came to know it; `fallen_at` when something better took its place.
    """

    at: datetime
    icon: str
    what: str
    detail: str = ""
    source: str = ""
    proof: str = ""
    href: str = ""
    recorded_at: datetime | None = None
    fallen_at: datetime | None = None
    look: str = ""


def cause_words(cause: str) -> str:
    """A cause as people say it."""
    return CAUSES[Cause(cause)]


def charged_words(charged: str) -> str:
    """Whose it is."""
    return CHARGED_TO[Charged(charged)]


def row_of(part: IncidentSpan, now: datetime) -> dict[str, Any]:
    """A line of a list; the part has been given its cause and owner by the selector."""
    found: Any = part
    return {
        "part": part,
        "look": LOOKS[part.kind],
        "kind": KINDS[Kind(part.kind)],
        "lasted_s": part.lasted_s(now),
        "cause": cause_words(found.cause),
        "charged": charged_words(found.charged),
        "is_providers": found.charged == Charged.PROVIDER,
        "owner": found.owner or "",
        "taken_at": found.taken_at,
    }


def csv_lines(rows: Iterable[IncidentSpan], now: datetime) -> Iterator[str]:
    """Lines of CSV, header first, in CSV_COLUMNS; no cell is a formula to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for part in rows:
        found: Any = part
        cells = (
            *(str(part.incident_id), part.site.slug, part.site.name, part.provider.name, part.kind),
            *(part.valid_from.isoformat(), part.valid_to.isoformat() if part.valid_to else ""),
            *(f"{part.lasted_s(now):.3f}", found.cause, found.charged, found.owner or ""),
            *(found.taken_at.isoformat() if found.taken_at else "", part.source, part.recorded_at.isoformat()),
        )
        writer.writerow([defuse(cell) for cell in cells])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue()


# The time line ----------------------------------------------------------------------------------------------
def timeline_of(
    found: Evidence,
    findings: Iterable[Finding],
    notes: Iterable[IncidentNote],
    disputes: Iterable[Dispute],
    granted: Iterable[Adjustment],
) -> list[Entry]:
    """Everything that is on record about an outage, in order of when it was."""
    lines = [*_facts(found), *_journal(found), *_circumstances(found)]
    lines += [_finding(row, found) for row in findings]
    for note in notes:
        words = "took it" if note.kind == "acknowledged" else "wrote"
        who = f"{note.author_name} {words}, for the {note.side}"
        lines.append(Entry(note.at, "hand-stop" if note.kind == "acknowledged" else "pencil", who, note.text))
    for row in disputes:
        words = f"{row.filed_name} disputes it: {cause_words(row.cause).lower()}"
        href = reverse("sla_dispute", args=[row.pk])
        lines.append(Entry(row.filed_at, "alert-triangle", words, row.text, proof=f"dispute {row.pk}", href=href))
    for fact in granted:
        seconds = (fact.valid_to - fact.valid_from).total_seconds()
        words = f"{fact.author_name} granted {seconds:,.0f} s to the provider: {cause_words(fact.cause).lower()}"
        href = reverse("sla_dispute", args=[fact.dispute_id])
        lines.append(
            Entry(fact.recorded_at, "check", words, fact.reason, proof=f"dispute {fact.dispute_id}", href=href)
        )
    return sorted(lines, key=lambda line: line.at)


def _facts(found: Evidence) -> Iterator[Entry]:
    href = f"{reverse('site_timeline', args=[found.site.slug])}?range=30d&before=1" if found.site else ""
    for row in found.intervals:
        yield Entry(
            row.valid_from,
            "",
            f"{row.state.replace('_', ' ').capitalize()}",
            proof_text(row.evidence),
            row.get_source_display(),
            _proof(row.evidence),
            href,
            row.recorded_at,
            row.superseded_at,
            row.state,
        )


def _proof(evidence: Mapping[str, Any]) -> str:
    """The poll or the journal's entries that prove an interval, by number."""
    journal = evidence.get("journal")
    if isinstance(journal, Mapping) and "from_seq" in journal:
        return f"journal entries {journal['from_seq']} to {journal.get('to_seq', journal['from_seq'])}"
    if "poll" in evidence:
        return f"poll {evidence['poll']}"
    return evidence_text(dict(evidence))[:80]


def _journal(found: Evidence) -> Iterator[Entry]:
    href = reverse("site_journal", args=[found.site.slug]) if found.site else ""
    for row in found.entries:
        boot = f"boot {row.boot[:8]}" if row.kind == "start" else ""
        envelope = f"entry {row.seq}, {row.digest[:19]}… in the signed page {row.envelope.head[:19]}…"
        yield Entry(
            row.mapped_at,
            "refresh" if row.kind == "start" else "notes",
            "The machine began" if row.kind == "start" else f"The site wrote: {row.kind}",
            " ".join(filter(None, [boot, _said(row.body)[:160]])),
            "Site's journal",
            envelope,
            href,
            row.envelope.received_at,
        )


def _said(body: Mapping[str, Any]) -> str:
    """What an entry says, name by name; lists of things by their number, and nothing of what is empty."""
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in body.items() if _value(value))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        plain = all(isinstance(one, str) for one in value)
        return ", ".join(value) if plain else f"({len(value)})"
    if isinstance(value, Mapping):
        return f"({len(value)})"
    return "" if value is None else str(value)


def _circumstances(found: Evidence) -> Iterator[Entry]:
    """Changes that were ordered, maintenance, and our own blindness."""
    for document in found.documents:
        assert document.sent_at is not None
        yield Entry(
            document.sent_at,
            "upload",
            f"Order {document.epoch}.{document.version} was sent",
            document.reason,
            proof=document.sha256[:19] + "…" if document.sha256 else "",
            href=reverse("site_desired", args=[found.site.slug]) if found.site else "",
        )
    for window in found.windows:
        words = f"Maintenance: {window.title} ({window.state}, asked for by the {window.side})"
        says = f"{window.decided_name} decided" if window.decided_at else "nobody has decided"
        href = reverse("sla_window", args=[window.pk])
        proof = f"window {window.pk}"
        yield Entry(window.begins, "clock", words, says, proof=proof, href=href, recorded_at=window.requested_at)
    for blind in found.blind:
        words = "The centre could not watch" + ("" if blind.valid_to else ", and still cannot")
        why = "no poller wrote its beat" if blind.rule == "beats" else "too many sites fell silent at once"
        yield Entry(blind.valid_from, "moon", words, why, proof=f"blindness {blind.pk}", recorded_at=blind.recorded_at)


def _finding(row: Finding, found: Evidence) -> Entry:
    href, proof = "", ", ".join(f"{name} {value}" for name, value in row.proof.items())
    if "rollout" in row.proof and found.site is not None:
        href = reverse("rollout_step", args=[row.proof["rollout"], found.site.slug])
    elif "dispute" in row.proof:
        href = reverse("sla_dispute", args=[row.proof["dispute"]])
    who = f"{row.author_name} corrected the cause" if row.is_correction else "A rule found the cause"
    words = f"{who}: {cause_words(row.cause).lower()}, charged to {charged_words(row.charged_to)}"
    return Entry(row.at, "pencil" if row.is_correction else "target", words, row.reason, proof=proof, href=href)
