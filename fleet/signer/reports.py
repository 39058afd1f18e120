"""Signs reports: bundles of evidence and PDF files, each by a key that signs nothing else.

The form of what is signed is checked or made here, so that neither key's signature ever fits anything but a report.
"""

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from asn1crypto.core import Any as AnyValue
from asn1crypto.core import ObjectIdentifier, OctetString, Sequence, SetOf
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleet.signer.authority import Report, SignerError
from fleet.signer.keys import KeyStore, Leaf
from slas.envelope import told

# RFC 5652, 11.1, 11.2 and 4.
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_DATA: Final = "1.2.840.113549.1.7.1"


@dataclass(frozen=True, slots=True)
class ReportToSign:
    """What is read of a row: a bundle's payload, or the signed attributes of a PDF file's CMS signature (DER) with the
    SHA-256 of that very file outside of the place for its signature.
    """

    kind: Report
    content: bytes
    digest: bytes = b""


@dataclass(frozen=True)
class SignedReport:
    """A signature, and the certificate of the key that made it; bytes go as base64."""

    signature: bytes
    certificate: str
    sha256: str


def sign_report(store: KeyStore, report: ReportToSign) -> SignedReport:
    """Sign one report. Raises SignerError for what has not its form."""
    leaf = store.report(report.kind)
    if isinstance(leaf.key, Ed25519PrivateKey):
        signature = leaf.key.sign(told(report.content))
    else:
        _check_attributes(report.content, report.digest)
        signature = leaf.key.sign(report.content, ECDSA(SHA256()))
    return SignedReport(signature, _pem(leaf), sha256(report.content).hexdigest())


def report_keys(store: KeyStore) -> dict[str, Any]:
    """Whom to trust for reports: the root, the certificate of each key, and the raw public key of bundles (base64)."""
    bundle, pdf = store.report("bundle"), store.report("pdf")
    public = bundle.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {
        "root": store.root.pem,
        "bundle": _pem(bundle),
        "pdf": _pem(pdf),
        "bundle_key": base64.b64encode(public).decode(),
    }


class _Values(SetOf):  # type: ignore[misc]  # asn1crypto has no types
    _child_spec = AnyValue


class _Attribute(Sequence):  # type: ignore[misc]
    _fields = [("type", ObjectIdentifier), ("values", _Values)]


class _Attributes(SetOf):  # type: ignore[misc]
    """Read by numbers: asn1crypto's own names are a table for the whole process, which pyHanko adds to."""

    _child_spec = _Attribute


def _check_attributes(content: bytes, digest: bytes) -> None:
    """Raises SignerError unless these are the signed attributes of a CMS signature over data of that SHA-256."""
    try:
        found = {one["type"].dotted: list(one["values"]) for one in _Attributes.load(content, strict=True)}
        kinds = [one.parse(ObjectIdentifier).dotted for one in found[_CONTENT_TYPE]]
        digests = [one.parse(OctetString).native for one in found[_MESSAGE_DIGEST]]
        fits = kinds == [_DATA] and len(digest) == sha256().digest_size
    except (ValueError, TypeError, KeyError):
        fits = False
    if not fits:
        raise SignerError("report", "these are not the signed attributes of a PDF file's signature")
    if digests != [digest]:
        raise SignerError("report", "these attributes are of another file")


def _pem(leaf: Leaf) -> str:
    return leaf.certificate.public_bytes(Encoding.PEM).decode()
