"""What the steps of one site work on, and what one of them gives back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from agent.apply.machine import Machine
from agent.apply.part import Blobs, Part
from agent.apply.record import Applied, Newest, Work
from agent.protocol import MAX_TEXT_CHARS
from agent.protocol.desired import Document, read_document


@dataclass(frozen=True, slots=True)
class Step:
    """What to keep, `applied` before `work`, and after how many seconds to go on; None waits to be woken.

    What is volatile need not be kept: a restart does again what was done since, which changes nothing.
    """

    work: Work | None = None
    applied: Applied | None = None
    wait_s: float | None = 0.0
    is_volatile: bool = False


@dataclass(slots=True)
class Trying:
    """What is known of the present step in this process alone: a restart begins it anew, and loses nothing."""

    key: tuple[object, ...] = ()
    tries: int = 0
    began_s: float = 0.0
    note: str = ""
    staged: int = 0
    is_asked: bool = False


@dataclass(slots=True)
class Site:
    """What the steps of one site need. `newest` is written by whoever accepts documents, the rest by the steps."""

    machine: Machine
    parts: Sequence[Part]
    blobs: Blobs
    newest: Newest | None = None
    work: Work | None = None
    applied: Applied | None = None
    is_repaired: bool = False
    first_look_s: float = 0.05  # how soon what was switched is looked at again; then a quarter of its age
    trying: Trying = field(default_factory=Trying)
    parsed: tuple[str, Document] | None = None  # of the work under way, by its hash


def document_of(site: Site, work: Work) -> Document:
    """The document of the work under way, parsed once. Raises DocumentRefused."""
    if site.parsed is None or site.parsed[0] != work.sha256:
        site.parsed = (work.sha256, read_document(work.envelope))
    return site.parsed[1]


def settle(work: Work, **fields: object) -> Work:
    """The record with fields replaced, its texts within the bounds of the protocol."""
    for name in ("detail", "why"):
        text = fields.get(name)
        if isinstance(text, str):
            fields[name] = "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT_CHARS])
    return msgspec.structs.replace(work, **fields)
