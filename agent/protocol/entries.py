"""The entries of a site's journal: their types, their bounds, their one form in bytes, and their digest.

Pure: no I/O, no clock, no framework.

The bytes of an entry are UTF-8 JSON without blanks: an object with the members `seq`, `prev`, `boot`, `mono_ms`,
`at`, `kind` and `body`, in this order, and in `body` all members of its kind, in the order of their definition here,
null where there is no value. In strings only `"` and `\\` are escaped (control characters and lone surrogates may not
occur at all); whole numbers are decimal; other numbers are the shortest decimal that reads back to the same IEEE 754
double, as msgspec writes it; times are RFC 3339 UTC with milliseconds; members of `lost` are sorted by name. The
digest of an entry is `sha256:` + hex of SHA-256 over just these bytes, and `prev` is the digest of the entry before,
`GENESIS` where there is none. Whoever checks a chain hashes the bytes as they stand in the page and never has to
write them again.
"""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from agent.protocol.report import (
    MAX_ITEMS,
    Component,
    Count,
    Name,
    ProtocolError,
    Resources,
    Sha256,
    Text,
    Time,
    Verdict,
    Word,
    check_text,
    components_digest,
    format_time,
)

GENESIS: Final = "sha256:" + "0" * 64
MAX_ENTRY_BYTES: Final = 256_000

EntryKind = Literal["verdict", "alive", "start", "sample", "components", "receipt", "access", "gap"]
GapReason = Literal["bound", "disk_full", "missing", "damaged", "rolled_back"]
Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]


# gc=False: no cycles, and a backfill decodes tens of thousands a second.
class Alive(Struct, frozen=True, gc=False):
    """The agent runs: written every 60 s, polled or not."""


class Start(Struct, frozen=True, gc=False):
    """The agent started, `uptime_ms` after the boot at `boot_at`; `clean` is whether it ended as it should before.

    None where that is not known, as at the very first start.
    """

    uptime_ms: Count
    agent: Word
    clean: bool | None
    boot_at: Time


class Components(Struct, frozen=True, gc=False):
    """The full set at a change of its digest; None when the set does not fit in an entry."""

    digest: Sha256
    components: Annotated[tuple[Component, ...], Meta(max_length=MAX_ITEMS)] | None


class Receipt(Struct, frozen=True, gc=False):
    """What became of a desired-state document."""

    epoch: Count
    version: Count
    state: Word
    detail: Text = ""


class Access(Struct, frozen=True, gc=False):
    """Somebody did something at the site itself, or tried to."""

    who: Name
    what: Name
    outcome: Text


class Gap(Struct, frozen=True, gc=False):
    """Entries from `from_seq` to `to_seq` are, all or in part, no longer there; `lost` counts them by kind.

    `lost` is empty when nobody can say. `to_seq` is `from_seq - 1` when what was lost never got numbers.
    """

    from_seq: Number
    to_seq: Count
    lost: dict[EntryKind, Count]
    reason: GapReason


Body = Verdict | Alive | Start | Resources | Components | Receipt | Access | Gap
_TYPES: Final[dict[EntryKind, Any]] = {
    "verdict": Verdict,
    "alive": Alive,
    "start": Start,
    "sample": Resources,
    "components": Components,
    "receipt": Receipt,
    "access": Access,
    "gap": Gap,
}
ENTRY_KINDS: Final[tuple[EntryKind, ...]] = tuple(_TYPES)
_KINDS: Final[dict[type, EntryKind]] = {type_: kind for kind, type_ in _TYPES.items()}


class Entry(Struct, frozen=True, gc=False):
    """One entry. `mono_ms` counts since the boot named `boot`, sleep included; `at` is the site's clock."""

    seq: Number
    prev: Sha256
    boot: Word
    mono_ms: Count
    at: Time
    kind: EntryKind
    body: Body


class _Line(Struct, gc=False):
    seq: Number
    prev: Sha256
    boot: Word
    mono_ms: Count
    at: Time
    kind: EntryKind
    body: msgspec.Raw


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)
_body_decoders: Final = {kind: msgspec.json.Decoder(type_) for kind, type_ in _TYPES.items()}


def kind_of(body: Body) -> EntryKind:
    """The kind of the entry that has this body."""
    return _KINDS[type(body)]


def encode_entry(entry: Entry) -> bytes:
    """The bytes of an entry, as the module says. Bounds are not checked here."""
    body = {name: _plain(value) for name, value in msgspec.structs.asdict(entry.body).items()}
    return _encoder.encode(
        {
            "seq": entry.seq,
            "prev": entry.prev,
            "boot": entry.boot,
            "mono_ms": entry.mono_ms,
            "at": format_time(entry.at),
            "kind": entry.kind,
            "body": body,
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    return dict(sorted(value.items())) if isinstance(value, dict) else value


def digest_of(raw: bytes) -> str:
    """The digest of the entry whose bytes these are."""
    return "sha256:" + sha256(raw).hexdigest()


def entry_digest(entry: Entry) -> str:
    """`sha256:` + hex of SHA-256 over the entry's bytes."""
    return digest_of(encode_entry(entry))


def decode_entry(raw: bytes) -> Entry:
    """The entry with these bytes. Raises ProtocolError if they are not those of an entry, and nothing but that."""
    if len(raw) > MAX_ENTRY_BYTES:
        raise ProtocolError(f"entry of {len(raw)} bytes is above {MAX_ENTRY_BYTES}")
    check_canonical(raw)
    return read_entry(raw)


def check_canonical(document: bytes) -> None:
    """Raise ProtocolError unless this is JSON in its one form: what reads it and writes it again gets the same bytes.

    So there are no duplicate keys, blanks, needless escapes or numbers of another spelling, and no check_text() fails.
    """
    check_text(document)
    try:
        same = _encoder.encode(msgspec.json.decode(document)) == document
    except (ValueError, OverflowError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ProtocolError(str(error)) from None
    if not same:
        raise ProtocolError("not in canonical form: duplicate keys, blanks, needless escapes or odd numbers")


def read_entry(raw: bytes | msgspec.Raw) -> Entry:
    """The entry in bytes that are known to be canonical; members that are unknown here are ignored.

    Raises ProtocolError.
    """
    try:
        line = _line_decoder.decode(raw)
        body = _body_decoders[line.kind].decode(line.body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)) from None
    if line.at.tzinfo is not UTC:
        raise ProtocolError("a time is not in UTC")
    _check_body(body)
    return Entry(line.seq, line.prev, line.boot, line.mono_ms, line.at, line.kind, body)


def _check_body(body: Body) -> None:
    """Rules that no type carries. Raises ProtocolError."""
    if isinstance(body, Verdict | Start):
        if (body.since if isinstance(body, Verdict) else body.boot_at).tzinfo is not UTC:
            raise ProtocolError("a time is not in UTC")
    elif isinstance(body, Gap):
        if body.to_seq < body.from_seq - 1:
            raise ProtocolError("a gap ends before it begins")
    elif isinstance(body, Components) and body.components is not None:
        if len({(c.kind, c.name) for c in body.components}) != len(body.components):
            raise ProtocolError("two components of one kind and name")
        if components_digest(body.components) != body.digest:
            raise ProtocolError("digest is not that of the components")
