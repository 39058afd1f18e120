"""Builds and checks the certificates of a fleet: one root, an issuing CA a provider, one for the centre, and leaves.

No Django, no file, no clock. P-256 with SHA-256 throughout. What stands in a certificate is made here of numbers and of
the fleet's name; of a request only the public key is taken over.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.protocol.identity import check_fleet, documents_name, provider_domain, service_name, site_name

ROOT_LIFE: Final = timedelta(days=7_305)
ISSUER_LIFE: Final = timedelta(days=1_826)
SITE_LIFE: Final = timedelta(days=7)
SERVICE_LIFE: Final = timedelta(hours=24)
# A site's clock may be behind ours; by more than this, `agent doctor` has to speak of it.
BACKDATED: Final = timedelta(hours=1)

Service = Literal["dashboard", "gateway"]
Report = Literal["bundle", "pdf"]

_CLIENT: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_BOTH: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVICE_USAGE: Final = {"dashboard": _CLIENT, "gateway": _SERVER}
# A constraint on DNS names alone leaves addresses free, so every address is excluded.
_NO_ADDRESS: Final = [x509.IPAddress(ipaddress.ip_network(every)) for every in ("0.0.0.0/0", "::/0")]


class SignerError(Exception):
    """Nothing was signed. `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Issuer:
    """A CA that we hold: its private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True)
class Issued:
    """A leaf and its issuer, as they travel: `chain_pem` with the leaf first, `serial` 32 hex digits, `sha256` of the
    leaf's DER in hex; `name` is the only name in it.
    """

    chain_pem: tuple[str, str]
    serial: str
    not_before: datetime
    not_after: datetime
    sha256: str
    name: str


# CAs --------------------------------------------------------------------------------------------------------
def make_root(fleet: str, now: datetime) -> Issuer:
    """A fresh root for the fleet, 20 years. Raises ValueError for a fleet's name that is none."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _ca_name(check_fleet(fleet), "Archipelago root")
    builder = _builder(name, name, key.public_key(), now, now + ROOT_LIFE)
    return Issuer(key, _sign_ca(builder, key.public_key(), key, path_length=1))


def make_provider_issuer(root: Issuer, fleet: str, provider_id: int, now: datetime) -> Issuer:
    """A fresh issuing CA, 5 years, which can name sites of that provider and nothing else."""
    return _make_issuer(root, _provider_name(fleet, provider_id), provider_domains(fleet, provider_id), now)


def make_services_issuer(root: Issuer, fleet: str, now: datetime) -> Issuer:
    """A fresh issuing CA, 5 years, which can name the centre's services and nothing else."""
    return _make_issuer(root, _services_name(fleet), service_domains(fleet), now)


def provider_domains(fleet: str, provider_id: int) -> tuple[str, ...]:
    """The DNS subtrees of a provider's issuing CA."""
    return (provider_domain(fleet, provider_id),)


def service_domains(fleet: str) -> tuple[str, ...]:
    """The DNS subtrees of the services' issuing CA."""
    return (service_name(fleet, "dashboard"), service_name(fleet, "gateway"))


def check_root(root: Issuer, fleet: str) -> None:
    """Raises SignerError unless `root` is a whole root CA of this very fleet."""
    certificate = root.certificate
    if certificate.subject != _ca_name(fleet, "Archipelago root"):
        raise SignerError("keys", f"the root certificate belongs to another fleet than {fleet}")
    if certificate.public_key() != root.key.public_key() or not _is_signed_by(certificate, certificate):
        raise SignerError("keys", "the root certificate does not fit its key")


def check_issuer(issuer: Issuer, root: Issuer, domains: tuple[str, ...]) -> None:
    """Raises SignerError unless `issuer` was certified by `root`, fits its key, and can name `domains` alone."""
    certificate = issuer.certificate
    if certificate.public_key() != issuer.key.public_key():
        raise SignerError("keys", "an issuing certificate does not fit its key")
    if not _is_signed_by(certificate, root.certificate):
        raise SignerError("keys", "an issuing certificate was not made by this root")
    if _permitted(certificate) != domains:
        raise SignerError("keys", f"an issuing certificate is not limited to {', '.join(domains)}")


# Leaves -----------------------------------------------------------------------------------------------------
def certify_site(issuer: Issuer, *, fleet: str, provider_id: int, site: UUID, tls_key: bytes, now: datetime) -> Issued:
    """A site's certificate, 7 days. `tls_key` is DER, SubjectPublicKeyInfo. Raises SignerError."""
    name = site_name(fleet, provider_id, site)
    return _certify(issuer, name, f"s-{site}", _BOTH, read_public_key(tls_key), now, SITE_LIFE)


def certify_service(issuer: Issuer, *, fleet: str, service: Service, tls_key: bytes, now: datetime) -> Issued:
    """A service's certificate, 24 h: `dashboard` may only call, `gateway` only be called. Raises SignerError."""
    usage = _SERVICE_USAGE[service]
    name = service_name(fleet, service)
    return _certify(issuer, name, service, usage, read_public_key(tls_key), now, SERVICE_LIFE)


def certify_documents(root: Issuer, *, fleet: str, key: Ed25519PublicKey, now: datetime) -> x509.Certificate:
    """The root's word that this key signs what sites run. Sites need no other: they have pinned the root."""
    subject = _ca_name(fleet, "Archipelago documents")
    return _certify_key(root, subject, documents_name(fleet), key, now, _key_usage(ca=False))


def certify_reports(
    root: Issuer, *, fleet: str, kind: Report, key: ec.EllipticCurvePublicKey | Ed25519PublicKey, now: datetime
) -> x509.Certificate:
    """The root's word that this key signs reports. The name in it is none that a site would run anything of."""
    subject = _ca_name(fleet, f"Archipelago reports ({kind})")
    return _certify_key(root, subject, f"reports.{fleet}", key, now, _key_usage(ca=False, commits=True))


def check_certified(
    certificate: x509.Certificate, key: ec.EllipticCurvePublicKey | Ed25519PublicKey, root: Issuer, of: str
) -> None:
    """Raises SignerError unless the root certified this very key; `of` says what it is for."""
    if certificate.public_key() != key or not _is_signed_by(certificate, root.certificate):
        raise SignerError("keys", f"the certificate of {of} does not fit its key, or was not made by this root")


def read_public_key(tls_key: bytes) -> ec.EllipticCurvePublicKey:
    """The key in a DER SubjectPublicKeyInfo. Raises SignerError for anything but P-256 in its usual form.

    The form matters: pollers pin the hash of these very bytes.
    """
    try:
        key = load_der_public_key(tls_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignerError("key", "the public key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignerError("key", "the public key is not one of P-256")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != tls_key:
        raise SignerError("key", "the public key is not written in its usual form")
    return key


# Inside -----------------------------------------------------------------------------------------------------
def _certify_key(
    root: Issuer,
    subject: x509.Name,
    name: str,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    now: datetime,
    usage: x509.KeyUsage,
) -> x509.Certificate:
    """The root's own word on a key that signs; it ends with the root's."""
    until = min(now + ISSUER_LIFE, root.certificate.not_valid_after_utc)
    return (
        _builder(subject, root.certificate.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False)
        .sign(root.key, SHA256())
    )


def _certify(
    issuer: Issuer,
    name: str,
    common_name: str,
    usage: x509.ExtendedKeyUsage,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> Issued:
    """A leaf with exactly the DNS name `name`. `common_name` is for people: the field has room for 64 characters."""
    if not any(name == domain or name.endswith(f".{domain}") for domain in _permitted(issuer.certificate)):
        raise SignerError("name", f"{name} lies outside of what its issuer may name")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(subject, issuer.certificate.subject, key, now, now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, SHA256())
    )
    return Issued(
        chain_pem=(certificate.public_bytes(Encoding.PEM).decode(), issuer.pem),
        serial=f"{certificate.serial_number:032x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        name=name,
    )


def _make_issuer(root: Issuer, subject: x509.Name, domains: tuple[str, ...], now: datetime) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + ISSUER_LIFE, root.certificate.not_valid_after_utc)
    builder = _builder(subject, root.certificate.subject, key.public_key(), now, until).add_extension(
        x509.NameConstraints([x509.DNSName(domain) for domain in domains], _NO_ADDRESS), critical=True
    )
    return Issuer(key, _sign_ca(builder, key.public_key(), root.key, path_length=0))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before((now - BACKDATED).replace(microsecond=0))
        .not_valid_after(until.replace(microsecond=0))
    )


def _sign_ca(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePublicKey,
    by: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .sign(by, SHA256())
    )


def _key_usage(*, ca: bool, commits: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=commits,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_name(fleet: str, common_name: str) -> x509.Name:
    # By domain components: a common name has room for 64 characters, a fleet's name may have 120.
    parts = [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in reversed(fleet.split("."))]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _provider_name(fleet: str, provider_id: int) -> x509.Name:
    return _ca_name(fleet, f"Archipelago sites of provider {provider_id}")


def _services_name(fleet: str) -> x509.Name:
    return _ca_name(fleet, "Archipelago services")


def _permitted(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found.value.permitted_subtrees or ()) if found.critical else ()


def _is_signed_by(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
