"""Signing what sites run: by the key that the root vouches for, once a version, whatever the database says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from agent.protocol.desired import (
    DesiredWorkload,
    Document,
    Policy,
    encode_document,
    envelope_document,
    open_document,
)
from fleet.kit import signing
from fleet.kit.errors import Conflict
from fleet.kit.signing import Signed, SignerRefused
from fleet.signer.authority import SignerError
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import FILE, Ledger, Version
from tests.fleet.signer.conftest import FLEET

NOW = datetime(2026, 11, 25, 21, tzinfo=UTC)
SITE, OTHER = UUID(int=1), UUID(int=2)


def document(site: UUID = SITE, version: int = 1, **values: Any) -> Document:
    fields: dict[str, Any] = {
        "fleet": FLEET,
        "provider": 7,
        "site": site,
        "epoch": 1,
        "version": version,
        "prev_sha256": None,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(days=7),
        "hold": False,
        "standard": None,
        "workloads": (),
        "agent": None,
        "os": None,
        "policy": Policy(),
        "rollout": None,
    }
    return Document(**fields | values)


def codes(answers: list[Signed | SignerRefused]) -> list[str]:
    return [answer.code if isinstance(answer, SignerRefused) else "signed" for answer in answers]


def test_what_is_signed_is_opened_by_the_key_that_the_root_vouches_for(start: Any) -> None:
    running = start()
    running.documents[1] = made = document()
    (signed,) = signing.sign_documents([1])
    assert isinstance(signed, Signed)
    roots = signing.roots()
    (pem,) = roots.documents
    certificate = x509.load_pem_x509_certificate(pem.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(roots.roots[0].encode()))
    assert certificate.public_key().public_bytes_raw() == signed.key
    names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert names.get_values_for_type(x509.DNSName) == [f"documents.{FLEET}"]
    envelope = envelope_document(encode_document(made), signed.key, signed.signature)
    assert open_document(envelope, [signed.key]) == made


def test_a_version_is_signed_once_and_the_same_one_again_is_the_same(start: Any) -> None:
    running = start()
    running.documents |= {1: document(version=5), 2: document(version=4), 3: document(OTHER)}
    first = signing.sign_documents([1, 3])
    assert codes(first) == ["signed", "signed"]
    assert signing.sign_documents([1, 3]) == first
    assert codes(signing.sign_documents([2, 3])) == ["overtaken", "signed"]
    running.documents[1] = document(version=5, hold=True)
    assert codes(signing.sign_documents([1])) == ["overtaken"]
    running.documents[1] = document(version=1, epoch=2)
    assert codes(signing.sign_documents([1])) == ["signed"]


def test_one_that_may_not_be_signed_keeps_no_other_from_it(start: Any) -> None:
    running = start()
    workload = DesiredWorkload(name="pos", image="r.example/pos@sha256:" + "0" * 64)
    running.documents |= {
        1: document(fleet="other.example"),
        2: document(workloads=(workload, workload)),
        3: Conflict("the site is not active"),
        4: document(OTHER),
    }
    assert codes(signing.sign_documents([1, 2, 3, 4, 5])) == ["fleet", "document", "conflict", "signed", "not_found"]


def test_its_own_rate_bounds_it(start: Any) -> None:
    running = start(documents=2)
    running.documents |= {1: document(), 2: document(OTHER)}
    assert codes(signing.sign_documents([1, 2])) == ["signed", "signed"]
    with pytest.raises(SignerRefused, match="rate"):
        signing.sign_documents([1])


def test_the_ledger_outlives_the_process_and_is_for_its_user_alone(tmp_path: Any) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.enter([Version(SITE, 1, 3, "a")]) == {}
    ledger.close()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    ledger = Ledger(tmp_path)
    said = ledger.enter([Version(SITE, 1, 3, "b"), Version(OTHER, 1, 1, "c")])
    assert said == {SITE: "version 1.3 is not newer than 1.3, which was signed before"}
    assert ledger.enter([Version(SITE, 1, 3, "a"), Version(SITE, 2, 1, "d"), Version(OTHER, 1, 1, "c")]) == {}
    ledger.close()


def test_a_ledger_that_is_none_is_said(tmp_path: Any) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, but long enough to be read as one" * 40)
    with pytest.raises(SignerError, match="cannot be used"):
        Ledger(tmp_path)


def test_a_key_from_before_there_were_certificates_gets_one(tmp_path: Any) -> None:
    def clock() -> datetime:
        return NOW

    store = KeyStore(tmp_path / "keys", FLEET, clock)
    public = store.documents.public_key()
    store.close()
    path = tmp_path / "keys" / "documents.pem"
    path.write_bytes(path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")[0])
    store = KeyStore(tmp_path / "keys", FLEET, clock)
    assert store.documents.public_key() == public
    assert store.documents_pem.encode() in path.read_bytes()
    store.close()
    KeyStore(tmp_path / "keys", FLEET, clock).close()
