"""Whether the updater may do a step for a document: checked by itself, from its own pins, whatever the agent says."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.apply.part import ApplyError
from agent.apply.trust import Trust, read_trust
from agent.apply.verify import Floor, Situation, verify
from agent.protocol.desired import Document, DocumentRefused, digest, open_document
from agent.protocol.envelope import signed_by
from agent.protocol.identity import Certificates
from agent.updater.folder import KEPT, NEWEST, Folder, Held, Pins


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that may be obeyed; `is_kept` where its state was kept here before, so that it may be brought back."""

    document: Document
    is_kept: bool


class Judge:
    """Takes documents for one folder. `now` is the wall clock, UTC."""

    def __init__(self, folder: Folder, now: Callable[[], datetime]) -> None:
        self._folder, self.now = folder, now

    def take(self, envelope: bytes, certificates: tuple[str, ...]) -> Taken:
        """The document, once it is the newest that is held here, or the one whose state was kept last.

        Raises ApplyError for any other: not signed by a key that this site's roots vouch for, of another site, older,
        expired, or another one of the same number; and PinsError.
        """
        newest, kept = self._folder.held(NEWEST), self._folder.held(KEPT)
        pins = self._folder.pins()
        try:
            for held in (newest, kept):
                if held is not None and held.envelope == envelope:
                    return Taken(open_document(envelope, [held.key]), is_kept=held == kept)
            trust = read_trust(_certificates(pins, certificates))
            situation = self._situation(pins, trust, newest, kept)
            document = verify(envelope, situation, lambda blob: True).document
        except DocumentRefused as error:
            raise ApplyError(f"the updater refuses the document ({error.code}): {error.reason}") from None
        key = signed_by(envelope, trust.at(situation.time))
        self._folder.put_held(NEWEST, Held(envelope=envelope, key=key))
        return Taken(document, is_kept=False)

    def newest(self) -> Document | None:
        """The document that was taken last."""
        held = self._folder.held(NEWEST)
        return None if held is None else open_document(held.envelope, [held.key])

    def _situation(self, pins: Pins, trust: Trust, newest: Held | None, kept: Held | None) -> Situation:
        """Raises DocumentRefused, which cannot be: what is held was verified."""
        documents = [open_document(held.envelope, [held.key]) for held in (newest, kept) if held is not None]
        floor = None
        if newest is not None:
            floor = Floor(documents[0].epoch, documents[0].version, digest(newest.envelope))
        seen_at = max((document.issued_at for document in documents), default=None)
        return Situation(pins.fleet, pins.provider, pins.site, trust, floor, seen_at, self.now())


def _certificates(pins: Pins, documents: tuple[str, ...]) -> Certificates:
    """The form that trust is read from; what the agent sent is vouched for by the pinned roots, or worth nothing."""
    return Certificates(gateway="", chain=("",), roots=pins.roots, fleet=pins.fleet, documents=documents)
