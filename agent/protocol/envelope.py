"""DSSE envelopes with exactly one Ed25519 signature, in exactly one form of bytes.

Pure: no I/O, no clock, no framework. The signature is over DSSE's pre-authentication encoding, so any DSSE library
can check an envelope; it is made and checked with `cryptography`, which the agent needs for TLS in any case. A DSSE
library would add a dependency to the agent and is laxer than this must be: it takes any number of signatures, base64
with bits to spare, unknown fields and duplicate keys.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta, Struct

from agent.protocol.report import MAX_BODY_BYTES, ProtocolError


class _Signature(Struct, forbid_unknown_fields=True):
    keyid: Annotated[str, Meta(max_length=64)]
    sig: Annotated[bytes, Meta(min_length=64, max_length=64)]


class _Envelope(Struct, forbid_unknown_fields=True, rename="camel"):
    payload_type: Annotated[str, Meta(max_length=128)]
    payload: bytes
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=1)]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Envelope)


def key_id(public_key: bytes) -> str:
    """The `keyid` of a raw Ed25519 public key: its SHA-256 in hex."""
    return sha256(public_key).hexdigest()


def signed_by(body: bytes, keys: Iterable[bytes]) -> bytes:
    """The one of these raw public keys that the envelope names as its own; nothing is verified by that.

    Raises ProtocolError.
    """
    try:
        named = _decoder.decode(body).signatures[0].keyid
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not an envelope: {error}") from None
    for key in keys:
        if key_id(key) == named:
            return key
    raise ProtocolError("signed by another key")


def payload_of(body: bytes) -> bytes:
    """The payload of an envelope that was opened before; nothing is verified here. Raises ProtocolError."""
    try:
        return _decoder.decode(body).payload
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not an envelope: {error}") from None


def to_sign(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal_envelope(payload: bytes, *, payload_type: str, signing_key: Ed25519PrivateKey) -> bytes:
    """The envelope around a payload: canonical JSON, base64 with padding."""
    return envelope_of(
        payload,
        payload_type=payload_type,
        public_key=signing_key.public_key().public_bytes_raw(),
        signature=signing_key.sign(to_sign(payload_type, payload)),
    )


def envelope_of(payload: bytes, *, payload_type: str, public_key: bytes, signature: bytes) -> bytes:
    """The same of a signature that was made elsewhere. Nothing is verified."""
    return _encoder.encode(_Envelope(payload_type, payload, (_Signature(key_id(public_key), signature),)))


def open_envelope(body: bytes, *, payload_type: str, signing_key: bytes) -> bytes:
    """The payload, signed by the raw Ed25519 key `signing_key`; nothing of it has been parsed.

    Any byte that differs from what seal_envelope() wrote is refused, be it in the signed part or not. Raises
    ProtocolError, and nothing but that if the key is one.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ProtocolError(f"body of {len(body)} bytes is above {MAX_BODY_BYTES}")
    try:
        envelope = _decoder.decode(body)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise ProtocolError(f"not an envelope: {error}") from None
    signature = envelope.signatures[0]
    if envelope.payload_type != payload_type:
        raise ProtocolError(f"payloadType is not {payload_type}")
    if signature.keyid != key_id(signing_key):
        raise ProtocolError("signed by another key")
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature.sig, to_sign(payload_type, envelope.payload))
    except InvalidSignature:
        raise ProtocolError("the signature does not fit") from None
    # Duplicate keys, blanks, another order and spare bits of base64 all end here.
    if _encoder.encode(envelope) != body:
        raise ProtocolError("the envelope is not in canonical form")
    return envelope.payload
