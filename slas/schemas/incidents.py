"""What the API takes and gives about outages and disputes."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema
from pydantic import AwareDatetime

from slas.models import Adjustment, Dispute, DisputeFile, DisputeStep, IncidentNote, IncidentSpan
from slas.present.incidents import Entry
from slas.selectors.incidents import Outage, Why

Text = Annotated[str, Field(max_length=2000)]
Reason = Annotated[str, Field(max_length=300)]
Word = Annotated[str, Field(max_length=32)]


class TakeIn(Schema):
    """A word with it, for both sides to read."""

    text: Text = ""


class CommentIn(Schema):
    """What is said, for both sides to read."""

    text: Text


class CauseIn(Schema):
    """A cause; whose it is, where that does not follow; and why, in 3 to 300 characters."""

    cause: Word
    charged_to: Word = ""
    reason: Reason


class PartOut(Schema):
    """A provider's part of an outage. `ends` is null while it lasts; `owner` took it last, of whichever side."""

    outage: int
    site: int
    provider: str
    kind: str
    begins: datetime
    ends: datetime | None
    cause: str
    charged_to: str
    owner: str | None
    taken_at: datetime | None
    source: str
    recorded_at: datetime


class PartPage(Schema):
    """A page of parts of outages, newest on record first; `next` is the cursor of the next one, or null."""

    items: list[PartOut]
    next: str | None


class NoteOut(Schema):
    """What one side said or did."""

    kind: Literal["acknowledged", "comment"]
    side: Literal["operator", "provider"]
    text: str
    author: str
    at: datetime


class EvidenceOut(Schema):
    """A fact about the time of an outage, and what proves it. `corrected_at`: something better took its place then."""

    at: datetime
    what: str
    detail: str
    source: str
    proof: str
    recorded_at: datetime | None
    corrected_at: datetime | None


class OutageOut(Schema):
    """An outage with its parts, what was said, its disputes by number, and all that proves it."""

    outage: int
    site: int
    kind: str
    open: bool
    owner: str | None
    parts: list[PartOut]
    notes: list[NoteOut]
    disputes: list[int]
    evidence: list[EvidenceOut]


class DisputeIn(Schema):
    """A claim over `[begins, ends)`, or over all of the provider's part; moments have their zone."""

    cause: Word
    text: Text
    begins: AwareDatetime | None = None
    ends: AwareDatetime | None = None


class DecisionIn(Schema):
    """A manager's word, and why; the rest is for `adjusted`, and what is claimed where it is missing."""

    decision: Literal["accepted", "adjusted", "rejected"]
    reason: Reason
    cause: Word = ""
    begins: AwareDatetime | None = None
    ends: AwareDatetime | None = None


class WithdrawIn(Schema):
    """Why, if it is to be said."""

    reason: Reason = ""


class StepOut(Schema):
    """What was done about a dispute; `came` is what was written of a decision."""

    kind: str
    side: str
    text: str
    author: str
    at: datetime
    came: dict[str, Any]


class FileOut(Schema):
    """A file that was attached; its bytes are another operation's."""

    id: int
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    at: datetime


class GrantOut(Schema):
    """Time that figures exclude from `recorded_at` on."""

    begins: datetime
    ends: datetime
    cause: str
    charged_to: str
    reason: str
    recorded_at: datetime


class DisputeOut(Schema):
    """A claim."""

    id: int
    outage: int
    site: str
    provider: str
    state: str
    begins: datetime
    ends: datetime
    whole: bool
    cause: str
    text: str
    filed_by: str
    filed_at: datetime


class DisputePage(Schema):
    """A page of disputes, newest first; `next` is the cursor of the next one, or null."""

    items: list[DisputeOut]
    next: str | None


class DisputeDetailOut(DisputeOut):
    """The same with its trail, its files, and what was granted."""

    steps: list[StepOut]
    files: list[FileOut]
    granted: list[GrantOut]


def part_out(part: IncidentSpan) -> dict[str, Any]:
    """PartOut of a row that was given its cause and owner by the selector."""
    found: Any = part
    return _part(part, found.cause, found.charged, found.owner, found.taken_at)


def outage_out(found: Outage, lines: list[Entry], disputes: list[int]) -> dict[str, Any]:
    """OutageOut of an outage and its time line."""
    owner, taken_at = (found.owner.author_name, found.owner.at) if found.owner else (None, None)
    why: dict[int, Why] = found.why
    return {
        "outage": found.incident.pk,
        "site": found.incident.site_id,
        "kind": found.incident.kind,
        "open": found.is_open,
        "owner": owner,
        "parts": [
            _part(part, why[part.provider_id].cause, why[part.provider_id].charged_to, owner, taken_at)
            for part in found.parts
        ],
        "notes": [note_out(note) for note in found.notes],
        "disputes": disputes,
        "evidence": [
            {name: getattr(line, name) for name in ("at", "what", "detail", "source", "proof", "recorded_at")}
            | {"corrected_at": line.fallen_at}
            for line in lines
        ],
    }


def note_out(note: IncidentNote) -> dict[str, Any]:
    """NoteOut of a row."""
    return {name: getattr(note, name) for name in ("kind", "side", "text", "at")} | {"author": note.author_name}


def dispute_out(row: Dispute) -> dict[str, Any]:
    """DisputeOut of a row."""
    names = ("id", "state", "begins", "ends", "cause", "text", "filed_at")
    return {name: getattr(row, name) for name in names} | {
        "outage": row.incident_id,
        "site": row.site.slug,
        "provider": row.provider.slug,
        "whole": row.is_whole,
        "filed_by": row.filed_name,
    }


def dispute_detail_out(
    row: Dispute, steps: list[DisputeStep], files: list[DisputeFile], granted: list[Adjustment]
) -> dict[str, Any]:
    """DisputeDetailOut of a row and what belongs to it."""
    return dispute_out(row) | {
        "steps": [
            {name: getattr(step, name) for name in ("kind", "side", "text", "at")}
            | {"author": step.author_name, "came": step.proof}
            for step in steps
        ],
        "files": [file_out(file) for file in files],
        "granted": [
            {name: getattr(fact, name) for name in ("cause", "charged_to", "reason", "recorded_at")}
            | {"begins": fact.valid_from, "ends": fact.valid_to}
            for fact in granted
        ],
    }


def file_out(row: DisputeFile) -> dict[str, Any]:
    """FileOut of a row."""
    return {name: getattr(row, name) for name in ("id", "name", "content_type", "size_bytes", "sha256", "at")}


def _part(part: IncidentSpan, cause: str, charged: str, owner: str | None, taken_at: datetime | None) -> dict[str, Any]:
    return {
        "outage": part.incident_id,
        "site": part.site_id,
        "provider": part.provider.slug,
        "kind": part.kind,
        "begins": part.valid_from,
        "ends": part.valid_to,
        "cause": cause,
        "charged_to": charged,
        "owner": owner,
        "taken_at": taken_at,
        "source": part.source,
        "recorded_at": part.recorded_at,
    }
