"""Desired state: the one small signed document that says what a site runs, and what the site says of it.

Pure: no I/O, no clock, no framework.

A document is made by the centre's signer alone, once per (site, version), in a DSSE envelope whose bytes are stored
and resent as they are. Its payload has one form of bytes (see entries.check_canonical), so duplicate keys, NaN and
needless depth are refused, and members that are not known here are refused too: what is signed is never half-obeyed.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeVar, cast
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta, Struct

from agent.protocol.entries import Number, check_canonical
from agent.protocol.envelope import envelope_of, open_envelope, payload_of, seal_envelope, signed_by, to_sign
from agent.protocol.report import Count, Name, ProtocolError, Sha256, Text, Time, Word, format_time

T = TypeVar("T")
DOCUMENT_TYPE: Final = "application/vnd.archipelago.desired.v1+json"
RECEIPT_TYPE: Final = "application/vnd.archipelago.receipt.v1+json"
MAX_DOCUMENT_BYTES: Final = 256 * 1024
MAX_PAYLOAD_BYTES: Final = MAX_DOCUMENT_BYTES * 3 // 4 - 512  # in base64, with the signature around it
MAX_BLOB_BYTES: Final = 16 << 20
MAX_PIECE_BYTES: Final = 256_000
MAX_WORKLOADS: Final = 64
MAX_PACKAGES: Final = 512
_IMAGE: Final = r"^[a-z0-9][a-z0-9._:/-]{0,400}@sha256:[0-9a-f]{64}\Z"
_NAME: Final = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z"
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]{0,127}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

WorkloadName = Annotated[str, Meta(pattern=_NAME)]
Image = Annotated[str, Meta(pattern=_IMAGE)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Path = Annotated[str, Meta(pattern=r"^/[^\0]{0,511}\Z")]
Seconds = Annotated[float, Meta(gt=0, le=3_600)]
Reboot = Literal["never", "if_required", "window"]

# States of a document at a site, in the order in which they come; the last four end it.
DesiredState = Literal[
    "none", "accepted", "staging", "staged", "applying", "held", "applied", "failed", "rolled_back", "superseded"
]
ENDED: Final = frozenset({"applied", "failed", "rolled_back", "superseded"})
Refusal = Literal[
    "too_large", "signature", "malformed", "not_mine", "older", "equivocation", "expired", "blobs_missing", "storage"
]


# The document -----------------------------------------------------------------------------------------------
class Standard(Struct, frozen=True, forbid_unknown_fields=True):
    """The central standard that the document brings the site to."""

    id: Number
    sha256: Sha256


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of a workload; None leaves it unbounded. `cpus` are cores."""

    cpus: Annotated[float, Meta(gt=0, le=1_024)] | None = None
    mem_bytes: Annotated[int, Meta(ge=6 << 20, le=1 << 50)] | None = None


class HealthCheck(Struct, frozen=True, forbid_unknown_fields=True):
    """How a workload shows that it is well: a command in its container that ends with 0.

    It must do so within `grace_s` of the start, and `retries` failures in a row make it unhealthy.
    """

    command: Annotated[tuple[Annotated[str, Meta(max_length=2_000)], ...], Meta(min_length=1, max_length=32)]
    interval_s: Seconds = 10.0
    timeout_s: Seconds = 5.0
    retries: Annotated[int, Meta(ge=1, le=20)] = 3
    grace_s: Seconds = 60.0


class DesiredWorkload(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One container: exactly this image, this configuration (a blob, see WorkloadConfig), these limits.

    `version` is what people call the image. Without a health check it is well once it has run for `settle_s`.
    """

    name: WorkloadName
    image: Image
    version: Annotated[str, Meta(max_length=128)] | None = None
    config_sha256: Sha256 | None = None
    limits: Limits = Limits()
    health: HealthCheck | None = None
    settle_s: Annotated[float, Meta(ge=0, le=600)] = 3.0


class AgentRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """The agent itself: `blob` is the wheel."""

    version: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+!-]{0,63}\Z")]
    blob: Sha256


class OsState(Struct, frozen=True, forbid_unknown_fields=True):
    """Packages at exact versions; what is not named is left alone. `kernel` is what `uname -r` must say in the end."""

    packages: Annotated[dict[str, str], Meta(max_length=MAX_PACKAGES)] = {}
    kernel: Annotated[str, Meta(max_length=128)] | None = None
    reboot: Reboot = "never"


class Rollout(Struct, frozen=True, forbid_unknown_fields=True):
    """The rollout that the document is part of."""

    id: Number
    wave: Count


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of the enterprise for the site; there are none yet."""


class Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a site runs. `workloads` are all that the centre manages there: one that is not named is removed.

    `agent` and `os` are left alone where they are None. `prev_sha256` is the SHA-256 of the envelope before.
    """

    fleet: Annotated[str, Meta(min_length=1, max_length=120)]
    provider: Number
    site: UUID
    epoch: Count
    version: Number
    prev_sha256: Sha256 | None
    issued_at: Time
    expires_at: Time
    hold: bool
    standard: Standard | None
    workloads: Annotated[tuple[DesiredWorkload, ...], Meta(max_length=MAX_WORKLOADS)]
    agent: AgentRelease | None
    os: OsState | None
    policy: Policy
    rollout: Rollout | None


class PublishedPort(Struct, frozen=True, forbid_unknown_fields=True):
    """A port of the container that the site's machine offers."""

    host: Port
    container: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    address: Annotated[str, Meta(max_length=45)] = ""


class Mount(Struct, frozen=True, forbid_unknown_fields=True):
    """A named volume of the workload (`volume`), or a folder of the machine (`folder`) that the site allows."""

    target: Path
    volume: WorkloadName | None = None
    folder: Path | None = None
    read_only: bool = False


class WorkloadConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The blob that `config_sha256` names: JSON in its one form. Secrets do not belong here, but in the site's TOML."""

    command: Annotated[tuple[str, ...], Meta(max_length=64)] | None = None
    env: Annotated[dict[str, str], Meta(max_length=256)] = {}
    ports: Annotated[tuple[PublishedPort, ...], Meta(max_length=64)] = ()
    mounts: Annotated[tuple[Mount, ...], Meta(max_length=32)] = ()
    network: Literal["bridge", "host", "none"] = "bridge"
    user: Annotated[str, Meta(max_length=64)] = ""
    read_only: bool = False


# What the site says -----------------------------------------------------------------------------------------
class PutDesired(Struct, frozen=True, kw_only=True):
    """The answer to `PUT /v1/desired`. A refusal changes nothing; `blobs` are those to be sent first."""

    state: Literal["accepted", "unchanged", "refused"]
    reason: Refusal | Literal[""] = ""
    detail: Text = ""
    blobs: Annotated[tuple[Sha256, ...], Meta(max_length=MAX_WORKLOADS + 1)] = ()


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of a document: signed by the site (seal_receipt), and an entry of its journal.

    `sha256` is that of the envelope. `changed` are the workloads, packages and such that were touched.
    """

    site: UUID
    epoch: Count
    version: Number
    sha256: Sha256
    state: DesiredState
    detail: Text = ""
    at: Time
    boot: Word
    changed: Annotated[tuple[Name, ...], Meta(max_length=256)] = ()


class DesiredStatus(Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/desired`: the newest document that was accepted, and how far the site is with it.

    `done` of `total` steps; `receipt` is the envelope of the latest one, base64 within JSON.
    """

    epoch: Count
    version: Count
    sha256: Sha256 | None
    state: DesiredState
    detail: Text = ""
    done: Count = 0
    total: Count = 0
    hold: bool = False
    receipt: bytes | None = None


class PutBlob(Struct, frozen=True, kw_only=True):
    """The answer to a piece of `PUT /v1/blobs/sha256:...`: how many bytes are there now, and whether it is whole."""

    state: Literal["partial", "stored", "refused"]
    size: Count
    detail: Text = ""


# Bytes ------------------------------------------------------------------------------------------------------
_encoder: Final = msgspec.json.Encoder(order="sorted")
_document_decoder: Final = msgspec.json.Decoder(Document)
_config_decoder: Final = msgspec.json.Decoder(WorkloadConfig)
_receipt_decoder: Final = msgspec.json.Decoder(Receipt)


def digest(data: bytes) -> str:
    """`sha256:` + hex of SHA-256: how envelopes and blobs are named."""
    return "sha256:" + sha256(data).hexdigest()


def encode_plain(message: Struct) -> bytes:
    """A document, configuration or receipt in its one form: all members, sorted, times with milliseconds, no blanks."""
    plain = msgspec.to_builtins(message)
    for name in ("issued_at", "expires_at", "at"):
        if name in plain:
            plain[name] = format_time(getattr(message, name))
    return _encoder.encode(plain)


def encode_document(document: Document) -> bytes:
    """What is signed. Raises ProtocolError for a document that no site would take."""
    payload = encode_plain(document)
    _read(payload, _document_decoder, _check_document)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"document of {len(payload)} bytes is above {MAX_PAYLOAD_BYTES}")
    return payload


def sign_document(document: Document, signing_key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    """Payload and signature. Raises ProtocolError for a document that no site would take."""
    payload = encode_document(document)
    return payload, signing_key.sign(to_sign(DOCUMENT_TYPE, payload))


def envelope_document(payload: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The envelope that is stored and sent."""
    return envelope_of(payload, payload_type=DOCUMENT_TYPE, public_key=public_key, signature=signature)


def seal_document(document: Document, signing_key: Ed25519PrivateKey) -> bytes:
    """The same at once. Raises ProtocolError."""
    payload, signature = sign_document(document, signing_key)
    return envelope_document(payload, signing_key.public_key().public_bytes_raw(), signature)


class DocumentRefused(ProtocolError):
    """A document that is not to be believed; `code` is one of Refusal."""

    def __init__(self, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def open_document(body: bytes, keys: Iterable[bytes]) -> Document:
    """The document in an envelope that one of the raw Ed25519 public `keys` has signed.

    Checked in this order, and the order is the security: size; signature over the raw bytes by a trusted key; only
    then is anything parsed, strictly. Raises DocumentRefused with `too_large`, `signature` or `malformed`.
    """
    if len(body) > MAX_DOCUMENT_BYTES:
        raise DocumentRefused("too_large", f"document of {len(body)} bytes is above {MAX_DOCUMENT_BYTES}")
    try:
        payload = open_envelope(body, payload_type=DOCUMENT_TYPE, signing_key=signed_by(body, keys))
    except ProtocolError as error:
        raise DocumentRefused("signature", error.reason) from None
    try:
        return _read(payload, _document_decoder, _check_document)
    except ProtocolError as error:
        raise DocumentRefused("malformed", error.reason) from None


def read_document(body: bytes) -> Document:
    """The document in an envelope that open_document() has let pass before; the signature is not checked again.

    Raises DocumentRefused.
    """
    try:
        return _document_decoder.decode(payload_of(body))
    except (ValueError, RecursionError, ProtocolError) as error:
        raise DocumentRefused("malformed", str(error)) from None


def seal_receipt(receipt: Receipt, signing_key: Ed25519PrivateKey) -> bytes:
    """A receipt as the site signs it."""
    return seal_envelope(encode_plain(receipt), payload_type=RECEIPT_TYPE, signing_key=signing_key)


def open_receipt(body: bytes, signing_key: bytes) -> Receipt:
    """The receipt that the site's raw Ed25519 key has signed. Raises ProtocolError."""
    payload = open_envelope(body, payload_type=RECEIPT_TYPE, signing_key=signing_key)
    return _read(payload, _receipt_decoder, lambda receipt: None)


def encode_config(config: WorkloadConfig) -> bytes:
    """The blob of a configuration. Raises ProtocolError for one that no site would take."""
    _check_config(config)
    return encode_plain(config)


def decode_config(blob: bytes) -> WorkloadConfig:
    """The inverse of encode_config(). Raises ProtocolError."""
    return _read(blob, _config_decoder, _check_config)


def _read(payload: bytes, decoder: msgspec.json.Decoder[T], check: Callable[[T], None]) -> T:
    check_canonical(payload)
    try:
        found = decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from None
    check(found)
    if encode_plain(cast(Struct, found)) != payload:
        raise ProtocolError("not in its one form: members are missing, or in another order")
    return found


def _check_document(document: Document) -> None:
    """Rules that no type carries. Raises ProtocolError."""
    if document.issued_at.tzinfo is not UTC or document.expires_at.tzinfo is not UTC:
        raise ProtocolError("a time is not in UTC")
    if document.expires_at <= document.issued_at:
        raise ProtocolError("it expires before it was issued")
    names = [workload.name for workload in document.workloads]
    if len(set(names)) != len(names):
        raise ProtocolError("two workloads of one name")
    if document.os is not None:
        for name, version in document.os.packages.items():
            if not _PACKAGE.fullmatch(name) or not _VERSION.fullmatch(version):
                raise ProtocolError(f"{name!r} at {version!r} is no package and version")


def _check_config(config: WorkloadConfig) -> None:
    """The same for a configuration. Raises ProtocolError."""
    for name, value in config.env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise ProtocolError(f"{name!r} is no variable of an environment")
    hosts = [(port.host, port.protocol, port.address) for port in config.ports]
    if len(set(hosts)) != len(hosts):
        raise ProtocolError("one port of the machine for two of the container")
    targets = [mount.target for mount in config.mounts]
    if len(set(targets)) != len(targets):
        raise ProtocolError("two mounts at one place")
    if any((mount.volume is None) == (mount.folder is None) for mount in config.mounts):
        raise ProtocolError("a mount is either a volume or a folder")
    if config.network != "bridge" and config.ports:
        raise ProtocolError("ports are published on the network `bridge` only")


def blobs_of(document: Document) -> tuple[str, ...]:
    """The blobs that a document names, each once, in its order."""
    named = [workload.config_sha256 for workload in document.workloads if workload.config_sha256 is not None]
    if document.agent is not None:
        named.append(document.agent.blob)
    return tuple(dict.fromkeys(named))
