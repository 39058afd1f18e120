"""Whether a document that came is to be obeyed: every check, in the order that is the security.

Pure: no I/O, no clock of its own. The order: size; signature over the raw bytes by a key that is trusted; only then
is anything parsed, strictly; fleet, provider and site are mine; newer than what is held; not expired; blobs present.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from agent.apply.trust import Trust, TrustError
from agent.protocol import format_time
from agent.protocol.desired import MAX_DOCUMENT_BYTES, Document, DocumentRefused, blobs_of, digest, open_document


class BlobsMissing(DocumentRefused):
    """All is well but that `blobs` must be sent first."""

    def __init__(self, blobs: tuple[str, ...]) -> None:
        super().__init__("blobs_missing", f"{len(blobs)} blobs must be sent first")
        self.blobs = blobs


@dataclass(frozen=True, slots=True)
class Floor:
    """The newest document that was ever accepted here; `held` is false where its bytes were lost since."""

    epoch: int
    version: int
    sha256: str
    held: bool = True


@dataclass(frozen=True, slots=True)
class Situation:
    """What a site knows when a document comes. `seen_at` is the latest time that a signature has vouched for."""

    fleet: str
    provider: int
    site: UUID
    trust: Trust
    floor: Floor | None
    seen_at: datetime | None
    now: datetime

    @property
    def time(self) -> datetime:
        """No earlier than the clock, nor than what was signed: a clock that was set back makes nothing valid again."""
        return self.now if self.seen_at is None else max(self.now, self.seen_at)


@dataclass(frozen=True, slots=True)
class Verified:
    """A document that may be obeyed. `skipped` says that its predecessor was not what is held here."""

    outcome: Literal["accepted", "unchanged"]
    document: Document
    sha256: str
    skipped: bool = False


def verify(body: bytes, situation: Situation, has_blob: Callable[[str], bool]) -> Verified:
    """Check an envelope, in the order of this module. Raises DocumentRefused, BlobsMissing among them."""
    if len(body) > MAX_DOCUMENT_BYTES:
        raise DocumentRefused("too_large", f"document of {len(body)} bytes is above {MAX_DOCUMENT_BYTES}")
    try:
        keys = situation.trust.at(situation.time)
    except TrustError as error:
        raise DocumentRefused("signature", str(error)) from None
    document = open_document(body, keys)
    _check_mine(document, situation)
    sha256 = digest(body)
    floor = situation.floor
    if floor is not None and _is_held(document, sha256, floor):
        return Verified("unchanged", document, sha256)
    if document.expires_at <= situation.time:
        raise DocumentRefused("expired", _explain_expiry(document, situation))
    missing = tuple(blob for blob in blobs_of(document) if not has_blob(blob))
    if missing:
        raise BlobsMissing(missing)
    before = None if floor is None or floor.sha256 == sha256 else floor.sha256
    return Verified("accepted", document, sha256, skipped=before is not None and document.prev_sha256 != before)


def _check_mine(document: Document, situation: Situation) -> None:
    """Raises DocumentRefused."""
    for what, theirs, mine in (
        ("fleet", document.fleet, situation.fleet),
        ("provider", document.provider, situation.provider),
        ("site", document.site, situation.site),
    ):
        if theirs != mine:
            raise DocumentRefused("not_mine", f"it is for {what} {theirs}, this is {mine}")


def _is_held(document: Document, sha256: str, floor: Floor) -> bool:
    """Whether it is the very document that is held; False for one to be taken. Raises DocumentRefused."""
    theirs, mine = (document.epoch, document.version), (floor.epoch, floor.version)
    if theirs < mine:
        raise DocumentRefused("older", f"{_shown(theirs)} is older than {_shown(mine)}, which is held here")
    if theirs > mine:
        return False
    if sha256 != floor.sha256:
        raise DocumentRefused("equivocation", f"two documents are {_shown(mine)}: {floor.sha256} and {sha256}")
    return floor.held


def _shown(number: tuple[int, int]) -> str:
    return f"version {number[1]} of epoch {number[0]}"


def _explain_expiry(document: Document, situation: Situation) -> str:
    if situation.now < document.expires_at:
        return f"it expired at {format_time(document.expires_at)}, and a later time was signed already"
    return (
        f"it expired at {format_time(document.expires_at)}; the clock of this machine says"
        f" {format_time(situation.now)}: is it right?"
    )
