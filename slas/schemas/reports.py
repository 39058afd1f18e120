"""What the API takes and gives about reports."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema

from slas.exports.files import Fingerprints, fingerprints_of
from slas.models import Report, ReportFile, ReportRevision
from slas.present.report_files import state_of
from slas.reporting.paper import LINES
from slas.selectors.reports import Told
from slas.states import FileKind

Slug = Annotated[str, Field(min_length=1, max_length=64)]


class ReportIn(Schema):
    """Which report: a contract and a period like 2026-11, 2026-Q4, 2026 or 2026-11-03..2026-11-20."""

    contract: Slug
    period: Annotated[str, Field(min_length=4, max_length=24)]


class FigureIn(Schema):
    """A figure in per cent, as text, for an objective whose burden of proof is open; why, in 3 to 300 characters."""

    provider: Slug
    measure: Annotated[str, Field(min_length=1, max_length=16)]
    figure: Annotated[str, Field(min_length=1, max_length=12)]
    reason: Annotated[str, Field(min_length=3, max_length=300)]


class ReportOut(Schema):
    """A report. `state` is provisional, final or restated, and empty until it is made; `making` says whether that goes
    on, `problem` why it failed. `revision` is the newest one."""

    id: int
    contract: str
    period: str
    begins: datetime
    ends: datetime
    state: str
    making: bool
    problem: str
    revision: int | None


class ReportPage(Schema):
    """A page of reports, newest first; `next` is the cursor of the next one, or null."""

    items: list[ReportOut]
    next: str | None


class RevisionOut(Schema):
    """When a revision was made, for whom, and as of when."""

    number: int
    state: str
    as_of: datetime
    made_at: datetime
    made_by: str
    contract_version: int
    tzdata: str


class RevisionPage(Schema):
    """A page of revisions, newest first; `next` is the cursor of the next one, or null."""

    items: list[RevisionOut]
    next: str | None


class FileOut(Schema):
    """A signed file of a part, `pdf` or `bundle`. `state` is ready, making or problem, which `problem` explains; while
    `making` it is tried again. `key_sha256` is that of the raw key which signed a bundle, `root_sha256` of the root's
    certificate."""

    kind: str
    state: str
    making: bool
    problem: str
    size_bytes: int | None
    sha256: str
    made_at: datetime | None
    key_sha256: str
    root_sha256: str


class PartOut(Schema):
    """What a revision says of a provider: `data` with exact shares as fractions, its SHA-256, and its signed files."""

    provider: str
    sha256: str
    data: dict[str, Any]
    files: list[FileOut]


class RevisionDetailOut(RevisionOut):
    """A revision with what it says, but for its sites, which have pages of their own; and what brought it."""

    causes: list[str]
    parts: list[PartOut]


class DiffOut(Schema):
    """What a revision says otherwise than the one before, by provider: milliseconds by class, figures, causes."""

    number: int
    causes: list[str]
    parts: dict[str, dict[str, Any] | None]


class PlacePage(Schema):
    """A page of sites of a revision, the worst first; `next` is the cursor of the next, or null."""

    items: list[dict[str, Any]]
    next: str | None


def report_out(row: Report) -> dict[str, Any]:
    """A report as ReportOut has it; its revisions have been fetched by the selector."""
    found: Any = row
    return {
        **{name: getattr(row, name) for name in ("id", "period", "begins", "ends", "state", "problem")},
        "contract": row.contract.slug,
        "making": row.wanted_at is not None,
        "revision": found.all_revisions[0].number if found.all_revisions else None,
    }


def revision_out(row: ReportRevision) -> dict[str, Any]:
    """A revision as RevisionOut has it."""
    same = ("number", "state", "as_of", "made_at", "made_by", "tzdata")
    return {**{name: getattr(row, name) for name in same}, "contract_version": row.version}


def file_out(kind: str, row: ReportFile | None) -> dict[str, Any]:
    """A file as FileOut has it, also one that has not begun."""
    prints = fingerprints_of(row) if row and row.made_at else Fingerprints("", "")
    return {
        "kind": kind,
        "state": state_of(row),
        "making": row is None or row.due_at is not None,
        "problem": row.problem if row else "",
        "size_bytes": row.size_bytes if row else None,
        "sha256": row.sha256 if row else "",
        "made_at": row.made_at if row else None,
        "key_sha256": prints.key,
        "root_sha256": prints.root,
    }


def revision_detail(told: Told, files: Mapping[tuple[int, str], ReportFile]) -> dict[str, Any]:
    """A revision as RevisionDetailOut has it; files by part and kind."""
    parts = [
        {
            "provider": part.provider.slug,
            "sha256": part.sha256,
            "data": {name: value for name, value in part.data.items() if name not in LINES},
            "files": [file_out(str(kind), files.get((part.pk, kind))) for kind in FileKind],
        }
        for part in told.parts
    ]
    return {**revision_out(told.revision), "causes": told.causes, "parts": parts}
