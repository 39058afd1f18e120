"""The signed files of a report, put together from what was signed and the signature: the same bytes each time.

A bundle is a DSSE envelope; a PDF file has a hole for the CMS of its signature, which is written there in hex.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleet.kit.errors import Conflict
from slas.envelope import seal_bundle, told
from slas.models import ReportFile
from slas.states import FileKind

MOST_BYTES: Final = 32 * 1024 * 1024
CONTENT_TYPES: Final = {FileKind.PDF: "application/pdf", FileKind.BUNDLE: "application/json"}
SUFFIXES: Final = {FileKind.PDF: "pdf", FileKind.BUNDLE: "bundle.json"}


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """By which a reader knows the keys: hex SHA-256 of the raw key of a bundle, else empty; of the root's DER."""

    key: str
    root: str


def file_of(row: ReportFile) -> bytes:
    """The file of a row that is made. Raises Conflict where it is not what it was."""
    found = joined(row)
    if sha256(found).hexdigest() != row.sha256:
        raise Conflict("The file is damaged where it is kept; restore it from a backup.")
    return found


def joined(row: ReportFile) -> bytes:
    """What was signed and its signature as one file."""
    content, signature = bytes(row.content or b""), bytes(row.signature or b"")
    if row.kind == FileKind.BUNDLE:
        return seal_bundle(content, _bundle_key(row).public_bytes_raw(), signature)
    assert row.hole_begin is not None
    assert row.hole_end is not None
    filled = signature.hex().upper().encode()
    room = row.hole_end - row.hole_begin - 2  # it begins with < and ends with >
    if len(filled) > room:
        raise ValueError("the signature is longer than its place")
    return content[: row.hole_begin + 1] + filled.ljust(room, b"0") + content[row.hole_end - 1 :]


def is_signed(row: ReportFile, signature: bytes) -> bool:
    """Whether a raw signature is by the row's key over what the row has to be signed."""
    key = _certificate(row.certificate).public_key()
    try:
        if row.kind == FileKind.BUNDLE:
            assert isinstance(key, Ed25519PublicKey)
            key.verify(signature, told(bytes(row.content or b"")))
        else:
            assert isinstance(key, EllipticCurvePublicKey)
            key.verify(signature, bytes(row.attributes or b""), ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def fingerprints_of(row: ReportFile) -> Fingerprints:
    """Those of a row that is made; its content is not read."""
    key = sha256(_bundle_key(row).public_bytes_raw()).hexdigest() if row.kind == FileKind.BUNDLE else ""
    return Fingerprints(key, root_sha256(row.root))


def root_sha256(root: str) -> str:
    """The fingerprint of a certificate (PEM): hex SHA-256 of its DER."""
    return sha256(_certificate(root).public_bytes(Encoding.DER)).hexdigest()


# ------------------------------------------------------------------------------------------------------------
def _bundle_key(row: ReportFile) -> Ed25519PublicKey:
    key = _certificate(row.certificate).public_key()
    assert isinstance(key, Ed25519PublicKey)
    return key


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())
