"""Journals, entries and signed pages for tests."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.journal import Journal
from agent.journal_file import Draft
from agent.protocol import Verdict
from agent.protocol.entries import GENESIS, Alive, Body, Entry, digest_of, encode_entry, kind_of
from agent.protocol.envelope import seal_envelope
from agent.protocol.journal import PAGE_TYPE, Excerpt, Page, open_page, seal_page
from tests.agent.factories import AT, SITE, make_report

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
BOOT = "84bd36e5-1ff2-4c0a-a7a8-bad60a869b7c"
BOUND = 4 << 20
SAMPLE = make_report().resources
UP = Verdict("up", AT)


def minute(number: int) -> datetime:
    return AT + timedelta(minutes=number)


def make_entry(seq: int, prev: str, body: Body) -> Entry:
    return Entry(seq, prev, BOOT, seq * 60_000, minute(seq), kind_of(body), body)


def make_chain(bodies: Sequence[Body], *, first: int = 1, prev: str = GENESIS) -> list[bytes]:
    raws = []
    for seq, body in enumerate(bodies, start=first):
        raws.append(encode_entry(make_entry(seq, prev, body)))
        prev = digest_of(raws[-1])
    return raws


def make_page(raws: Sequence[bytes], *, after: int = 0, holes: Any = (), **fields: Any) -> bytes:
    """A signed page of entries; `fields` replace members of the signed payload, true or not, `...` leaves one out."""
    head = digest_of(raws[-1]) if raws else GENESIS
    to = msgspec.json.decode(raws[-1])["seq"] if raws else after
    if not fields and holes is not ...:
        return seal_page(Excerpt(after, to, head, holes, tuple(raws)), site=SITE, signing_key=KEY)
    payload = {"site": SITE, "from": after + 1, "to": to, "head": head, "holes": holes}
    payload |= {"entries": [msgspec.Raw(raw) for raw in raws]} | fields
    return sign(msgspec.json.encode({name: value for name, value in payload.items() if value is not ...}))


def sign(payload: bytes) -> bytes:
    return seal_envelope(payload, payload_type=PAGE_TYPE, signing_key=KEY)


def open_made(body: bytes, *, after: int = 0, prev: str | None = None) -> Page:
    return open_page(body, site=SITE, signing_key=PUBLIC, after=after, prev=prev)


def write(journal: Journal, bodies: Sequence[Body], *, start: int = 0) -> None:
    """All bodies in one commit, one a minute."""
    drafts = [Draft(SITE, body, BOOT, n * 60_000, minute(n)) for n, body in enumerate(bodies, start=start)]
    journal.append_many(drafts)


def fill(journal: Journal, count: int) -> None:
    """Signs of life and samples in turn."""
    write(journal, [SAMPLE if number % 2 else Alive() for number in range(count)])


def read_all(journal: Journal, *, after: int = 0, prev: str | None = None) -> list[Page]:
    """All pages as the centre reads and checks them."""
    pages = []
    while True:
        page = open_made(seal_page(journal.page(SITE, after), site=SITE, signing_key=KEY), after=after, prev=prev)
        if not page.entries:
            return pages
        pages.append(page)
        after, prev = page.to, page.head


def read_entries(journal: Journal) -> list[Entry]:
    return [entry for page in read_all(journal) for entry in page.entries]


def reopen(journal: Journal, path: Path, **options: Any) -> Journal:
    journal.close()
    return Journal.open(path, bound_bytes=BOUND, **options)
