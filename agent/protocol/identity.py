"""Who is who: names in certificates, join strings, and what enrolment and renewal say.

Pure: no I/O, no clock, no key is made or read here. Byte strings travel as base64 within JSON.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from agent.protocol.kinds import settle
from agent.protocol.report import PROTOCOL, ProtocolError

T = TypeVar("T")
JOIN_PREFIX: Final = "archipelago1."
MAX_IDENTITY_BYTES: Final = 64 * 1024
MIN_NONCE_BYTES: Final = 16
MAX_NONCE_BYTES: Final = 128
_FLEET: Final = re.compile(
    r"(?=.{1,120}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)

Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
SigningKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
TlsKey = Annotated[bytes, Meta(min_length=32, max_length=256)]
Proof = Annotated[bytes, Meta(min_length=32, max_length=256)]
Nonce = Annotated[bytes, Meta(min_length=MIN_NONCE_BYTES, max_length=MAX_NONCE_BYTES)]
Pem = Annotated[str, Meta(min_length=1, max_length=8_192)]
Endpoint = Annotated[str, Meta(min_length=3, max_length=300)]
EnrolmentState = Literal["pending", "accepted", "rejected"]


# Names ------------------------------------------------------------------------------------------------------
def check_fleet(fleet: str) -> str:
    """The fleet's name, if it may stand in a certificate: a DNS name in lower case. Raises ValueError."""
    if not _FLEET.fullmatch(fleet):
        raise ValueError(f"{fleet!r} is not a DNS name in lower case of at most 120 characters")
    return fleet


def provider_domain(fleet: str, provider_id: int) -> str:
    """The DNS subtree in which a provider's issuing CA may name sites."""
    return f"p{provider_id}.sites.{fleet}"


def site_name(fleet: str, provider_id: int, site: UUID) -> str:
    """The only name in a site's certificate, and the name that is dialled."""
    return f"s-{site}.{provider_domain(fleet, provider_id)}"


def is_site_name(name: str, fleet: str, site: UUID) -> bool:
    """Whether a name is this site's, under whatever provider."""
    host, _, domain = name.partition(".p")
    provider, _, rest = domain.partition(".")
    return host == f"s-{site}" and provider.isdecimal() and rest == f"sites.{fleet}"


def provider_of(name: str, fleet: str, site: UUID) -> int | None:
    """The provider in the name of this site's certificate; None for a name that is not this site's."""
    if not is_site_name(name, fleet, site):
        return None
    return int(name.partition(".p")[2].partition(".")[0])


def documents_name(fleet: str) -> str:
    """The only name in the certificate of a key that may sign desired state."""
    return f"documents.{fleet}"


def service_name(fleet: str, service: Literal["dashboard", "gateway"]) -> str:
    """The name of a process of the centre: `dashboard` asks agents, `gateway` is asked by them."""
    return f"{service}.{fleet}"


def key_fingerprint(tls_key: bytes, signing_key: bytes) -> str:
    """What two people compare before a site is accepted: 128 bits of SHA-256 over both public keys, in eight groups."""
    text = sha256(b"archipelago keys v1\n" + tls_key + signing_key).hexdigest()[:32]
    return "-".join(text[i : i + 4] for i in range(0, 32, 4))


def tls_pin(tls_key: bytes) -> str:
    """SHA-256 in hex of a public TLS key (DER, SubjectPublicKeyInfo): what a poller pins."""
    return sha256(tls_key).hexdigest()


# Join strings -----------------------------------------------------------------------------------------------
class Join(Struct, frozen=True, kw_only=True):
    """What an operator hands to a site, once: where to call, who it is, its secret, and the root it must meet there."""

    gateway: Endpoint
    fleet: str
    site: UUID
    secret: Secret
    root_sha256: Digest


def write_join(join: Join) -> str:
    """The join string: one word, safe to paste."""
    return JOIN_PREFIX + urlsafe_b64encode(_encoder.encode(join)).decode().rstrip("=")


def read_join(text: str) -> Join:
    """The inverse of write_join(), blanks around it forgiven. Raises ProtocolError."""
    text = text.strip()
    if not text.startswith(JOIN_PREFIX) or len(text) > 2_000:
        raise ProtocolError(f"a join string begins with {JOIN_PREFIX}")
    packed = text.removeprefix(JOIN_PREFIX)
    try:
        join = _join_decoder.decode(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        check_fleet(join.fleet)
    except (ValueError, RecursionError):
        raise ProtocolError("the join string is damaged; copy it again, whole") from None
    return join


# Enrolment and renewal --------------------------------------------------------------------------------------
class EnrolRequest(Struct, frozen=True, kw_only=True):
    """`POST /agent/v1/enrol`. Both proofs are signatures over enrol_message(): by the TLS key (ECDSA, SHA-256) and by
    the signing key (Ed25519). The same request may be sent again and again; the answer to it moves on.
    """

    protocol: int
    site: UUID
    secret: Secret
    tls_key: TlsKey
    signing_key: SigningKey
    tls_proof: Proof
    signing_proof: Proof
    agent: Annotated[str, Meta(max_length=64)] = ""
    host: Annotated[str, Meta(max_length=255)] = ""


class Certificates(Struct, frozen=True, kw_only=True):
    """What a site is given: its certificate and its issuer's (leaf first), and the roots to trust, all PEM.

    `gateway` is where it calls from now on, for renewals. `documents` are the certificates of the keys that may sign
    desired state; the site believes those that a root of its own has issued (agent.apply.trust).
    """

    gateway: Endpoint
    chain: Annotated[tuple[Pem, ...], Meta(min_length=1, max_length=4)]
    roots: Annotated[tuple[Pem, ...], Meta(min_length=1, max_length=4)]
    fleet: Annotated[str, Meta(max_length=120)]
    documents: Annotated[tuple[Pem, ...], Meta(max_length=4)] = ()


class EnrolAnswer(Struct, frozen=True, kw_only=True):
    """The answer to an enrolment; `certificates` come with `accepted`."""

    state: EnrolmentState
    fingerprint: str
    retry_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    detail: str = ""
    certificates: Certificates | None = None


class RootsAnswer(Struct, frozen=True):
    """The answer to `GET /agent/v1/roots`: PEM, the present root first."""

    roots: Annotated[tuple[Pem, ...], Meta(min_length=1, max_length=4)]


class Reason(Struct, frozen=True):
    """Why a request was refused: one word for programs, one line for people."""

    code: str
    message: str


class Refusal(Struct, frozen=True):
    """Every answer of the gateway but 200."""

    error: Reason


class NonceAnswer(Struct, frozen=True):
    """The answer to `GET /agent/v1/nonce`: to be signed within two minutes."""

    nonce: Nonce


class RenewRequest(Struct, frozen=True, kw_only=True):
    """`POST /agent/v1/renew`, and what `GET /v1/identity?nonce=` answers: a TLS key, old or new, to be certified.

    `tls_proof` and `signing_proof` are signatures over renew_message().
    """

    site: UUID
    nonce: Nonce
    tls_key: TlsKey
    tls_proof: Proof
    signing_proof: Proof


class TakenAnswer(Struct, frozen=True, kw_only=True):
    """The answer to `PUT /v1/identity` with Certificates: `taken` once they are on the disk and shown from now on.

    Its chain alone is new: whom a site trusts and calls is told by the gateway it has called itself, not by a caller.
    """

    state: Literal["taken", "unchanged", "refused"]
    reason: Annotated[str, Meta(max_length=300)] = ""


def enrol_message(site: UUID, secret: bytes, tls_key: bytes, signing_key: bytes) -> bytes:
    """What a site signs to prove that it holds both keys, for this enrolment and no other."""
    return b"\n".join((b"archipelago enrol v1", str(site).encode(), sha256(secret + tls_key + signing_key).digest()))


def renew_message(site: UUID, nonce: bytes, tls_key: bytes) -> bytes:
    """What a site signs to have a TLS key certified."""
    return b"\n".join((b"archipelago renew v1", str(site).encode(), sha256(nonce + b"\n" + tls_key).digest()))


_encoder = msgspec.json.Encoder()
_join_decoder = msgspec.json.Decoder(Join)


def decode_identity(body: bytes, kind: type[T]) -> T:
    """A message of this module from hostile bytes. Raises ProtocolError."""
    if len(body) > MAX_IDENTITY_BYTES:
        raise ProtocolError(f"body of {len(body)} bytes is above {MAX_IDENTITY_BYTES}")
    try:
        message = msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from None
    protocol = getattr(message, "protocol", PROTOCOL)
    if protocol != PROTOCOL:
        raise ProtocolError(f"protocol {protocol}, expected {PROTOCOL}")
    return message


def encode_identity(message: Any) -> bytes:
    """JSON of a message of this module."""
    return _encoder.encode(message)


settle(__name__)
