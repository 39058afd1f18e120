"""Handing one site its document, its blobs, and asking how far it is, over the poller's connection to it."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from agent.protocol import ProtocolError
from agent.protocol.desired import (
    MAX_PIECE_BYTES,
    DesiredStatus,
    PutBlob,
    PutDesired,
    blobs_of,
    open_receipt,
    read_document,
)
from agent.protocol.report import check_text
from sites.addresses import Vetting
from sites.agent_client import ask
from sites.selectors.desired import Delivery
from sites.services.delivery import Told
from sites.states import Failure
from sites.wire import Wire, WireError

T = TypeVar("T")
MAX_ANSWER_BYTES = 64 * 1024
PATH = "/v1/desired"


def own_blobs(site: Delivery, asked: Sequence[str]) -> list[str]:
    """Of the blobs that a site asks for, those that its own document names: it is given no others, whatever it asks."""
    assert site.envelope is not None
    own = set(blobs_of(read_document(site.envelope)))
    return [name for name in asked if name in own]


async def put_document(wire: Wire, site: Delivery, vetting: Vetting) -> PutDesired:
    """Hand the signed document over, byte for byte as it is stored. Raises WireError."""
    assert site.envelope is not None
    return await _put(wire, site, vetting, PATH, site.envelope, PutDesired)


async def put_blobs(wire: Wire, site: Delivery, vetting: Vetting, bodies: Mapping[str, bytes]) -> None:
    """Send blobs in pieces; each goes on where the site says it is. Raises WireError."""
    for name, body in bodies.items():
        offset = 0
        for _ in range(2 * len(body) // MAX_PIECE_BYTES + 4):  # a site that never gets further must not hold us
            piece = body[offset : offset + MAX_PIECE_BYTES]
            span = f"content-range: bytes {offset}-{offset + len(piece) - 1}/{len(body)}\r\n"
            answer = await _put(wire, site, vetting, f"/v1/blobs/{name}", piece, PutBlob, span)
            if answer.state == "stored":
                break
            if answer.state == "refused":
                raise WireError(Failure.PROTOCOL_ERROR, f"the site refuses a blob: {answer.detail}")
            offset = min(answer.size, len(body) - 1)
        else:
            raise WireError(Failure.PROTOCOL_ERROR, "the site never has the whole of a blob")


async def fetch_status(wire: Wire, site: Delivery, vetting: Vetting) -> Told:
    """How far the site is, and its latest receipt, checked. Raises WireError."""
    message = f"GET {PATH} HTTP/1.1\r\nhost: {site.peer.name}\r\naccept-encoding: identity\r\n\r\n"
    answer = await ask(wire, site, vetting, message.encode())
    status = _read(answer.status, answer.body, DesiredStatus)
    if status.receipt is None:
        return Told(status, None, b"")
    try:
        receipt = open_receipt(status.receipt, site.signing_key)
    except ProtocolError as error:
        raise WireError(Failure.PROTOCOL_ERROR, f"its receipt is refused: {error.reason}") from None
    if receipt.site != site.uuid:
        raise WireError(Failure.IDENTITY_MISMATCH, "its receipt is another site's")
    return Told(status, receipt, status.receipt)


async def _put(
    wire: Wire, site: Delivery, vetting: Vetting, path: str, body: bytes, kind: type[T], extra: str = ""
) -> T:
    head = (
        f"PUT {path} HTTP/1.1\r\nhost: {site.peer.name}\r\ncontent-type: application/octet-stream\r\n{extra}"
        f"content-length: {len(body)}\r\naccept-encoding: identity\r\n\r\n"
    )
    answer = await ask(wire, site, vetting, head.encode() + body)
    return _read(answer.status, answer.body, kind)


def _read(status: int, body: bytes, kind: type[T]) -> T:
    if status != 200 or len(body) > MAX_ANSWER_BYTES:
        raise WireError(Failure.PROTOCOL_ERROR, f"answered with status {status} about its desired state")
    try:
        check_text(body)  # what PostgreSQL would refuse must not take the other sites of a round with it
        return msgspec.json.decode(body, type=kind)
    except ProtocolError as error:
        raise WireError(Failure.PROTOCOL_ERROR, error.reason) from None
    except (ValueError, RecursionError) as error:
        raise WireError(Failure.PROTOCOL_ERROR, str(error)) from None
