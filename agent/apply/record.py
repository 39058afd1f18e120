"""What a site keeps of its desired state: the newest document that was accepted, the work on one, the last good one.

Pure: no I/O, no clock. Each of the three is kept as bytes of its own, whole or absent, with a checksum in front.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from agent.apply.part import Change
from agent.protocol.desired import DesiredState

T = TypeVar("T")
Slot = Literal["newest", "work", "applied"]
SLOTS: Final[tuple[Slot, ...]] = ("newest", "work", "applied")
Phase = Literal[
    "planning", "staging", "staged", "switching", "checking", "rebooting", "proving", "keeping", "restoring", "ended"
]
_SUM_CHARS: Final = 64


class RecordError(Exception):
    """What is kept is damaged, and is not to be believed."""


class Kept(Struct, frozen=True, kw_only=True):
    """An envelope, as it came, and what it is."""

    envelope: bytes
    sha256: str
    epoch: int
    version: int

    @property
    def number(self) -> tuple[int, int]:
        """(epoch, version): documents are in this order."""
        return self.epoch, self.version


class Newest(Kept, frozen=True, kw_only=True):
    """The newest accepted document. `seen_at` is the latest time that a signature vouched for.

    `skipped`: it does not follow on what was held before. `hold`: it says to change nothing.
    """

    seen_at: datetime
    skipped: bool = False
    hold: bool = False


class Applied(Kept, frozen=True, kw_only=True):
    """The last good document: it held here, whole."""


class Said(Struct, frozen=True, kw_only=True):
    """The latest receipt: what it says, signed, and whether it is known that the journal has it too."""

    state: DesiredState
    epoch: int
    version: int
    detail: str
    envelope: bytes | None
    told: bool = False


class Work(Kept, frozen=True, kw_only=True):
    """How far the site is with one document.

    `index` is the change that `phase` is at; all before it are done, those of `restoring` from the last down. With
    `reboots` some hold only after a boot other than `boot`. `outcome` and `why` are what it ends with after
    `restoring`. `said` is the latest receipt, be it of this document or of one before. A repair brings the last good
    document back, and then `prior` is what the site goes on to say.
    """

    state: DesiredState
    phase: Phase
    detail: str = ""
    changes: tuple[Change, ...] = ()
    index: int = 0
    reboots: bool = False
    boot: str = ""
    outcome: Literal["failed", "rolled_back", "superseded"] = "failed"
    why: str = ""
    said: Said | None = None
    prior: "Work | None" = None


def pack(record: Kept) -> bytes:
    """The bytes that are kept: a checksum in hex, a line feed, and JSON."""
    body = msgspec.json.encode(record)
    return sha256(body).hexdigest().encode() + b"\n" + body


def unpack(packed: bytes, kind: type[T]) -> T:
    """The inverse of pack(). Raises RecordError."""
    check, body = packed[:_SUM_CHARS], packed[_SUM_CHARS + 1 :]
    if packed[_SUM_CHARS : _SUM_CHARS + 1] != b"\n" or sha256(body).hexdigest().encode() != check:
        raise RecordError("its checksum does not fit")
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"it cannot be read: {error}") from None
