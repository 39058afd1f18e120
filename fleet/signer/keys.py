"""The centre's private keys, in one folder that nobody else may read. A file holds a key and its certificate, PEM.

`root.pem`, `services.pem`, `provider-<id>.pem`, `documents.pem` (Ed25519, signs desired state), and for reports
`reports-bundle.pem` (Ed25519) and `reports-pdf.pem` (P-256, which readers of PDF know), made on first use.
"""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleet.signer import authority
from fleet.signer.authority import Issuer, SignerError

RENEW_BELOW: Final = 0.25  # of an issuing CA's life
_ROOT: Final = "root.pem"
_SERVICES: Final = "services.pem"
_DOCUMENTS: Final = "documents.pem"


SigningKey = EllipticCurvePrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that signs, and the root's certificate of it."""

    key: SigningKey
    certificate: x509.Certificate


class KeyStore:
    """Opens (or begins) the keys of a fleet, and makes what is missing on first use. Safe among threads.

    One process at a time: the folder is locked for as long as the store is open. Raises SignerError when the folder or
    a file in it may be read by others, is damaged, belongs to another fleet, or is in use.
    """

    def __init__(self, folder: Path, fleet: str, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._fleet = fleet
        self._now = now
        self._lock = Lock()
        self._issuers: dict[str, Issuer] = {}
        self._leaves: dict[str, Leaf] = {}
        self._descriptor = _open_folder(folder)
        try:
            self._check_files()
            self.root = self._open_root()
            self.services()
            self.documents, self._documents_certificate = self._open_documents()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the folder. The keys stay in memory."""
        os.close(self._descriptor)

    @property
    def root_sha256(self) -> str:
        """SHA-256 in hex of the root certificate's DER: what a join string pins."""
        return sha256(self.root.certificate.public_bytes(Encoding.DER)).hexdigest()

    def services(self) -> Issuer:
        """The CA of the centre's services, renewed when little of its life is left."""
        return self._issuer(
            _SERVICES,
            authority.service_domains(self._fleet),
            lambda now: authority.make_services_issuer(self.root, self._fleet, now),
        )

    def provider(self, provider_id: int) -> Issuer:
        """The CA of a provider's sites, made on first use, renewed when little of its life is left."""
        return self._issuer(
            f"provider-{provider_id}.pem",
            authority.provider_domains(self._fleet, provider_id),
            lambda now: authority.make_provider_issuer(self.root, self._fleet, provider_id, now),
        )

    def _issuer(self, name: str, domains: tuple[str, ...], make: Callable[[datetime], Issuer]) -> Issuer:
        with self._lock:
            now = self._now()
            issuer = self._issuers.get(name) or self._read_issuer(name, domains)
            if issuer is None or _is_old(issuer.certificate, now):
                issuer = make(now)
                self._write(name, _pem(issuer.key) + issuer.pem.encode())
            self._issuers[name] = issuer
            return issuer

    def _read_issuer(self, name: str, domains: tuple[str, ...]) -> Issuer | None:
        issuer = self._read(name)
        if issuer is not None:
            authority.check_issuer(issuer, self.root, domains)
        return issuer

    def _open_root(self) -> Issuer:
        root = self._read(_ROOT)
        if root is None:
            others = sorted(path.name for path in self._folder.glob("*.pem"))
            if others:  # a new root would quietly cut off the whole fleet
                raise SignerError("keys", f"{self._folder} has {others[0]} but no {_ROOT}; restore it from the backup")
            root = authority.make_root(self._fleet, self._now())
            self._write(_ROOT, _pem(root.key) + root.pem.encode())
        authority.check_root(root, self._fleet)
        return root

    @property
    def documents_pem(self) -> str:
        """The certificate of the key that signs documents, renewed when little of its life is left."""
        with self._lock:
            if _is_old(self._documents_certificate, self._now()):
                self._documents_certificate = self._certify_documents(self.documents)
            return self._documents_certificate.public_bytes(Encoding.PEM).decode()

    def report(self, kind: authority.Report) -> Leaf:
        """The key that signs bundles, or that of PDF files: made on first use, certified anew in time."""
        with self._lock:
            now, name = self._now(), f"reports-{kind}.pem"
            leaf = self._leaves.get(kind) or self._read_leaf(name, "reports")
            if leaf is None or _is_old(leaf.certificate, now):
                key: SigningKey = leaf.key if leaf else _new_key(kind)
                made = authority.certify_reports(self.root, fleet=self._fleet, kind=kind, key=key.public_key(), now=now)
                self._write(name, _pem(key) + made.public_bytes(Encoding.PEM))
                leaf = Leaf(key, made)
            self._leaves[kind] = leaf
            return leaf

    def _open_documents(self) -> tuple[Ed25519PrivateKey, x509.Certificate]:
        data = self._read_bytes(_DOCUMENTS)
        if data is None:
            key = Ed25519PrivateKey.generate()
            return key, self._certify_documents(key)
        found = _load_key(_DOCUMENTS, data)
        if not isinstance(found, Ed25519PrivateKey):
            raise SignerError("keys", f"{_DOCUMENTS} is damaged: its key is not one of Ed25519")
        if b"BEGIN CERTIFICATE" not in data:
            return found, self._certify_documents(found)
        certificate = _load_certificate(_DOCUMENTS, data)
        authority.check_certified(certificate, found.public_key(), self.root, "documents")
        return found, certificate

    def _read_leaf(self, name: str, of: str) -> Leaf | None:
        data = self._read_bytes(name)
        if data is None:
            return None
        key, certificate = _load_key(name, data), _load_certificate(name, data)
        if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
            raise SignerError("keys", f"{name} is damaged: its key is of another kind")
        authority.check_certified(certificate, key.public_key(), self.root, of)
        return Leaf(key, certificate)

    def _certify_documents(self, key: Ed25519PrivateKey) -> x509.Certificate:
        made = authority.certify_documents(self.root, fleet=self._fleet, key=key.public_key(), now=self._now())
        self._write(_DOCUMENTS, _pem(key) + made.public_bytes(Encoding.PEM))
        return made

    def _read(self, name: str) -> Issuer | None:
        data = self._read_bytes(name)
        if data is None:
            return None
        key = _load_key(name, data)
        certificate = _load_certificate(name, data)
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise SignerError("keys", f"{name} is damaged: its key is not one of P-256")
        return Issuer(key, certificate)

    def _read_bytes(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SignerError("keys", f"{name} cannot be read: {error.strerror}") from None

    def _check_files(self) -> None:
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".new-"):  # left by a power loss; it never became a key
                path.unlink()
            elif path.suffix == ".pem":
                _check_private(path, stat.S_ISREG)

    def _write(self, name: str, data: bytes) -> None:
        """Replace the file in one step that survives a power loss."""
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")  # mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self._folder / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            os.fsync(self._descriptor)
        except OSError as error:
            raise SignerError("keys", f"{self._folder / name} cannot be written: {error.strerror}") from None


def _open_folder(folder: Path) -> int:
    """Make the folder where it is missing, and lock it. The lock ends with the descriptor."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder, stat.S_ISDIR)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SignerError("keys", f"the folder of keys {folder} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        busy = error.errno == errno.EWOULDBLOCK
        raise SignerError("keys", f"{folder} is {'in use by another signer' if busy else 'not lockable'}") from None
    return descriptor


def _check_private(path: Path, is_kind: Callable[[int], bool]) -> None:
    found = path.lstat()
    if not is_kind(found.st_mode):
        raise SignerError("keys", f"{path} is not what it should be (a link, or a special file)")
    if found.st_uid != os.geteuid():
        raise SignerError("keys", f"{path} belongs to another user")
    if found.st_mode & 0o077:
        raise SignerError("keys", f"{path} may be read or changed by others (mode {found.st_mode & 0o777:o})")


def _is_old(certificate: x509.Certificate, now: datetime) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return end - now < (end - begin) * RENEW_BELOW


def _new_key(kind: authority.Report) -> SigningKey:
    return Ed25519PrivateKey.generate() if kind == "bundle" else generate_private_key(SECP256R1())


def _pem(key: SigningKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(name: str, data: bytes) -> object:
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SignerError("keys", f"{name} is damaged: its key cannot be read") from None


def _load_certificate(name: str, data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise SignerError("keys", f"{name} is damaged: its certificate cannot be read") from None
