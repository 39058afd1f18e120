"""Reading on in one site's journal, over the poller's connection to it. Whatever is wrong is said, never half-taken."""

from agent.protocol import ProtocolError
from agent.protocol.journal import (
    AckAnswer,
    AckRequest,
    Page,
    decode_ack_answer,
    encode_ack,
    open_page,
)
from sites.addresses import Vetting
from sites.agent_client import ask
from sites.selectors.journal import Reading
from sites.wire import Wire

PAGE_ENTRIES = 1_000


class JournalTrouble(Exception):
    """A journal that cannot be read on. `alarm`: it is not the history that we saw before, or not the site's word."""

    def __init__(self, message: str, *, alarm: bool) -> None:
        super().__init__(message)
        self.alarm = alarm


async def fetch_page(wire: Wire, reading: Reading, vetting: Vetting) -> tuple[Page, bytes]:
    """The next page, checked, and its bytes as received. Raises JournalTrouble, WireError."""
    answer = await ask(wire, reading, vetting, _get(reading))
    if answer.status == 409:
        raise JournalTrouble(
            "its journal is shorter than what it once signed: was it restored, or replaced?", alarm=True
        )
    if answer.status != 200:
        raise JournalTrouble(f"it answers for its journal with status {answer.status}", alarm=False)
    try:
        page = open_page(
            answer.body,
            site=reading.uuid,
            signing_key=reading.signing_key,
            after=reading.seq,
            prev=reading.head or None,
        )
    except ProtocolError as error:
        raise JournalTrouble(f"its journal is refused: {error.reason}", alarm=True) from None
    return page, answer.body


async def acknowledge(wire: Wire, reading: Reading, vetting: Vetting, upto: int, head: str) -> AckAnswer:
    """Tell the site what is safe with us. Raises JournalTrouble, WireError."""
    answer = await ask(wire, reading, vetting, _post_ack(reading, AckRequest(upto, head)))
    if answer.status != 200:
        raise JournalTrouble(f"it answers to an acknowledgement with status {answer.status}", alarm=False)
    try:
        reply = decode_ack_answer(answer.body)
    except ProtocolError as error:
        raise JournalTrouble(f"its answer to an acknowledgement is refused: {error.reason}", alarm=False) from None
    if reply.reason in {"other_head", "ahead"}:
        raise JournalTrouble("it does not hold the entry that it once signed", alarm=True)
    return reply


def _get(reading: Reading) -> bytes:
    return (
        f"GET /v1/journal?after={reading.seq}&limit={PAGE_ENTRIES} HTTP/1.1\r\nhost: {reading.peer.name}\r\n"
        "accept: application/json\r\naccept-encoding: identity\r\n\r\n"
    ).encode()


def _post_ack(reading: Reading, request: AckRequest) -> bytes:
    body = encode_ack(request)
    head = (
        f"POST /v1/journal/ack HTTP/1.1\r\nhost: {reading.peer.name}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\naccept-encoding: identity\r\n\r\n"
    )
    return head.encode() + body
