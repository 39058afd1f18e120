"""A report as a PDF file: laid out by typst from plain data, tagged, and signed by the signer."""

import asyncio
import json
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import typst
from asn1crypto import pem, x509
from asn1crypto.algos import SignedDigestAlgorithm
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
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
    restored_text,
)
from slas.reporting.paper import Paper, Place, Promise
from slas.reporting.saying import credited_of, sentence_of, verdict_of

TEMPLATE: Final = Path(__file__).parent / "report.typ"
_PLACEHOLDER: Final = bytes(72)  # as long as a signature of P-256 can be
Sign = Callable[[bytes], bytes]


def pdf_of(paper: Paper) -> bytes:
    """The file, tagged (PDF/UA-1), not signed yet."""
    data = json.dumps(content_of(paper), ensure_ascii=False)
    return bytes(_compiler().compile(sys_inputs={"report": data}, format="pdf", pdf_standards="ua-1"))


def pages_of(paper: Paper) -> list[bytes]:
    """The same pages as pictures (PNG), to be looked at."""
    found = _compiler().compile(sys_inputs={"report": json.dumps(content_of(paper))}, format="png", ppi=80)
    return list(found) if isinstance(found, list) else [found]


def sign_pdf(file: bytes, keys: ReportKeys, sign: Sign) -> bytes:
    """The file with a signature over all of it, by whoever `sign` asks with the attributes that are to be signed."""
    writer = IncrementalPdfFileWriter(BytesIO(file))
    metadata = signers.PdfSignatureMetadata(field_name="Report", reason="Service level report", md_algorithm="sha256")
    made = signers.PdfSigner(metadata, _Asked(keys, sign)).sign_pdf(writer)
    return bytes(made.getvalue())


class _Asked(signers.Signer):
    """pyHanko's signer whose key is elsewhere."""

    def __init__(self, keys: ReportKeys, sign: Sign) -> None:
        self._sign = sign
        registry = SimpleCertificateStore()  # type: ignore[no-untyped-call]  # pyHanko's own
        registry.register(_certificate(keys.root))
        mechanism = SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"})
        super().__init__(
            signing_cert=_certificate(keys.pdf), cert_registry=registry, signature_mechanism=mechanism, embed_roots=True
        )

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:
        """The signature over the attributes, in DER."""
        return _PLACEHOLDER if dry_run else await asyncio.to_thread(self._sign, data)


def content_of(paper: Paper) -> dict[str, Any]:
    """What the template lays out: texts alone, so that it counts nothing."""
    head, zone = paper.head, paper.head.zone
    return {
        "title": f"{head.contract}: {head.period}",
        "contract": head.contract,
        "period": head.period,
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
        "terms": f"at least {percent(one.target)}, {name_of(one.reach).lower()}; {one.sites} sites; burden of proof:"
        f" {one.burden}",
        "verdict": one.verdict or "NONE",
        "measured": percent(shares.measured),
        "floor": percent(shares.floor),
        "ceiling": percent(shares.ceiling),
        "coverage": percent(shares.coverage),
        "times": " · ".join(
            f"{word} {duration(ms)}"
            for word, ms in (
                ("service time", totals.scheduled_ms),
                ("excluded", totals.excluded_ms),
                ("unknown", totals.unknown_ms),
                ("down", totals.down_ms),
                ("degraded", totals.degraded_ms),
            )
        ),
        "credit": credit_text(one.credit, one.fee, one.currency, one.part),
    }


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
