"""Signing reports: by keys of their own, that sign nothing else; what has not the form of one is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyhanko.sign  # noqa: F401  (adds names to asn1crypto's table, which is made at its first use)
import pytest
from asn1crypto.cms import CMSAttribute, CMSAttributes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from agent.apply.trust import read_trust
from agent.protocol.identity import Certificates
from fleet.kit import signing
from fleet.kit.errors import NotFound
from fleet.kit.signing import SignerRefused
from fleet.signer.authority import ROOT_LIFE, SignerError
from fleet.signer.keys import KeyStore
from fleet.signer.reports import ReportToSign
from slas.envelope import told
from tests.fleet.signer.conftest import FLEET
from tests.slas.signing import signer_of_reports

NOW = datetime(2026, 11, 25, 21, tzinfo=UTC)


def attributes(kind: str = "data", digest: bytes = b"d" * 32) -> bytes:
    found = [
        CMSAttribute({"type": "content_type", "values": [kind]}),
        CMSAttribute({"type": "message_digest", "values": [digest]}),
    ]
    return bytes(CMSAttributes(found).dump())


@pytest.fixture
def files(tmp_path: Path, settings: Any) -> Any:
    """What the signer reads by id; it runs for the test."""
    rows: dict[int, ReportToSign] = {}

    def read(file_id: int) -> ReportToSign:
        if file_id not in rows:
            raise NotFound("there is no such file to sign")
        return rows[file_id]

    with signer_of_reports(tmp_path, read) as socket:
        settings.SIGNER_SOCKET = socket
        yield rows


def test_a_bundle_and_a_pdf_are_signed_by_keys_that_the_root_vouches_for(files: Any):
    files |= {1: ReportToSign("bundle", b"{}"), 2: ReportToSign("pdf", attributes(), b"d" * 32)}
    keys = signing.report_keys()
    root = x509.load_pem_x509_certificate(keys.root.encode())
    bundle, pdf = (x509.load_pem_x509_certificate(pem.encode()) for pem in (keys.bundle, keys.pdf))
    for certificate in (bundle, pdf):
        certificate.verify_directly_issued_by(root)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.digital_signature, usage.content_commitment, usage.key_cert_sign) == (True, True, False)
    ed, ec = bundle.public_key(), pdf.public_key()
    assert isinstance(ed, Ed25519PublicKey)
    assert isinstance(ec, EllipticCurvePublicKey)
    assert ed.public_bytes_raw() == keys.bundle_key
    ed.verify(signing.sign_report(1).signature, told(b"{}"))
    ec.verify(signing.sign_report(2).signature, attributes(), ECDSA(SHA256()))
    assert signing.sign_report(2).certificate == keys.pdf


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"DSSEv1 1 a 1 b", attributes("signed_data"), attributes(digest=b"short"), b"\x31\x80"]
)
def test_the_key_of_pdf_files_signs_nothing_but_their_attributes(files: Any, content: bytes):
    files[1] = ReportToSign("pdf", content, b"d" * 32)
    with pytest.raises(SignerRefused, match=r"not the signed attributes|of another file") as refused:
        signing.sign_report(1)
    assert refused.value.code == "report"


@pytest.mark.parametrize("digest", [b"", b"d" * 31, b"e" * 32])
def test_the_attributes_of_another_file_are_not_signed(files: Any, digest: bytes):
    files[1] = ReportToSign("pdf", attributes(digest=digest), digest if len(digest) < 32 else b"d" * 32)
    with pytest.raises(SignerRefused):
        signing.sign_report(1)


def test_what_is_not_to_be_signed_is_not(files: Any):
    with pytest.raises(SignerRefused) as refused:
        signing.sign_report(7)
    assert refused.value.code == "not_found"


def test_a_site_runs_nothing_that_the_key_of_reports_signed(files: Any):
    keys = signing.report_keys()
    found = read_trust(
        Certificates(
            gateway="a:1", chain=(keys.root,), roots=(keys.root,), fleet=FLEET, documents=(keys.bundle, keys.pdf)
        )
    )
    assert found.keys == ()
    assert [problem.rpartition(": ")[2] for problem in found.problems] == [
        f"it is not for documents.{FLEET}",
        "its key is not of Ed25519",
    ]


def test_the_keys_stay_and_their_certificates_are_renewed(tmp_path: Path):
    clock = [NOW]
    store = KeyStore(tmp_path / "keys", FLEET, lambda: clock[0])
    first = store.report("bundle")
    store.close()
    clock[0] = NOW + timedelta(days=1_500)
    store = KeyStore(tmp_path / "keys", FLEET, lambda: clock[0])
    again = store.report("bundle")
    store.close()
    assert again.key.public_key() == first.key.public_key()
    assert again.certificate.not_valid_after_utc > first.certificate.not_valid_after_utc
    assert again.certificate.not_valid_after_utc <= NOW + ROOT_LIFE


def test_a_key_that_the_root_did_not_certify_is_not_used(tmp_path: Path):
    for name in ("one", "other"):
        store = KeyStore(tmp_path / name, FLEET, lambda: NOW)
        store.report("pdf")
        store.close()
    (tmp_path / "one/reports-pdf.pem").write_bytes((tmp_path / "other/reports-pdf.pem").read_bytes())
    store = KeyStore(tmp_path / "one", FLEET, lambda: NOW)
    with pytest.raises(SignerError, match="certificate of reports"):
        store.report("pdf")
    store.close()
