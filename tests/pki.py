"""A fleet's certificates for tests, made by the signer's own authority; and such as it would never make."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.identity import Identity, Keys, SiteTls, load_chain
from agent.protocol.identity import Certificates, site_name, tls_pin
from fleet.signer.authority import (
    Issuer,
    certify_service,
    certify_site,
    make_provider_issuer,
    make_root,
    make_services_issuer,
)
from sites.wire import Peer

FLEET = "test.example"
NOWHERE = "127.0.0.1:1"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Fleet:
    """A root of its own, an issuing CA for each provider that is asked for, and one for the centre."""

    name: str = FLEET
    gateway: str = NOWHERE
    root: Issuer = field(init=False)
    _issuers: dict[int, Issuer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = make_root(self.name, now())

    def issuer(self, provider_id: int = 1) -> Issuer:
        if provider_id not in self._issuers:
            self._issuers[provider_id] = make_provider_issuer(self.root, self.name, provider_id, now())
        return self._issuers[provider_id]

    @cached_property
    def services(self) -> Issuer:
        return make_services_issuer(self.root, self.name, now())

    def certificates(self, chain: tuple[str, ...]) -> Certificates:
        """A chain as a site is given it."""
        return Certificates(gateway=self.gateway, chain=chain, roots=(self.root.pem,), fleet=self.name)

    def site(
        self, site: UUID, *, provider_id: int = 1, keys: Keys | None = None, at: datetime | None = None
    ) -> Identity:
        """An enrolled site; `at` is when it was certified."""
        keys = keys or Keys.make()
        issued = certify_site(
            self.issuer(provider_id),
            fleet=self.name,
            provider_id=provider_id,
            site=site,
            tls_key=keys.public()[0],
            now=at or now(),
        )
        return Identity(site, keys, self.certificates(issued.chain_pem))

    def service(self, service: str, keys: Keys | None = None) -> Identity:
        """A process of the centre, its keys and certificate in the shape of a site's."""
        keys = keys or Keys.make()
        issued = certify_service(self.services, fleet=self.name, service=service, tls_key=keys.public()[0], now=now())
        return Identity(UUID(int=0), keys, self.certificates(issued.chain_pem))

    def peer(self, identity: Identity, address: str, *, provider_id: int = 1) -> Peer:
        """How a poller knows a site."""
        return Peer(address, site_name(self.name, provider_id, identity.site), tls_pin(identity.keys.public()[0]))

    def caller(self, identity: Identity | None) -> ssl.SSLContext:
        """The context of one who dials sites as `identity`, or with no certificate; as fleet.kit.signing makes it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self.root.pem)
        if identity is not None:
            load_chain(context, identity)
        return context

    @cached_property
    def dashboard(self) -> ssl.SSLContext:
        """The context of the one caller whom sites admit."""
        return self.caller(self.service("dashboard"))

    def server(self, identity: Identity) -> ssl.SSLContext:
        """The context of one who is dialled and asks no certificate: a stranger's, or a gateway's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        load_chain(context, identity)
        return context


def tls_of(*identities: Identity) -> list[SiteTls]:
    return [SiteTls(identity) for identity in identities]


def odd_leaf(
    issuer: Issuer | None,
    keys: Keys,
    name: str,
    *,
    begin: timedelta = timedelta(hours=-1),
    end: timedelta = timedelta(days=1),
    usage: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
) -> tuple[str, ...]:
    """A chain for any name, span and usage, as a thief of the issuer's key would make it; without one, self-signed."""
    key = keys.tls().public_key()
    by = issuer.key if issuer else keys.tls()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    no = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"], False
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() + begin)
        .not_valid_after(now() + end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, decipher_only=False, **no), True
        )
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .sign(by, SHA256())
    )
    return (leaf.public_bytes(Encoding.PEM).decode(), *([issuer.pem] if issuer else []))


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
