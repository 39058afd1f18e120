"""Which keys may sign desired state for a site: those that the site's own roots have certified for just that.

Pure: no I/O, no clock. The certificates come through the gateway, which is not believed: only the fleet's root, which
the site pinned at enrolment, can make one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.protocol import format_time
from agent.protocol.identity import Certificates, documents_name

NO_KEY: Final = "this site was given no key that may sign documents"


class TrustError(Exception):
    """No key may be believed; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """A raw Ed25519 public key that may sign documents, from `begin` to `end`."""

    raw: bytes
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys that a root has certified, whenever they are valid; `problems` say why others were not believed."""

    keys: tuple[DocumentKey, ...] = ()
    problems: tuple[str, ...] = ()

    def at(self, now: datetime) -> tuple[bytes, ...]:
        """The raw keys that are valid at that time. Raises TrustError where there is none, and says if it is the clock.

        An expired key is no longer believed, whoever holds it.
        """
        valid = tuple(key.raw for key in self.keys if key.begin <= now <= key.end)
        if valid:
            return valid
        if not self.keys:
            raise TrustError("; ".join((NO_KEY, *self.problems)))
        newest = max(self.keys, key=lambda key: key.end)
        raise TrustError(
            f"the clock of this machine says {format_time(now)}, but the key that signs documents is valid from"
            f" {format_time(newest.begin)} to {format_time(newest.end)}: is the clock right?"
        )


def read_trust(certificates: Certificates) -> Trust:
    """The keys among `certificates.documents` that `certificates.roots` vouch for, for this fleet's documents."""
    keys: list[DocumentKey] = []
    problems: list[str] = []
    roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in certificates.roots]
    for pem in certificates.documents:
        try:
            keys.append(_read_key(pem, roots, documents_name(certificates.fleet)))
        except (TrustError, ValueError) as error:
            problems.append(f"a certificate for documents is not believed: {error}")
    return Trust(tuple(keys), tuple(problems))


def _read_key(pem: str, roots: list[x509.Certificate], name: str) -> DocumentKey:
    """Raises TrustError, or ValueError for what cannot be read."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    if not any(_issued(certificate, root) for root in roots):
        raise TrustError("no root of this site has issued it")
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError("its key is not of Ed25519")
    found = {extension.oid: extension for extension in certificate.extensions}
    names = found.get(x509.SubjectAlternativeName.oid)
    if names is None or list(names.value) != [x509.DNSName(name)]:
        raise TrustError(f"it is not for {name}")
    usage = found.get(x509.KeyUsage.oid)
    if usage is None or not usage.critical or not _signs_only(usage.value):
        raise TrustError("its key is not for signatures alone")
    basic = found.get(x509.BasicConstraints.oid)
    if basic is not None and basic.value.ca:
        raise TrustError("it is that of an issuer")
    return DocumentKey(key.public_bytes_raw(), certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _signs_only(usage: x509.KeyUsage) -> bool:
    others = (usage.content_commitment, usage.key_encipherment, usage.data_encipherment, usage.key_agreement)
    return usage.digital_signature and not any((*others, usage.key_cert_sign, usage.crl_sign))
