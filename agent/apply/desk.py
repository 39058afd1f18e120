"""Where desired state comes in, and where one asks how far it is: for one site, or for many that one process plays.

Accepting runs in whatever thread asks, steps in the applier's; what both touch is a record that is replaced whole.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.apply.blobs import BlobFolder, Piece
from agent.apply.machine import Machine
from agent.apply.part import Part
from agent.apply.record import SLOTS, Applied, Kept, Newest, RecordError, Said, Slot, Work, pack, unpack
from agent.apply.site import Site, Step, settle
from agent.apply.steps import advance
from agent.apply.store import Store, StoreError, Write
from agent.apply.telling import progress, shown_state, spoken_of, with_receipt
from agent.apply.trust import Trust, read_trust
from agent.apply.verify import BlobsMissing, Floor, Situation, verify
from agent.identity import Identity, certified_names
from agent.protocol import Desired
from agent.protocol.desired import (
    DesiredStatus,
    DocumentRefused,
    PutBlob,
    PutDesired,
    blobs_of,
    digest,
    read_document,
)
from agent.protocol.entries import Receipt as ReceiptEntry
from agent.protocol.identity import provider_of

_KINDS: Final[dict[Slot, type[Kept]]] = {"newest": Newest, "work": Work, "applied": Applied}
log = logging.getLogger("agent")


class _Entry:
    """One site: who it is, and what its steps need."""

    __slots__ = (
        *("alarmed", "fleet", "is_told", "key", "lock"),
        *("provider", "published", "seen_at", "state", "trust"),
    )

    def __init__(self, machine: Machine, parts: Sequence[Part], blobs: BlobFolder) -> None:
        self.lock = threading.Lock()
        self.state = Site(machine, parts, blobs)
        self.fleet, self.provider = "", 0
        self.trust = Trust()
        self.key: Ed25519PrivateKey | None = None
        self.seen_at: datetime | None = None
        self.alarmed = ""
        self.published: tuple[int, int, str, str] | None = None
        self.is_told = False


class Desk:
    """See the module. `published` and `noted` are called by whoever calls put() and finish(), so in several threads.

    `published(site, desired)` is told what reports are to say; `noted(site, entry)` is to write an entry of the
    journal, and to call told() once that is done; `woken(site)` that there is something to do for the site.
    """

    def __init__(
        self,
        store: Store,
        blobs: Path,
        *,
        published: Callable[[UUID, Desired], None],
        noted: Callable[[UUID, ReceiptEntry], None],
    ) -> None:
        """`blobs` is a folder for them. Raises StoreError."""
        self._store = store
        try:
            self._blobs = BlobFolder(blobs, self._named)
        except OSError as error:
            raise StoreError(f"{blobs} cannot be made: {error.strerror}") from None
        self._published, self._noted = published, noted
        self._entries: dict[UUID, _Entry] = {}
        self.woken: Callable[[UUID], None] = lambda site: None

    def add(self, sites: Iterable[tuple[UUID, Machine, Sequence[Part]]]) -> None:
        """Take sites, and what is kept of them. What is damaged is said and set aside. Raises StoreError."""
        new = {site: _Entry(machine, parts, self._blobs) for site, machine, parts in sites}
        kept = self._store.load(new)
        for site, entry in new.items():
            found = {slot: self._unpack(site, slot, kept.get((site, slot))) for slot in SLOTS}
            newest, work, applied = found["newest"], found["work"], found["applied"]
            entry.state.newest = newest if isinstance(newest, Newest) else None
            entry.state.work = work if isinstance(work, Work) else None
            entry.state.applied = applied if isinstance(applied, Applied) else None
            entry.seen_at = _seen_at(entry.state)
        self._entries |= new
        for site in new:
            self._tell(site)

    def certify(self, identity: Identity) -> None:
        """Believe the keys that came with these certificates, and sign receipts with the site's own."""
        entry, certificates = self._entries[identity.site], identity.certificates
        if certificates is None:
            return
        providers = (provider_of(n, certificates.fleet, identity.site) for n in certified_names(certificates.chain[0]))
        trust = read_trust(certificates)
        for problem in trust.problems:
            log.error("site %s: %s", identity.site, problem)
        with entry.lock:
            entry.trust, entry.key, entry.fleet = trust, identity.keys.signing(), certificates.fleet
            entry.provider = next((number for number in providers if number is not None), 0)

    @property
    def sites(self) -> list[UUID]:
        """All sites that were added."""
        return list(self._entries)

    def part_sites(self) -> dict[UUID, Site]:
        """What the steps of each site work on; for the applier's thread alone."""
        return {site: entry.state for site, entry in self._entries.items()}

    # What is asked --------------------------------------------------------------------------------------------
    def put(self, site: UUID, body: bytes) -> PutDesired:
        """Accept a document, once it is on the disk, or say why not. Blocks as long as that takes."""
        entry = self._entries[site]
        with entry.lock:
            try:
                verified = verify(body, self._situation(site, entry), self._blobs.has)
            except BlobsMissing as error:
                return PutDesired(state="refused", reason=error.code, detail=error.reason, blobs=error.blobs)
            except DocumentRefused as error:
                self._refused(site, entry, body, error)
                return PutDesired(state="refused", reason=error.code, detail=error.reason)
            if verified.outcome == "unchanged":
                return PutDesired(state="unchanged")
            document = verified.document
            newest = Newest(
                envelope=body,
                sha256=verified.sha256,
                epoch=document.epoch,
                version=document.version,
                seen_at=max(document.issued_at, entry.seen_at or document.issued_at),
                skipped=verified.skipped,
                hold=document.hold,
            )
            try:
                self._store.put([Write(site, "newest", pack(newest))])
            except StoreError as error:
                log.error("%s", error)
                return PutDesired(state="refused", reason="storage", detail=str(error)[:300])
            entry.state.newest, entry.seen_at = newest, newest.seen_at
        self._tell(site)
        self.woken(site)
        return PutDesired(state="accepted", detail="versions were skipped" if verified.skipped else "")

    def put_blob(self, sha256: str, piece: Piece, data: bytes) -> PutBlob:
        """Take a piece of a blob. Blocks as long as the disk does."""
        return self._blobs.put(sha256, piece, data)

    def status(self, site: UUID) -> DesiredStatus:
        """How far the site is with the newest document."""
        state = self._entries[site].state
        work, newest = state.work, state.newest
        shown = newest or spoken_of(work)
        if shown is None:
            return DesiredStatus(epoch=0, version=0, sha256=None, state="none")
        which, detail = shown_state(newest, work, state.trying.note)
        done, total = progress(state, work) if work is not None and shown.sha256 == work.sha256 else (0, 0)
        return DesiredStatus(
            epoch=shown.epoch,
            version=shown.version,
            sha256=shown.sha256,
            state=which,
            detail=detail,
            done=done,
            total=total,
            hold=newest is not None and newest.hold,
            receipt=None if work is None or work.said is None else work.said.envelope,
        )

    # One step -------------------------------------------------------------------------------------------------
    def begin(self, site: UUID) -> Step:
        """Do the site's next step, with the receipt that it calls for. Blocks as long as the part does."""
        entry = self._entries[site]
        if not entry.state.machine.is_running:
            return Step(wait_s=1.0)
        work = entry.state.work
        if entry.is_told and work is not None and work.said is not None:
            entry.is_told = False
            return Step(settle(work, said=msgspec.structs.replace(work.said, told=True)))
        step = advance(entry.state)
        return step if step.work is None else replace(step, work=with_receipt(site, entry.state, step.work, entry.key))

    @staticmethod
    def writes(site: UUID, step: Step) -> list[Write]:
        """What must be on the disk before finish(): the good document before the record that says so."""
        if step.is_volatile:
            return []
        applied = [] if step.applied is None else [Write(site, "applied", pack(step.applied))]
        return applied if step.work is None else [*applied, Write(site, "work", pack(step.work))]

    def keep(self, writes: Sequence[Write]) -> None:
        """Put them on the disk. Raises StoreError."""
        self._store.put(writes)

    def finish(self, site: UUID, step: Step) -> None:
        """The step is on the disk: go on from there, and say so."""
        state = self._entries[site].state
        if step.applied is not None:
            state.applied = step.applied
        before = state.work
        if step.work is not None:
            state.work = step.work
            said = step.work.said
            if said is not None and not said.told and (before is None or before.said != said):
                self._note(site, said)
        self._tell(site)

    def told(self, site: UUID) -> None:
        """The journal has the latest receipt. For any thread."""
        self._entries[site].is_told = True
        self.woken(site)

    def note_untold(self) -> None:
        """At the start: have those receipts journaled of which it is not known that they were."""
        for site, entry in self._entries.items():
            work = entry.state.work
            if work is not None and work.said is not None and not work.said.told:
                self._note(site, work.said)

    # Within ---------------------------------------------------------------------------------------------------
    def _situation(self, site: UUID, entry: _Entry) -> Situation:
        state = entry.state
        known: list[Kept] = [kept for kept in (state.newest, state.work, state.applied) if kept is not None]
        newest = max(known, key=lambda kept: kept.number, default=None)
        floor = None
        if newest is not None:
            floor = Floor(newest.epoch, newest.version, newest.sha256, held=state.newest is not None)
        now = state.machine.now()
        return Situation(entry.fleet, entry.provider, site, entry.trust, floor, entry.seen_at, now)

    def _refused(self, site: UUID, entry: _Entry, body: bytes, error: DocumentRefused) -> None:
        """One line in the log; two documents of one version are an alarm, which the journal keeps, once each."""
        log.warning("site %s refused a document (%s): %s", site, error.code, error.reason)
        if error.code == "equivocation" and entry.alarmed != digest(body):
            entry.alarmed = digest(body)
            document = read_document(body)
            self._noted(site, ReceiptEntry(document.epoch, document.version, "equivocation", error.reason))

    def _note(self, site: UUID, said: Said) -> None:
        log.info("site %s: version %d is %s. %s", site, said.version, said.state, said.detail)
        self._noted(site, ReceiptEntry(said.epoch, said.version, said.state, said.detail))

    def _tell(self, site: UUID) -> None:
        entry, status = self._entries[site], self.status(site)
        said = (status.epoch, status.version, status.state, status.detail)
        if said != entry.published:
            entry.published = said
            self._published(site, Desired(*said))

    def _unpack(self, site: UUID, slot: Slot, packed: bytes | None) -> Kept | None:
        """Whole, or nothing. Raises StoreError."""
        if packed is None:
            return None
        try:
            record = unpack(packed, _KINDS[slot])
            if digest(record.envelope) != record.sha256:
                raise RecordError("its document is another one than it says")
        except RecordError as error:
            log.error("what site %s kept as %s is damaged and set aside, so the centre is asked: %s", site, slot, error)
            self._store.set_aside(site, slot)
            return None
        return record

    def _named(self) -> frozenset[str]:
        """All blobs that a kept document names."""
        kept = {
            k.sha256: k for e in self._entries.values() for k in (e.state.newest, e.state.work, e.state.applied) if k
        }
        return frozenset(blob for k in kept.values() for blob in blobs_of(read_document(k.envelope)))


def _seen_at(state: Site) -> datetime | None:
    """The latest time that is known to have been signed."""
    times = [read_document(kept.envelope).issued_at for kept in (state.work, state.applied) if kept is not None]
    if state.newest is not None:
        times.append(state.newest.seen_at)
    return max(times, default=None)
