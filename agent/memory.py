"""What the sites of one process remember: their journal, who writes into it, and the pages they sign of it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.backends.base import Backend
from agent.identity import Identity
from agent.journal import Journal, JournalError
from agent.protocol.entries import Body
from agent.protocol.journal import AckAnswer, AckRequest, seal_page
from agent.remember import Recorder

TICK_S: Final = 1.0
BOUND_BYTES: Final = 256 << 20
# At the start the newest entries of each site are checked; the centre checks all it reads.
TAIL: Final = 200

log = logging.getLogger("agent")


class Memory:
    """Journal and recorder of all sites of a process. All but note() is called in the loop's thread."""

    def __init__(
        self,
        path: Path,
        backends: Sequence[Backend],
        *,
        bound_bytes: int = BOUND_BYTES,
        now_s: Callable[[], float] = time.time,
        mono_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the journal. `now_s` gives seconds since the epoch, `mono_s` seconds that never go back.

        Raises JournalError when another process has it.
        """
        self._now_s, self._mono_s = now_s, mono_s
        self._journal = Journal.open(path, bound_bytes=bound_bytes, tail=TAIL)
        self._backends = {backend.site: backend for backend in backends}
        self._recorder = Recorder(self._journal, backends)
        self._keys: dict[UUID, Ed25519PrivateKey] = {}
        self._task: asyncio.Task[None] | None = None
        self._told: dict[UUID, int] = {}
        self._notes: SimpleQueue[tuple[UUID, Body, Callable[[], None]]] = SimpleQueue()
        self.polled_at_s: dict[UUID, float] = {}
        self.bound_bytes = bound_bytes

    def sign_as(self, *identities: Identity) -> None:
        """Sign the pages of these sites with their keys from now on. Raises IdentityError."""
        self._keys |= {identity.site: identity.keys.signing() for identity in identities}

    def polled(self, site: UUID) -> None:
        """The site has answered a poll."""
        self._recorder.polled(site, self._mono_s())
        self.polled_at_s[site] = self._now_s()

    def usage(self, site: UUID) -> tuple[int, int | None, int | None, int]:
        """The site's last number, the last acknowledged one, bytes in use, and how many entries wait for room."""
        acked, used_bytes = self._journal.usage(site)
        return self._journal.head(site)[0], acked, used_bytes, self._journal.held

    def page(self, site: UUID, after: int, limit: int) -> bytes:
        """A signed page. Raises JournalError, AheadError among them."""
        key = self._keys.get(site)
        if key is None:
            raise JournalError("this site has not enrolled yet")
        return seal_page(self._journal.page(site, after, limit), site=site, signing_key=key)

    def ack(self, site: UUID, request: AckRequest) -> AckAnswer:
        """The centre has stored entries. Raises JournalError."""
        return self._journal.ack(site, request)

    def note(self, site: UUID, body: Body, written: Callable[[], None]) -> None:
        """Write an entry within a second, and say so. For any thread."""
        self._notes.put((site, body, written))

    def tick(self) -> None:
        """Write what is due, and let reports say how far the journal is."""
        written = []
        while not self._notes.empty():
            site, body, call = self._notes.get()
            self._recorder.note(site, body)
            written.append(call)
        self._recorder.tick(datetime.fromtimestamp(self._now_s(), UTC), self._mono_s())
        for call in written:
            call()
        for site, backend in self._backends.items():
            seq, head = self._journal.head(site)
            if self._told.get(site) != seq:
                self._told[site] = seq
                backend.set_journal(seq, head)

    def start(self) -> None:
        """Tick from now on, in the running loop."""
        self.tick()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End cleanly: the next start will say so."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if not self._notes.empty():
            self.tick()
        self._journal.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.tick()
            except Exception:  # the top of a task: an agent that cannot remember must still answer
                log.exception("the journal was not written")
