"""Real handshakes, and certificates that the authority would never make."""

import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.kit.signing import _load
from fleet.signer.authority import Issuer


@dataclass(frozen=True)
class Party:
    """A key with the chain that certifies it."""

    key: ec.EllipticCurvePrivateKey
    chain_pem: tuple[str, ...]

    @property
    def pem(self) -> bytes:
        return private_pem(self.key) + "".join(self.chain_pem).encode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_der(key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rogue(issuer: Issuer | None, name: str, now: datetime, *, ca: bool = False) -> Party:
    """A certificate for any name, as a thief of the issuer's key would make it; without an issuer, self-signed."""
    key = new_key()
    by = issuer.key if issuer else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rogue")])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"], False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=ca, crl_sign=ca, decipher_only=False, **usage),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .sign(by, SHA256())
    )
    return Party(key, (certificate.public_bytes(Encoding.PEM).decode(), *([issuer.pem] if issuer else [])))


def context(side: int, party: Party | None, root_pem: str) -> ssl.SSLContext:
    """TLS 1.3, a certificate demanded of the other side, checked strictly. `side` is ssl.PROTOCOL_TLS_..."""
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=root_pem)
    if party:
        _load(made, party.pem)
    return made


@dataclass(frozen=True)
class Outcome:
    """Why each side refused ('' when it did not), and the names that each saw."""

    server: str
    client: str
    server_saw: tuple[str, ...] = ()
    client_saw: tuple[str, ...] = ()
    version: str | None = None


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Outcome:
    """One handshake over a socket pair, with a byte each way after it, since TLS 1.3 clients end before servers do."""
    ours, theirs = socket.socketpair()
    result: dict[str, object] = {}

    def serve() -> None:
        ours.settimeout(10)
        try:
            with server.wrap_socket(ours, server_side=True) as tls:
                result["server_saw"] = _names(tls)
                tls.recv(1)
                tls.sendall(b"y")
        except ssl.SSLCertVerificationError as error:
            result["server"] = error.verify_message
        except OSError as error:
            result["server"] = getattr(error, "reason", None) or str(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        theirs.settimeout(10)
        with client.wrap_socket(theirs, server_hostname=name) as tls:
            result["version"] = tls.version()
            result["client_saw"] = _names(tls)
            tls.sendall(b"x")
            tls.recv(1)
    except ssl.SSLCertVerificationError as error:
        result["client"] = error.verify_message
    except OSError as error:
        result["client"] = getattr(error, "reason", None) or str(error)
    finally:
        theirs.close()
        thread.join()
        ours.close()
    return Outcome(**{"server": "", "client": "", **result})


def _names(tls: ssl.SSLSocket) -> tuple[str, ...]:
    return tuple(name for _, name in (tls.getpeercert() or {}).get("subjectAltName", ()))
