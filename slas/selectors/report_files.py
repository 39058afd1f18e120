"""Signed files of reports: what the signer reads of one, and what a viewer may have. The scope must be open."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from fleet.kit.errors import Conflict, NotFound
from slas.models import Report, ReportFile, ReportPart
from slas.selectors.reports import revisions_of
from slas.states import FileKind

_BODIES = ("content", "attributes", "signature")


@dataclass(frozen=True, slots=True)
class FileToSign:
    """A bundle's payload, or the signed attributes of a PDF file with the SHA-256 of the file outside of its hole."""

    kind: Literal["bundle", "pdf"]
    content: bytes
    digest: bytes = b""


def file_to_sign(file_id: int) -> FileToSign:
    """What is to be signed of a row. Raises NotFound, Conflict where it is signed or has nothing to be signed yet."""
    row = ReportFile.objects.filter(pk=file_id).first()
    if row is None:
        raise NotFound("there is no such file")
    if row.made_at is not None:
        raise Conflict("the file is signed already")
    if row.content is None:
        raise Conflict("there is nothing to be signed yet")
    content = bytes(row.content)
    if row.kind == FileKind.BUNDLE:
        return FileToSign("bundle", content)
    digest = sha256(content[: row.hole_begin])
    digest.update(content[row.hole_end :])
    return FileToSign("pdf", bytes(row.attributes or b""), digest.digest())


def files_of(parts: Iterable[ReportPart]) -> dict[tuple[int, str], ReportFile]:
    """The files of parts by part and kind, without what is in them."""
    found = ReportFile.objects.filter(part__in=[part.pk for part in parts]).defer(*_BODIES)
    return {(row.part_id, row.kind): row for row in found}


def get_file(report: Report, number: int, provider: str, kind: str) -> ReportFile:
    """A file that is made, of a provider's part of a revision.

    Raises NotFound, also for what the viewer may not see; Conflict where it is not made, saying why.
    """
    revision = revisions_of(report).filter(number=min(max(number, 0), 2**31 - 1)).first()
    part = ReportPart.objects.filter(revision=revision, provider__slug=provider).first() if revision else None
    if part is None or kind not in list(FileKind):
        raise NotFound("There is no such file, or it is not yours to see.")
    row = ReportFile.objects.filter(part=part, kind=kind).first()
    if row is None or row.made_at is None:
        raise Conflict((row.problem if row else "") or "It is being made; ask again soon.")
    return row


def newest_root() -> str:
    """The certificate (PEM) of the fleet's root by which the newest file is signed. Raises NotFound."""
    row = ReportFile.objects.exclude(made_at=None).order_by("-made_at").values_list("root", flat=True).first()
    if row is None:
        raise NotFound("No file of yours is signed yet.")
    return row
