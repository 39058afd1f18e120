"""A report as a PDF file: laid out by typst from plain data, tagged, and made ready for the signer's signature."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import typst
from asn1crypto import pem, x509
from asn1crypto.algos import SignedDigestAlgorithm
from asn1crypto.cms import CMSAttributes
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.signers.pdf_cms import PdfCMSSignedAttributes
from pyhanko_certvalidator.registry import SimpleCertificateStore

from fleet.kit.signing import ReportKeys
from slas.exports.counted import counted_content
from slas.exports.words import (
    RESTORED,
    VERDICTS,
    credit_text,
    duration,
    fee_text,
    moment,
    name_of,
    percent,
    period_text,
    restored_text,
)
from slas.reporting.paper import Paper, Place, Promise
from slas.reporting.saying import credited_of, sentence_of, verdict_of

TEMPLATE: Final = Path(__file__).parent / "report.typ"
_PLACEHOLDER: Final = bytes(72)  # as long as a signature of P-256 can be


@dataclass(frozen=True, slots=True)
class Cover:
    """What the file says beside the paper: whose part it is, its SHA-256 and that of the root that vouches for keys
    (in hex), the revision's number, and how it differs from the one before (slas.reporting.diffing).
    """

    provider: str = ""
    part_sha256: str = ""
    root_sha256: str = ""
    number: int = 1
    diff: Mapping[str, Any] = field(default_factory=dict)


def pdf_of(paper: Paper, cover: Cover = Cover()) -> bytes:
    """The file, tagged (PDF/UA-1), not signed yet."""
    data = json.dumps(content_of(paper, cover), ensure_ascii=False)
    return bytes(_compiler().compile(sys_inputs={"report": data}, format="pdf", pdf_standards="ua-1"))


def pages_of(paper: Paper, cover: Cover = Cover()) -> list[bytes]:
    """The same pages as pictures (PNG), to be looked at."""
    found = _compiler().compile(sys_inputs={"report": json.dumps(content_of(paper, cover))}, format="png", ppi=80)
    return list(found) if isinstance(found, list) else [found]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A PDF file with a hole `[begin, end)` for its signature, and the attributes (DER) that are to be signed."""

    content: bytes
    begin: int
    end: int
    attributes: bytes


def prepared(file: bytes, keys: ReportKeys, at: datetime) -> Prepared:
    """The file with the place for a signature over all of it, by the key of PDF files, as signed at that moment."""
    return asyncio.run(_prepared(file, keys.pdf, keys.root, at))


def enveloped(attributes: bytes, signature: bytes, *, certificate: str, root: str) -> bytes:
    """The CMS (DER) that goes into the hole: the signature over the attributes, with the certificates (PEM)."""
    signer = _signer(certificate, root, signature)
    made = signer.async_sign_prescribed_attributes("sha256", signed_attrs=CMSAttributes.load(attributes))
    return bytes(asyncio.run(made).dump())


async def _prepared(file: bytes, certificate: str, root: str, at: datetime) -> Prepared:
    writer = IncrementalPdfFileWriter(BytesIO(file))
    metadata = signers.PdfSignatureMetadata(field_name="Report", reason="Service level report", md_algorithm="sha256")
    signer = _signer(certificate, root, _PLACEHOLDER)
    asked = signers.PdfSigner(metadata, signer).async_digest_doc_for_signing(writer)
    found, _, output = await asked
    settings = PdfCMSSignedAttributes(signing_time=at)
    attributes = await signer.signed_attrs(found.document_digest, "sha256", attr_settings=settings)
    output.seek(0)
    return Prepared(output.read(), found.reserved_region_start, found.reserved_region_end, bytes(attributes.dump()))


def _signer(certificate: str, root: str, signature: bytes) -> signers.ExternalSigner:
    """pyHanko's signer whose key is elsewhere."""
    registry = SimpleCertificateStore()  # type: ignore[no-untyped-call]  # pyHanko's own
    registry.register(_certificate(root))
    return signers.ExternalSigner(
        signing_cert=_certificate(certificate),
        cert_registry=registry,
        signature_value=signature,
        signature_mechanism=SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
        embed_roots=True,
    )


def content_of(paper: Paper, cover: Cover = Cover()) -> dict[str, Any]:
    """What the template lays out: texts alone, so that it counts nothing."""
    head, zone = paper.head, paper.head.zone
    return {
        "title": ": ".join(filter(None, (head.contract, period_text(head.period), cover.provider))),
        "provider": cover.provider,
        "part": cover.part_sha256,
        "root": cover.root_sha256,
        "before": f"revision {cover.number - 1}",
        "causes": list(cover.diff.get("causes", ())),
        "changes": [_changed(one) for one in cover.diff.get("promises", ())],
        "changed_sites": [_changed_site(one) for one in cover.diff.get("sites", ())],
        "decided": [
            f"{name_of(one.measure)}, {one.provider}: {one.by} decided on {percent(one.figure)},"
            f" {moment(one.at, zone)}: {one.reason}"
            for one in paper.decided
        ],
        "contract": head.contract,
        "period": period_text(head.period),
        "span": f"{moment(head.begin, zone)} to {moment(head.end, zone)} ({zone})",
        "as_of": moment(head.as_of, zone),
        "revision": head.revision,
        "version": str(head.version),
        "key": head.key,
        "verdict": verdict_of(paper),
        "sentence": sentence_of(paper),
        "promises": [_promise(one) for one in paper.promises],
        "places": [_place(one) for one in paper.places],
        "lost": [
            [
                moment(one.begin, zone),
                moment(one.end, zone),
                duration(one.lasted_ms),
                one.slug,
                name_of(one.kind),
                name_of(one.cause) + (" *" if one.is_corrected else ""),
                name_of(one.charged_to),
            ]
            for one in paper.lost
        ],
        "corrected": [f"Outage {one.number}, {one.slug}: {one.reason}" for one in paper.lost if one.is_corrected],
        "upkeep": [
            [
                moment(one.begin, zone),
                moment(one.end, zone),
                one.title,
                str(one.sites),
                name_of(one.state),
                one.asked_by,
                one.decided_by or "–",
            ]
            for one in paper.upkeep
        ],
        "restored": [
            [
                one.provider,
                RESTORED[one.measure],
                restored_text(one.measure, one.figure),
                str(one.limit),
                str(one.count),
                VERDICTS[one.verdict],
            ]
            for one in paper.restored
        ],
        **counted_content(paper),
        "credits": [
            [
                name_of(one.measure),
                one.provider,
                fee_text(one.fee, one.currency),
                f"{one.credit} {one.currency}",
            ]
            for one in credited_of(paper)
            if one.credit
        ],
    }


# ------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def _compiler() -> Any:
    """It keeps fonts and template, which take longer to read than a report to set."""
    return typst.Compiler(str(TEMPLATE), ignore_system_fonts=True)


def _certificate(text: str) -> Any:
    return x509.Certificate.load(pem.unarmor(text.encode())[2])


def _promise(one: Promise) -> dict[str, str]:
    totals, shares = one.totals, one.shares
    return {
        "name": f"{name_of(one.measure)}, {one.provider}",
        "terms": f"At least {percent(one.target)}, {name_of(one.reach).lower()}; {one.sites}"
        f" site{'' if one.sites == 1 else 's'}; burden of proof: {one.burden}",
        "verdict": one.verdict or "NONE",
        "measured": percent(shares.measured),
        "floor": percent(shares.floor),
        "ceiling": percent(shares.ceiling),
        "coverage": percent(shares.coverage),
        "times": " · ".join(
            f"{word} {duration(ms)}"
            for word, ms in (
                ("Service time", totals.scheduled_ms),
                ("excluded", totals.excluded_ms),
                ("unknown", totals.unknown_ms),
                ("down", totals.down_ms),
                ("degraded", totals.degraded_ms),
            )
            if ms or word == "Service time"
        ),
        "credit": credit_text(one.credit, one.fee, one.currency, one.part),
    }


def _changed(one: Mapping[str, Any]) -> list[str]:
    """A promise whose figures differ, as a row."""
    return [
        f"{name_of(one['measure'])}, {one['provider']}",
        _gained(one["ms"]),
        *(_from_to([share and f"{share} %" for share in one[name]]) for name in ("floor", "ceiling")),
        _from_to([VERDICTS.get(word, "–") for word in one["verdict"]]),
        _from_to(one["credit"]),
    ]


def _changed_site(one: Mapping[str, Any]) -> list[str]:
    return [one["slug"], name_of(one["measure"]), _gained(one["ms"])]


def _gained(ms: Mapping[str, int]) -> str:
    """Time gained and lost by class."""
    return ", ".join(f"{name} {'+' if gained > 0 else '−'}{duration(abs(gained))}" for name, gained in ms.items())


def _from_to(pair: Sequence[str | None]) -> str:
    before, after = ("–" if text is None else text for text in pair)
    return after if before == after else f"{before} → {after}"


def _place(one: Place) -> list[str]:
    shares = one.shares
    return [
        one.slug,
        name_of(one.measure),
        percent(shares.measured),
        percent(shares.floor),
        percent(shares.ceiling),
        duration(one.totals.down_ms),
        duration(one.totals.unknown_ms),
        VERDICTS[one.verdict],
    ]
