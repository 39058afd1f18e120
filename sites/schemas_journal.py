"""What the API gives of sites' journals, and of their time line."""

from datetime import datetime
from typing import Any

from ninja import Schema

from sites.models import JournalCursor, JournalEntry, JournalEnvelope, StateInterval
from sites.schemas import IntervalOut, interval_out


class EntryOut(Schema):
    """An entry that says something new, by the keys `identity`; `alive` and `sample` lie in their `envelope` alone.

    `at` is the site's clock, `mapped_at` the same moment by ours, right to `uncertainty_ms`.
    """

    seq: int
    kind: str
    digest: str
    boot: str
    mono_ms: int
    at: datetime
    mapped_at: datetime
    uncertainty_ms: int
    body: dict[str, Any]
    identity: int
    envelope: int


class EntryPage(Schema):
    """A page of entries."""

    items: list[EntryOut]
    next: str | None


class EnvelopeOut(Schema):
    """A signed page as it was received: entries `from_seq` to `to_seq`, the last of which has the digest `head`.

    `holes` are numbers within, first and last, of entries that the site no longer had.
    `signing_key` is the site's public key by which it is checked, Ed25519, raw, in hex.
    """

    id: int
    from_seq: int
    to_seq: int
    head: str
    holes: list[tuple[int, int]]
    received_at: datetime
    bytes: int
    identity: int
    fingerprint: str
    signing_key: str


class EnvelopePage(Schema):
    """A page of envelopes."""

    items: list[EnvelopeOut]
    next: str | None


class CursorOut(Schema):
    """How far the site's journal was read: up to entry `seq`; it says that it has `written`, so `waiting` are not read.

    `problem` is why it cannot be read on, or empty; `keys_since` is from when on its present keys speak for it, null
    for its first ones.
    """

    seq: int
    head: str
    acked: int
    written: int | None
    waiting: int
    problem: str
    read_at: datetime | None
    next_at: datetime | None
    identity: int | None
    keys_since: datetime | None


class AxisOut(Schema):
    """Intervals of one axis in the order of time; those that were superseded stand before what took their place."""

    axis: str
    intervals: list[IntervalOut]


class TimelineOut(Schema):
    """How a site was, as it stands now, or with what was recorded before."""

    since: datetime
    until: datetime
    axes: list[AxisOut]


def entry_out(row: JournalEntry) -> dict[str, Any]:
    """An entry as the API shows it."""
    names = ("seq", "kind", "digest", "boot", "mono_ms", "at", "mapped_at", "uncertainty_ms", "body")
    return {name: getattr(row, name) for name in names} | {"identity": row.identity_id, "envelope": row.envelope_id}


def envelope_out(row: JournalEnvelope) -> dict[str, Any]:
    """An envelope as the API lists it; `row.size` is annotated."""
    return {
        **{name: getattr(row, name) for name in ("id", "from_seq", "to_seq", "head", "holes", "received_at")},
        "bytes": row.size,  # type: ignore[attr-defined]  # annotated
        "identity": row.identity_id,
        "fingerprint": row.identity.fingerprint,
        "signing_key": bytes(row.identity.signing_key).hex(),
    }


def cursor_out(row: JournalCursor | None, *, written: int | None, waiting: int) -> dict[str, Any]:
    """How far it was read as the API shows it; nothing yet without a row."""
    common = {"written": written, "waiting": waiting}
    if row is None:
        empty = {"read_at": None, "next_at": None, "identity": None, "keys_since": None}
        return {"seq": 0, "head": "", "acked": 0, "problem": ""} | empty | common
    names = ("seq", "head", "acked", "problem", "read_at", "next_at")
    own = {name: getattr(row, name) for name in names}
    return own | {"identity": row.identity_id, "keys_since": row.since} | common


def axis_out(axis: str, rows: list[StateInterval]) -> dict[str, Any]:
    """One axis of a time line."""
    return {"axis": axis, "intervals": [interval_out(row) for row in rows if row.axis == axis]}
