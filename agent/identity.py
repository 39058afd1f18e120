"""A site's keys and certificates: made at the site, kept in its state folder, shown to whoever dials.

Two keys: P-256 for TLS and Ed25519 for signing. Neither ever leaves the machine.
"""

import os
import sqlite3
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agent import __version__
from agent.protocol import PROTOCOL
from agent.protocol.identity import (
    Certificates,
    EnrolRequest,
    RenewRequest,
    enrol_message,
    is_site_name,
    key_fingerprint,
    renew_message,
    service_name,
)

HANDSHAKE_S: Final = 10.0


class IdentityError(Exception):
    """The site's keys or certificates cannot be used; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The private keys of one site, PEM."""

    tls_pem: bytes
    signing_pem: bytes

    @classmethod
    def make(cls) -> "Keys":
        """New keys."""
        return cls(_pem(ec.generate_private_key(ec.SECP256R1())), _pem(Ed25519PrivateKey.generate()))

    def tls(self) -> ec.EllipticCurvePrivateKey:
        """The TLS key. Raises IdentityError."""
        key = _load(self.tls_pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise IdentityError("the TLS key is of another kind than it should be")
        return key

    def signing(self) -> Ed25519PrivateKey:
        """The signing key. Raises IdentityError."""
        key = _load(self.signing_pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise IdentityError("the signing key is of another kind than it should be")
        return key

    def public(self) -> tuple[bytes, bytes]:
        """Both public keys: TLS as DER SubjectPublicKeyInfo, signing raw."""
        tls = self.tls().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return tls, self.signing().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def fingerprint(self) -> str:
        """What the operator compares."""
        return key_fingerprint(*self.public())


@dataclass(frozen=True, slots=True)
class Identity:
    """One site's keys, and its certificates once it has been accepted."""

    site: UUID
    keys: Keys
    certificates: Certificates | None = None

    def enrol_request(self, secret: bytes, *, host: str) -> EnrolRequest:
        """What is sent with a join string's secret, the same each time but for the signatures."""
        tls_key, signing_key = self.keys.public()
        message = enrol_message(self.site, secret, tls_key, signing_key)
        return EnrolRequest(
            protocol=PROTOCOL,
            site=self.site,
            secret=secret,
            tls_key=tls_key,
            signing_key=signing_key,
            tls_proof=self.keys.tls().sign(message, ec.ECDSA(hashes.SHA256())),
            signing_proof=self.keys.signing().sign(message),
            agent=__version__,
            host=host[:255],
        )

    def renew_request(self, nonce: bytes) -> RenewRequest:
        """What asks for a new certificate of the same key."""
        tls_key, _ = self.keys.public()
        message = renew_message(self.site, nonce, tls_key)
        return RenewRequest(
            site=self.site,
            nonce=nonce,
            tls_key=tls_key,
            tls_proof=self.keys.tls().sign(message, ec.ECDSA(hashes.SHA256())),
            signing_proof=self.keys.signing().sign(message),
        )

    def validity(self) -> tuple[datetime, datetime]:
        """When the certificate begins and ends. Raises IdentityError where there is none."""
        if self.certificates is None:
            raise IdentityError("this site has no certificate yet")
        leaf = x509.load_pem_x509_certificate(self.certificates.chain[0].encode())
        return leaf.not_valid_before_utc, leaf.not_valid_after_utc

    def name(self) -> str:
        """The name in its certificate, by which it is dialled. Raises IdentityError where there is none."""
        if self.certificates is None:
            raise IdentityError("this site has no certificate yet")
        leaf = x509.load_pem_x509_certificate(self.certificates.chain[0].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName)[0]

    def renews_at(self) -> datetime:
        """Half-life: from then on the certificate is to be renewed. Raises IdentityError."""
        begin, end = self.validity()
        return begin + (end - begin) / 2

    def with_certificates(self, certificates: Certificates, *, root_sha256: bytes | None = None) -> "Identity":
        """The same site with certificates of the centre, if they are for its key. Raises IdentityError.

        Each root must be one that the site has, or be issued by one; at enrolment, the one whose hash the join string
        names. So a gateway that was broken into brings no root of its own, nor keys for documents.
        """
        try:
            leaf = x509.load_pem_x509_certificate(certificates.chain[0].encode())
            [x509.load_pem_x509_certificate(pem.encode()) for pem in certificates.chain[1:]]
            roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in certificates.roots]
        except ValueError as error:
            raise IdentityError(f"the centre sent a certificate that cannot be read: {error}") from None
        certified = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certified != self.keys.public()[0]:
            raise IdentityError("the centre sent a certificate for another key")
        own = self._own_roots(roots, root_sha256)
        if own is not None and not all(root in own or any(_signed(root, mine) for mine in own) for root in roots):
            raise IdentityError("the gateway sent a root that no root of this site vouches for")
        return replace(self, certificates=certificates)

    def _own_roots(self, sent: list[x509.Certificate], root_sha256: bytes | None) -> list[x509.Certificate] | None:
        """The roots to judge others by; None where there are none yet."""
        if root_sha256 is not None:
            return [root for root in sent if root.fingerprint(hashes.SHA256()) == root_sha256]
        if self.certificates is None:
            return None
        return [x509.load_pem_x509_certificate(pem.encode()) for pem in self.certificates.roots]

    def with_chain(self, chain: tuple[str, ...], *, documents: tuple[str, ...], now: datetime) -> "Identity":
        """The same site with another chain that its own roots vouch for, for this very site and valid now.

        A chain that nobody can check would cut the site off. Raises IdentityError.
        """
        if self.certificates is None:
            raise IdentityError("this site has no certificate yet")
        renewed = self.with_certificates(
            msgspec.structs.replace(
                self.certificates,
                chain=chain,
                documents=documents,
            )
        )
        leaf, *issuers = [x509.load_pem_x509_certificate(pem.encode()) for pem in chain]
        if not _vouched(leaf, issuers, [x509.load_pem_x509_certificate(p.encode()) for p in self.certificates.roots]):
            raise IdentityError("no root of this site vouches for the certificate that the centre sent")
        names = certified_names(chain[0])
        if not names or not all(is_site_name(name, self.certificates.fleet, self.site) for name in names):
            raise IdentityError("the centre sent the certificate of another site")
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            raise IdentityError("the certificate that the centre sent is not valid now; is the clock right?")
        return renewed


def _vouched(leaf: x509.Certificate, issuers: list[x509.Certificate], roots: list[x509.Certificate]) -> bool:
    """Whether each certificate is signed by the next, and the last by a root."""
    above = leaf
    for issuer in issuers:
        if not _signed(above, issuer):
            return False
        above = issuer
    return any(_signed(above, root) for root in roots)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


# TLS --------------------------------------------------------------------------------------------------------
class SiteTls:
    """The TLS context of one site. update() serves new certificates to new connections; open ones go on."""

    def __init__(self, identity: Identity) -> None:
        """Raises IdentityError where the identity has no certificates, or they do not fit."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.verify_flags |= ssl.VERIFY_X509_STRICT
        self.context.num_tickets = 0  # connections are kept, not resumed
        self.caller = ""
        self.names: frozenset[str] = frozenset()
        self.update(identity)

    def update(self, identity: Identity) -> None:
        """Take the identity's present certificates. Raises IdentityError."""
        certificates = identity.certificates
        if certificates is None:
            raise IdentityError("this site has no certificate yet")
        load_chain(self.context, identity)
        try:
            self.context.load_verify_locations(cadata="\n".join(certificates.roots))
        except ssl.SSLError as error:
            raise IdentityError(f"the centre's root cannot be read: {error.reason}") from None
        self.caller = service_name(certificates.fleet, "dashboard")
        self.names = certified_names(certificates.chain[0])

    def admits(self, ssl_object: ssl.SSLObject) -> bool:
        """Whether a connection was dialled by this site's name, and by the centre's dashboard and nobody else."""
        return ssl_object.context is self.context and self.caller in names_of(ssl_object.getpeercert())


def certified_names(leaf_pem: str) -> frozenset[str]:
    """The DNS names in a certificate."""
    leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(names.get_values_for_type(x509.DNSName))


def load_chain(context: ssl.SSLContext, identity: Identity) -> None:
    """Give a context the site's key and certificates. They pass through memory, not a file. Raises IdentityError."""
    assert identity.certificates is not None
    memory = os.memfd_create("site", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.write(identity.keys.tls_pem + "\n".join(identity.certificates.chain).encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    except ssl.SSLError as error:
        raise IdentityError(f"the site's certificate and key do not fit: {error.reason}") from None
    finally:
        os.close(memory)


def names_of(certificate: Mapping[str, object] | None) -> list[str]:
    """DNS names of a certificate as ssl's getpeercert() gives it."""
    names = (certificate or {}).get("subjectAltName", ())
    return [value for kind, value in names if kind == "DNS"] if isinstance(names, tuple) else []


# Keeping ----------------------------------------------------------------------------------------------------
class IdentityStore(Protocol):
    """Where identities are kept between runs."""

    def get(self, site: UUID) -> Identity | None:
        """The site's identity, if it has one. Raises IdentityError when it cannot be read."""
        ...

    def put(self, *identities: Identity) -> None:
        """Keep identities, in place of those of the same sites. Raises IdentityError."""
        ...


class IdentityFile:
    """Identities of one site or many in one SQLite file of mode 600; a crash leaves the old or the new, never half."""

    def __init__(self, path: Path) -> None:
        """Raises IdentityError when the file cannot be made or read."""
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with closing(self._open()) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS identity (site TEXT PRIMARY KEY, tls_pem BLOB NOT NULL,"
                    " signing_pem BLOB NOT NULL, certificates BLOB) WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            raise IdentityError(f"{path} cannot be used: {error}") from None

    def get(self, site: UUID) -> Identity | None:
        """See IdentityStore."""
        return self.all([site]).get(site)

    def sites(self) -> list[UUID]:
        """Whose identities there are. Raises IdentityError."""
        try:
            with closing(self._open()) as database:
                return [UUID(site) for (site,) in database.execute("SELECT site FROM identity ORDER BY site")]
        except (sqlite3.Error, ValueError) as error:
            raise IdentityError(f"{self._path} cannot be read: {error}") from None

    def all(self, sites: list[UUID]) -> dict[UUID, Identity]:
        """The identities that there are of these sites. Raises IdentityError."""
        wanted = set(map(str, sites))
        try:
            with closing(self._open()) as database:
                rows = database.execute("SELECT site, tls_pem, signing_pem, certificates FROM identity").fetchall()
            return {
                UUID(site): Identity(
                    UUID(site), Keys(tls, signing), msgspec.json.decode(packed, type=Certificates) if packed else None
                )
                for site, tls, signing, packed in rows
                if site in wanted
            }
        except (sqlite3.Error, ValueError) as error:
            raise IdentityError(f"{self._path} cannot be read: {error}") from None

    def put(self, *identities: Identity) -> None:
        """See IdentityStore. Returns when it is on the disk."""
        rows = [
            (
                str(identity.site),
                identity.keys.tls_pem,
                identity.keys.signing_pem,
                msgspec.json.encode(identity.certificates) if identity.certificates else None,
            )
            for identity in identities
        ]
        try:
            with closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO identity VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise IdentityError(f"{self._path} cannot be written: {error}") from None

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=10)
        database.execute("PRAGMA synchronous = FULL")
        return database


def _pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(pem: bytes) -> object:
    try:
        return load_pem_private_key(pem, None)
    except ValueError as error:
        raise IdentityError(f"a private key cannot be read: {error}") from None
