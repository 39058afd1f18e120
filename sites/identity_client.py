"""Renewing one site's certificate from the centre's side, over the poller's connection to it."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from agent.protocol import ProtocolError
from agent.protocol.identity import Certificates, RenewRequest, TakenAnswer, decode_identity, encode_identity
from sites.addresses import Network, Vetting
from sites.agent_client import ask
from sites.selectors.pushing import Pushing
from sites.states import Failure
from sites.wire import Peer, Wire, WireError

T = TypeVar("T")
NONCE_BYTES = 32
PATH = "/v1/identity"


@dataclass(frozen=True, slots=True)
class _Reached:
    """A site by the one or the other of its names."""

    site_id: int
    peer: Peer
    networks: Sequence[Network]


async def fetch_request(wire: Wire, site: Pushing, peer: Peer, vetting: Vetting) -> RenewRequest:
    """The site's request to have its key certified, asked as `peer`, one of its names. Raises WireError."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    message = (
        f"GET {PATH}?nonce={urlsafe_b64encode(nonce).decode()} HTTP/1.1\r\nhost: {peer.name}\r\n"
        "accept: application/json\r\naccept-encoding: identity\r\n\r\n"
    )
    answer = await ask(wire, _Reached(site.site_id, peer, site.networks), vetting, message.encode())
    request = _read(answer.status, answer.body, RenewRequest)
    if request.site != site.uuid or request.nonce != nonce:
        raise WireError(Failure.IDENTITY_MISMATCH, "its request is not for this site, or not for this moment")
    return request


async def put_certificates(wire: Wire, site: Pushing, vetting: Vetting, certificates: Certificates) -> TakenAnswer:
    """Hand the certificates over; the answer says whether the site has taken them. Raises WireError."""
    body = encode_identity(certificates)
    head = (
        f"PUT {PATH} HTTP/1.1\r\nhost: {site.peer.name}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\naccept-encoding: identity\r\n\r\n"
    )
    answer = await ask(wire, _Reached(site.site_id, site.peer, site.networks), vetting, head.encode() + body)
    return _read(answer.status, answer.body, TakenAnswer)


def _read(status: int, body: bytes, kind: type[T]) -> T:
    if status != 200:
        raise WireError(Failure.PROTOCOL_ERROR, f"answered with status {status} about its identity")
    try:
        return decode_identity(body, kind)
    except ProtocolError as error:
        raise WireError(Failure.PROTOCOL_ERROR, error.reason) from None
