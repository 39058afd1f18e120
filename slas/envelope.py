"""The DSSE envelope of an evidence bundle: opened offline, with `cryptography` where it is there. No Django.

The envelope holds one Ed25519 signature, whose `keyid` is the SHA-256 of the raw public key. The key itself stands in
the payload's evidence as `{"type": "signing_key", "public_key": base64}`: so the file proves that nothing in it was
changed since it was signed, and whose key that was is for the reader to compare (`--key`).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

from slas.bundle import BundleError, read_json

PAYLOAD_TYPE: Final = "application/vnd.archipelago.sla-bundle+json"
Signature = Literal["none", "valid", "unchecked"]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file holds, and what is known of its signature; `key_id` is the hex SHA-256 of the key that made it."""

    value: Any
    signature: Signature
    key_id: str = ""


def open_bundle(text: bytes, *, key_id: str = "") -> Opened:
    """The value of a bundle, out of its envelope if it has one. `key_id`: only this key will do.

    Raises BundleError for what is no bundle, or a signature that does not fit.
    """
    value = read_json(text)
    if not isinstance(value, dict) or "payloadType" not in value:
        if key_id:
            raise BundleError("", "it is not signed")
        return Opened(value, "none")
    payload, signature, named = _parts(value)
    if key_id and named != key_id.removeprefix("sha256:").lower():
        raise BundleError("", f"it is signed by another key: sha256:{named}")
    inner = read_json(payload)
    return Opened(inner, _checked(payload, signature, _key(inner, named)), named)


def told(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding of a bundle."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal_bundle(payload: bytes, public_key: bytes, signature: bytes) -> bytes:
    """The envelope of a payload that was signed; `public_key` is the raw one, which must be in its evidence."""
    value = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": sha256(public_key).hexdigest(), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _parts(value: Mapping[str, Any]) -> tuple[bytes, bytes, str]:
    if set(value) != {"payloadType", "payload", "signatures"}:
        raise BundleError("", "an envelope has payloadType, payload and signatures")
    if value["payloadType"] != PAYLOAD_TYPE:
        raise BundleError("payloadType", f"it is not {PAYLOAD_TYPE}")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise BundleError("signatures", "exactly one is needed")
    named = signatures[0].get("keyid")
    if not isinstance(named, str):
        raise BundleError("signatures[0].keyid", "a text is needed")
    return _decoded(value["payload"], "payload"), _decoded(signatures[0].get("sig"), "signatures[0].sig"), named


def _decoded(value: Any, place: str) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BundleError(place, "this is not base64")


def _key(inner: Any, named: str) -> bytes:
    evidence = inner.get("evidence") if isinstance(inner, dict) else None
    for one in evidence if isinstance(evidence, list) else ():
        if isinstance(one, dict) and one.get("type") == "signing_key":
            key = _decoded(one.get("public_key"), "evidence.public_key")
            if sha256(key).hexdigest() == named:
                return key
    raise BundleError("evidence", "the key that signed it is not in it")


def _checked(payload: bytes, signature: bytes, key: bytes) -> Signature:
    try:
        from cryptography.exceptions import InvalidSignature  # without it the figures can still be recomputed
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return "unchecked"
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, told(payload))
    except (InvalidSignature, ValueError):
        raise BundleError("", "the signature does not fit") from None
    return "valid"
