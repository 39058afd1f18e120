"""Pages of a site's journal, as an agent signs them and the centre checks them, and how they are acknowledged.

Pure: no I/O, no clock, no framework.

A page is a DSSE envelope around `{site, from, to, head, holes, entries}` in canonical JSON: the entries numbered
`from` to `to`, oldest first, and the digest of the entry `to`. An empty page has `to` = `from - 1`, and the head of
that entry.

Numbers are never used twice, but an entry may be gone: dropped to keep the bound, or lost with a damaged file. Such
numbers are named in `holes`, pairs of first and last. The entry after a hole is not chained to the one before it: its
`prev` is the digest of the last entry that is gone, so whoever has seen that head can still tell whether it was the
same history; or it is `GENESIS` where the agent lost its file, which only a `gap` entry may say. Why there is a hole
is said by a `gap` entry further on, unless its entries had been acknowledged and were old.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta, Struct

from agent.protocol.entries import GENESIS, MAX_ENTRY_BYTES, Entry, Number, check_canonical, digest_of, read_entry
from agent.protocol.envelope import open_envelope, seal_envelope
from agent.protocol.report import Count, ProtocolError, Sha256

T = TypeVar("T")
PAGE_TYPE: Final = "application/vnd.archipelago.journal.v1+json"
MAX_PAGE_ENTRIES: Final = 1_000
MAX_PAGE_BYTES: Final = 600_000
_MAX_ACK_BYTES: Final = 4_096

Hole = tuple[Number, Number]
Refusal = Literal["", "ahead", "dropped", "other_head"]


class Excerpt(Struct, frozen=True):
    """What a page is made of: the bytes of the entries after number `after`, the last of which is `to`."""

    after: Count
    to: Count
    head: Sha256
    holes: tuple[Hole, ...]
    entries: tuple[bytes, ...]


class Page(Struct, frozen=True):
    """A page that was checked: `digests` are those of the entries, in their order; `head` is that of entry `to`."""

    site: UUID
    after: Count
    to: Count
    head: str
    holes: tuple[Hole, ...]
    entries: tuple[Entry, ...]
    digests: tuple[str, ...]


class AckRequest(Struct, frozen=True):
    """`POST /v1/journal/ack`: the centre has stored everything up to `upto`, whose digest is `head`."""

    upto: Number
    head: Sha256


class AckAnswer(Struct, frozen=True):
    """`acked` is the number that is acknowledged now.

    A refusal changes nothing. `other_head` (the agent holds another entry of that number) and `ahead` (it never wrote
    so many) mean that one side's history is not what the other saw: an alarm. `dropped` means that the entry
    had to go since the page was read: read on, and acknowledge a later one.
    """

    state: Literal["accepted", "unchanged", "refused"]
    acked: Count
    reason: Refusal = ""


class _Payload(Struct):
    site: UUID
    from_: Number = msgspec.field(name="from")
    to: Count
    head: Sha256
    holes: Annotated[tuple[Hole, ...], Meta(max_length=MAX_PAGE_ENTRIES)]
    entries: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_PAGE_ENTRIES)]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Payload)
_ack_decoder: Final = msgspec.json.Decoder(AckRequest)
_answer_decoder: Final = msgspec.json.Decoder(AckAnswer)


def seal_page(excerpt: Excerpt, *, site: UUID, signing_key: Ed25519PrivateKey) -> bytes:
    """The page that an agent answers."""
    entries = tuple(msgspec.Raw(entry) for entry in excerpt.entries)
    payload = _Payload(site, excerpt.after + 1, excerpt.to, excerpt.head, excerpt.holes, entries)
    return seal_envelope(_encoder.encode(payload), payload_type=PAGE_TYPE, signing_key=signing_key)


def open_page(body: bytes, *, site: UUID, signing_key: bytes, after: int, prev: str | None) -> Page:
    """The page in `body`, as the answer to "what comes after number `after`", whose digest is `prev` (None: not known).

    `signing_key` is the site's raw Ed25519 public key. Checked, in this order: size, envelope, signature; then
    canonical form, types and bounds, site, numbers without a gap but for the named holes, each `prev`, and the head.
    Raises ProtocolError with the reason for hostile bytes, and nothing but that.
    """
    payload = open_envelope(body, payload_type=PAGE_TYPE, signing_key=signing_key)
    if len(payload) > MAX_PAGE_BYTES:
        raise ProtocolError(f"page of {len(payload)} bytes is above {MAX_PAGE_BYTES}")
    check_canonical(payload)
    try:
        page = _decoder.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from None
    if page.site != site:
        raise ProtocolError("the page of another site")
    if page.from_ != after + 1:
        raise ProtocolError(f"a page from {page.from_}, asked for {after + 1}")
    head = GENESIS if after == 0 else prev
    if not page.entries:
        if page.holes or page.to != after or (head is not None and page.head != head):
            raise ProtocolError("an empty page that ends elsewhere")
        return Page(site, after, after, page.head, (), (), ())
    return _check_chain(page, head)


def _check_chain(page: _Payload, head: str | None) -> Page:
    """The page with its entries, which follow the one whose digest is `head`. Raises ProtocolError."""
    holes = iter(page.holes)
    expected = page.from_
    entries, digests = [], []
    for raw in page.entries:
        data = bytes(raw)
        if len(data) > MAX_ENTRY_BYTES:
            raise ProtocolError(f"entry of {len(data)} bytes is above {MAX_ENTRY_BYTES}")
        entry = read_entry(data)
        if entry.seq != expected:
            _check_hole(next(holes, None), expected, entry)
        elif head is not None and entry.prev != head:
            raise ProtocolError(f"entry {entry.seq} does not follow the one before")
        expected, head = entry.seq + 1, digest_of(data)
        entries.append(entry)
        digests.append(head)
    if next(holes, None) is not None:
        raise ProtocolError("a hole where nothing is missing")
    if page.to != expected - 1 or page.head != head:
        raise ProtocolError("the page does not end as it says")
    return Page(page.site, page.from_ - 1, page.to, page.head, page.holes, tuple(entries), tuple(digests))


def _check_hole(hole: Hole | None, expected: int, entry: Entry) -> None:
    """Raise ProtocolError unless just this hole explains that `entry` is not numbered `expected`."""
    if entry.seq < expected or hole != (expected, entry.seq - 1):
        raise ProtocolError(f"entry {entry.seq} where {expected} was due")
    if entry.prev == GENESIS and entry.kind != "gap":
        raise ProtocolError(f"entry {entry.seq} begins anew and is no gap")


def encode_ack(message: AckRequest | AckAnswer) -> bytes:
    """JSON of an acknowledgement or of the answer to it."""
    return _encoder.encode(message)


def decode_ack(body: bytes) -> AckRequest:
    """An acknowledgement from hostile bytes. Raises ProtocolError."""
    return _decode_small(body, _ack_decoder)


def decode_ack_answer(body: bytes) -> AckAnswer:
    """The answer to an acknowledgement from hostile bytes. Raises ProtocolError."""
    return _decode_small(body, _answer_decoder)


def _decode_small(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    if len(body) > _MAX_ACK_BYTES:
        raise ProtocolError(f"body of {len(body)} bytes is above {_MAX_ACK_BYTES}")
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from None


def holes_between(after: int, numbers: list[int]) -> Iterator[Hole]:
    """The holes among ascending numbers that follow `after`."""
    for number in numbers:
        if number > after + 1:
            yield after + 1, number - 1
        after = number
