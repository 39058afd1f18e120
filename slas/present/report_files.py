"""The signed files of a revision: where each stands, and by what it is checked."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from slas.exports.files import fingerprints_of
from slas.models import ReportFile, ReportPart
from slas.states import FileKind

KINDS: Final = {FileKind.PDF: "Signed PDF", FileKind.BUNDLE: "Evidence bundle"}
READY, MAKING, PROBLEM = "ready", "making", "problem"


def state_of(row: ReportFile | None) -> str:
    """`ready`, `making` (also where it has not begun), or `problem`."""
    if row is None:
        return MAKING
    return READY if row.made_at else PROBLEM if row.problem else MAKING


def file_rows(parts: Iterable[ReportPart], found: Mapping[tuple[int, str], ReportFile]) -> list[dict[str, Any]]:
    """A group a provider: its files, and the fingerprints of what vouches for those that are ready."""
    return [_group(part, found) for part in parts]


def checked_by(groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The fingerprints of groups: `key` of bundles, `root` of PDF files and whose file says so; or empty."""
    listed = list(groups)
    key = next((one["key"] for one in listed if one["key"]), "")
    of_root = next((one for one in listed if one["root"]), None)
    return {"key": key, "root": of_root["root"] if of_root else "", "provider": of_root and of_root["provider"]}


def _group(part: ReportPart, found: Mapping[tuple[int, str], ReportFile]) -> dict[str, Any]:
    rows = {kind: found.get((part.pk, kind)) for kind in KINDS}
    prints = {kind: fingerprints_of(row) for kind, row in rows.items() if row is not None and row.made_at}
    return {
        "provider": part.provider,
        "files": [
            {
                "kind": str(kind),
                "label": KINDS[kind],
                "row": row,
                "state": state_of(row),
                "is_over": row is not None and row.due_at is None,
            }
            for kind, row in rows.items()
        ],
        "key": prints[FileKind.BUNDLE].key if FileKind.BUNDLE in prints else "",
        "root": prints[FileKind.PDF].root if FileKind.PDF in prints else "",
    }
