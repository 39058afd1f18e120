"""Signed files of reports: each part of a revision as a PDF file and as an evidence bundle, made in the background.

A file is made in steps, each of which a row remembers: what is to be signed, the signer's word over that row, the file.
A worker that is killed leaves the row due, and the next one goes on where it was. What cannot be made now is tried
again, and the row says why. No step holds a transaction while the signer is asked.
"""

import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import chain
from typing import Any, Final

from django.db import connections

from fleet.kit import live, signing
from fleet.kit.clock import database_now
from fleet.kit.signing import ReportKeys, SignerAway, SignerRefused
from fleet.kit.tenancy import DEFAULT, Scope, job, scope
from slas.exports import files, pdf
from slas.exports.bundle import payload_of
from slas.measuring import measure
from slas.models import ReportFile, ReportPart, ReportRevision
from slas.reporting.paper import Paper
from slas.selectors.contracts import version_as_of
from slas.selectors.evidence import evidence_of
from slas.selectors.figures import Told, told_of
from slas.selectors.offer_evidence import offer_evidence
from slas.selectors.reports import whole
from slas.states import FileKind

logger = logging.getLogger(__name__)
MAKER: Final = job("reports")
MOST: Final = 8
# A worker that has not come back with a file after this is taken for gone.
LEASE: Final = timedelta(minutes=2)
AWAY, FAILED = timedelta(seconds=15), timedelta(minutes=10)
_FACT_BYTES: Final = 128  # no fact is shorter
_WANT: Final = """
INSERT INTO slas_reportfile (part_id, provider_id, kind, due_at, problem, certificate, root, sha256)
SELECT p.id, p.provider_id, k.kind, clock_timestamp(), '', '', '', ''
FROM slas_reportpart p CROSS JOIN unnest(%s::text[]) AS k(kind)
WHERE NOT EXISTS (SELECT 1 FROM slas_reportfile f WHERE f.part_id = p.id AND f.kind = k.kind)
ON CONFLICT DO NOTHING
"""


class _NeverMade(Exception):
    """Why a file of this revision cannot be made, however often it is tried."""


def want_files() -> int:
    """Note the files that parts of revisions lack; returns how many. Opens its own scope."""
    with scope(MAKER), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_WANT, [list(FileKind)])
        return int(cursor.rowcount)


def make_files(most: int = MOST) -> int:
    """Make what is due, at most so many; returns how many were looked at. Opens its own scopes."""
    with scope(MAKER):
        due = ReportFile.objects.filter(due_at__lte=database_now()).order_by("due_at", "pk")
        wanted = list(due.values_list("pk", flat=True)[:most])
    if not wanted:
        return 0
    try:
        keys = signing.report_keys()
    except (SignerAway, SignerRefused) as error:
        for pk in wanted:
            _put_off(pk, _waits(error), AWAY)
        return len(wanted)
    return sum(make_file(pk, keys) for pk in wanted)


def make_file(pk: int, keys: ReportKeys) -> bool:
    """Make one file, if it is due and no other worker makes it. Whatever fails is said on the row."""
    with scope(MAKER):
        now = database_now()
        if not ReportFile.objects.filter(pk=pk, due_at__lte=now).update(due_at=now + LEASE):
            return False
    try:
        _prepare(pk, keys)
        _finish(pk, signing.sign_report(pk).signature)
    except _NeverMade as error:
        _put_off(pk, str(error), None)
    except (SignerAway, SignerRefused) as error:
        _put_off(pk, _waits(error), AWAY)
    except Exception:  # whatever it is, the next in line must be made, and readers be told
        logger.exception("file %s of a report was not made", pk)
        _put_off(pk, "It could not be made; the log of the worker says why. It is tried again.", FAILED)
    return True


# Steps ------------------------------------------------------------------------------------------------------
def _prepare(pk: int, keys: ReportKeys) -> None:
    """Keep what is to be signed, and by which key; what is kept from before, by these keys, stays."""
    with scope(MAKER):
        row = ReportFile.objects.select_related("part__revision__report__contract", "provider").get(pk=pk)
    certificate = keys.pdf if row.kind == FileKind.PDF else keys.bundle
    if row.content is not None and (row.certificate, row.root) == (certificate, keys.root):
        return
    with scope(Scope(name=MAKER.name, providers=frozenset({row.provider_id}))):  # it sees what its reader may
        made = _pdf(row, keys) if row.kind == FileKind.PDF else {"content": _bundle(row.part, keys)}
    size = len(made["content"])
    if size > files.MOST_BYTES:
        raise _too_large(f"{size / 1024 / 1024:.0f} MiB")
    with scope(MAKER):
        ReportFile.objects.filter(pk=pk, made_at=None).update(certificate=certificate, root=keys.root, **made)


def _finish(pk: int, signature: bytes) -> None:
    """Keep the signature, which makes the file; the signer's key must be the one that was named to it."""
    with scope(MAKER):
        row = ReportFile.objects.get(pk=pk)
        if row.made_at is not None:
            return
        if not files.is_signed(row, signature):
            raise SignerAway("the signer has other keys than before")  # the next round makes it for those
        row.signature = signature
        if row.kind == FileKind.PDF:
            attributes = bytes(row.attributes or b"")
            row.signature = pdf.enveloped(attributes, signature, certificate=row.certificate, root=row.root)
        made = files.joined(row)
        ReportFile.objects.filter(pk=pk, made_at=None).update(
            signature=row.signature,
            size_bytes=len(made),
            sha256=sha256(made).hexdigest(),
            made_at=database_now(),
            due_at=None,
            problem="",
        )
        _tell(pk)


def _put_off(pk: int, problem: str, after: timedelta | None) -> None:
    """Say why it is not made; `after` is when it is tried again, None for never."""
    with scope(MAKER):
        due_at = None if after is None else database_now() + after
        found = ReportFile.objects.filter(pk=pk, made_at=None)
        is_news = found.exclude(problem=problem[:300]).exists()
        found.update(due_at=due_at, problem=problem[:300])
        if is_news:
            _tell(pk)


# What is signed ---------------------------------------------------------------------------------------------
def _pdf(row: ReportFile, keys: ReportKeys) -> dict[str, Any]:
    part, revision = row.part, row.part.revision
    ((_, paper),) = whole([part])
    key = sha256(keys.bundle_key).hexdigest()
    cover = pdf.Cover(row.provider.name, part.sha256, files.root_sha256(keys.root), revision.number, part.diff or {})
    file = pdf.pdf_of(replace(paper, head=replace(paper.head, key=key)), cover)
    found = pdf.prepared(file, keys, database_now())
    return {
        "content": found.content,
        "hole_begin": found.begin,
        "hole_end": found.end,
        "attributes": found.attributes,
    }


def _bundle(part: ReportPart, keys: ReportKeys) -> bytes:
    """The payload: computed anew from facts as they were known then, and held against what the revision says."""
    revision = part.revision
    report = revision.report
    version = version_as_of(report.contract, revision.as_of)
    until = max(report.begins, min(report.ends, revision.as_of))
    told = [
        one._replace(inputs=list(one.inputs))
        for one in told_of(version, version.segments.all(), report.begins, until, revision.as_of)
    ]
    ((_, paper),) = whole([part])
    if not _says_the_same(told, paper):
        raise _NeverMade("What it rests on was still being written when it was made; the next revision has its bundle.")
    sites = sorted({one.site_id for each in told for one in each.inputs})
    facts = evidence_of(version, report.begins, until, revision.as_of, sites)
    offered = [(part.provider.slug, paper.offered)]
    evidence = chain(_bounded(facts), offer_evidence(paper.offered))
    return payload_of(told, evidence, report=_about(part, revision), keys=keys, offered=offered)


def _about(part: ReportPart, revision: ReportRevision) -> dict[str, Any]:
    report = revision.report
    return {
        "contract": report.contract.slug,
        "provider": part.provider.slug,
        "period": report.period,
        "begin": report.begins.isoformat(),
        "end": report.ends.isoformat(),
        "revision": revision.number,
        "state": revision.state,
        "as_of": revision.as_of.isoformat(),
        "contract_version": revision.version,
        "part_sha256": part.sha256,
    }


def _says_the_same(told: Sequence[Told], paper: Paper) -> bool:
    """Whether every site's time comes to what the revision says, to the millisecond."""
    found = Counter(
        (str(one.objective.measure), site.slug, site.totals)
        for one in told
        for site in measure(one.segment.pk, one.terms, one.objective, one.inputs).sites
    )
    return found == Counter((one.measure, one.slug, one.totals) for one in paper.places)


def _bounded(evidence: Generator[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Stops before more is gathered than any file may have."""
    most = files.MOST_BYTES // _FACT_BYTES
    with closing(evidence):
        for number, one in enumerate(evidence):
            if number >= most:
                raise _too_large(f"over {most:,} facts")
            yield one


def _too_large(what: str) -> _NeverMade:
    allowed = files.MOST_BYTES // 1024 // 1024
    return _NeverMade(f"It comes to {what}, and a file has {allowed} MiB at most: have reports made of shorter times.")


# ------------------------------------------------------------------------------------------------------------
def _waits(error: SignerAway | SignerRefused) -> str:
    return f"It waits for the signer, and is tried again: {error.message}."


def _tell(pk: int) -> None:
    """Open pages of the report look again."""
    report, provider = ReportFile.objects.values_list("part__revision__report", "provider").get(pk=pk)
    live.publish(hints=[(("report", report), provider)])
