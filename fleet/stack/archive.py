"""A backup's file: a tar of a manifest and a dump; and the signer's keys, encrypted, in a file of their own."""

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fleet.stack.errors import StackError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DUMP: Final = "database.dump"
LEDGER: Final = "ledger.sqlite"
LEAST_PASSPHRASE: Final = 12
_MOST_MANIFEST: Final = 4 << 20
_MOST_KEYS: Final = 256 << 20
_MAGIC: Final = b"archipelago-keys-1\n"
_COST: Final = {"n": 1 << 15, "r": 8, "p": 1}  # 32 MiB of memory, about 0.1 s


@dataclass(frozen=True)
class Manifest:
    """What is in a backup. `migrations` are pairs of (app, name); `rows` counts by table; `sha256` is the dump's."""

    made_at: str
    fleet: str
    migrations: list[list[str]]
    rows: dict[str, int]
    sha256: str
    size: int
    format: int = FORMAT


def pack(path: Path, manifest: Manifest, dump: Path) -> None:
    """Write the file in one step, mode 0600. Raises StackError."""
    try:
        with _replacing(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            _add(tar, MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
            tar.add(dump, DUMP, filter=_plain)
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror or error}.") from None


def unpack(path: Path, folder: Path) -> tuple[Manifest, Path]:
    """The manifest, and the dump written into `folder`, checked against it. Raises StackError."""
    try:
        with tarfile.open(path, "r:") as tar:
            manifest = _read_manifest(tar)
            member = tar.extractfile(DUMP)
            if member is None:
                raise StackError(f"{path} is no backup: it has no dump.")
            dump = folder / DUMP
            with dump.open("wb") as file:
                digest = _copy(member, file)
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise StackError(f"{path} is no backup that can be read: {error}") from None
    if digest != manifest.sha256:
        raise StackError(f"{path} is damaged: its dump is not the one that its manifest names.")
    return manifest, dump


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# The signer's keys ------------------------------------------------------------------------------------------
def seal_keys(folder: Path, path: Path, passphrase: str) -> list[str]:
    """Encrypt the keys and the ledger in `folder` to `path`; returns the names of what is in it. Raises StackError.

    The ledger is read as SQLite does, so a signer may run meanwhile.
    """
    _check_passphrase(passphrase)
    plain = io.BytesIO()
    try:
        files = sorted(folder.glob("*.pem"))
        if not files:
            raise StackError(f"There are no keys in {folder}.")
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for file in files:
                _add(tar, file.name, file.read_bytes())
            if (folder / LEDGER).exists():
                _add(tar, LEDGER, _ledger(folder / LEDGER))
        salt, nonce = os.urandom(16), os.urandom(12)
        header = json.dumps({"salt": salt.hex(), "nonce": nonce.hex(), **_COST}).encode() + b"\n"
        sealed = AESGCM(_derive(passphrase, salt, _COST)).encrypt(nonce, plain.getvalue(), _MAGIC + header)
        with _replacing(path) as out:
            out.write(_MAGIC + header + sealed)
    except (OSError, sqlite3.Error) as error:
        raise StackError(f"The keys in {folder} cannot be kept in {path}: {error}") from None
    return [file.name for file in files] + ([LEDGER] if (folder / LEDGER).exists() else [])


def open_keys(path: Path, passphrase: str) -> dict[str, bytes]:
    """The keys and the ledger in a file, by name. Raises StackError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StackError(f"{path} cannot be read: {error.strerror}.") from None
    header, _, sealed = data.removeprefix(_MAGIC).partition(b"\n")
    if not data.startswith(_MAGIC) or len(data) > _MOST_KEYS:
        raise StackError(f"{path} holds no keys.")
    try:
        named = json.loads(header)
        cost = {name: named[name] for name in _COST}
        if cost != _COST:  # a forged cost could ask for all the memory there is
            raise ValueError("another cost")
        key = _derive(passphrase, bytes.fromhex(named["salt"]), cost)
        plain = AESGCM(key).decrypt(bytes.fromhex(named["nonce"]), sealed, _MAGIC + header + b"\n")
    except InvalidTag:
        raise StackError(f"{path} does not open: the passphrase is another one, or the file was changed.") from None
    except (ValueError, KeyError, TypeError):
        raise StackError(f"{path} is damaged.") from None
    with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
        return {member.name: _bytes(tar, member) for member in tar.getmembers()}


def put_keys(found: dict[str, bytes], folder: Path) -> None:
    """Write keys into a folder that has none. Raises StackError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_no_keys(folder)
        for name, body in found.items():
            target = folder / Path(name).name
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StackError(f"The keys cannot be put into {folder}: {error.strerror}.") from None


def require_no_keys(folder: Path) -> None:
    """Raise StackError when the folder has keys: those in use are never overwritten."""
    if list(folder.glob("*.pem")) or (folder / LEDGER).exists():
        raise StackError(f"{folder} has keys already; move them away first if they are to go.")


# ------------------------------------------------------------------------------------------------------------
class _replacing:
    """A file that takes the place of `path` when it is whole and on the disk; mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Any:
        self._file = tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".new-", delete=False)
        return self._file

    def __exit__(self, kind: object, *rest: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None:
            os.replace(self._file.name, self._path)
        else:
            with suppress(OSError):
                os.unlink(self._file.name)


def _check_passphrase(passphrase: str) -> None:
    if len(passphrase) < LEAST_PASSPHRASE:
        raise StackError(f"The passphrase has fewer than {LEAST_PASSPHRASE} characters.")


def _derive(passphrase: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return Scrypt(salt=salt, length=32, **cost).derive(passphrase.encode())


def _ledger(path: Path) -> bytes:
    """The ledger at one moment, whatever the signer writes meanwhile."""
    with closing(sqlite3.connect(path, timeout=10)) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        return bytes(copy.serialize())


def _read_manifest(tar: tarfile.TarFile) -> Manifest:
    member = tar.getmember(MANIFEST)
    if member.size > _MOST_MANIFEST:
        raise ValueError("its manifest is too large")
    values = json.loads(_bytes(tar, member))
    if values.get("format") != FORMAT:
        raise ValueError(f"it is of format {values.get('format')}, and this release reads {FORMAT}")
    return Manifest(**values)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _copy(source: Any, target: Any) -> str:
    digest = hashlib.sha256()
    while block := source.read(1 << 20):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def _add(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(body), 0o600
    tar.addfile(member, io.BytesIO(body))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of this machine's users."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member
