"""The real machine with its container engine: the host backend, and the workloads beside it."""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec

from agent.backends.host import HostBackend
from agent.engine.client import Engine
from agent.engine.errors import EngineAway, EngineError
from agent.engine.inventory import Inventory, InventoryReader
from agent.protocol import Component, Desired, Report, Verdict, VerdictState, components_digest, encode_report
from agent.protocol.report import MAX_REASONS

AWAY: Final = "the container engine does not answer"
log = logging.getLogger("agent")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the thread last saw; replaced as a whole, so that the event loop never reads half of it."""

    inventory: Inventory
    verdict: Verdict


class EngineBackend:
    """See Backend. A thread of its own asks the engine, so that a report waits for nobody.

    While the engine is away the verdict is `degraded`, and workloads and components are those last seen.
    """

    def __init__(self, host: HostBackend, engine: Engine, interval_s: float) -> None:
        """Read once, here and now (so the first report is complete), and then every `interval_s` until close()."""
        self._host = host
        self._reader = InventoryReader(engine)
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._is_closed = False
        self._troubles: frozenset[str] = frozenset()
        self._reason_logged = ""
        self._seen = _Seen(Inventory(), host.make_now().verdict)
        self._components: tuple[Component, ...] = ()
        self._digest = ""
        self._made_of: tuple[str, tuple[Component, ...]] | None = None
        self._read()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def site(self) -> UUID:
        """See Backend."""
        return self._host.site

    @property
    def is_running(self) -> bool:
        """It runs, for it is asked."""
        return True

    @property
    def state(self) -> VerdictState:
        """`degraded` while the engine is away, or a managed workload has not been well in two readings in a row."""
        return self._seen.verdict.state

    @property
    def components_digest(self) -> str:
        """The digest of the host's components and the engine's."""
        self._combine()
        return self._digest

    def set_journal(self, seq: int, head: str | None) -> None:
        """See Backend."""
        self._host.set_journal(seq, head)

    def set_desired(self, desired: Desired | None) -> None:
        """See Backend."""
        self._host.set_desired(desired)

    def report(self, components_digest: str | None) -> bytes:
        """See Backend."""
        return encode_report(self.make_now(components_digest))

    def make_now(self, components_digest: str | None = None) -> Report:
        """See Backend."""
        seen = self._combine()
        is_known = components_digest == self._digest
        return msgspec.structs.replace(
            self._host.make_now(self._host.components_digest),
            verdict=seen.verdict,
            components_digest=self._digest,
            components=None if is_known else self._components,
            image_bytes=None if is_known else dict(seen.inventory.image_bytes),
            workloads=seen.inventory.workloads,
        )

    def refresh(self) -> None:
        """Ask the engine at once, for something has changed. Returns at once; any thread may call it."""
        self._wake.set()

    def close(self) -> None:
        """End the thread; what it waits for ends by the client's own timeouts."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if not self._is_closed:
                self._read()

    def _read(self) -> None:
        """Ask the engine, and judge. What was last known stays while nothing new is."""
        inventory, reasons = self._seen.inventory, [AWAY]
        try:
            inventory = self._reader.read()
        except EngineAway as error:
            self._log(str(error))
        except EngineError as error:
            reasons = [f"the container engine cannot say what runs: {error}"]
            self._log(str(error))
        except Exception:
            # The top of a thread that must live: the next reading tries again.
            log.exception("what the container engine says cannot be used")
        else:
            self._log("")
            reasons = [trouble for trouble in inventory.troubles if trouble in self._troubles][:MAX_REASONS]
            self._troubles = frozenset(inventory.troubles)
        self._seen = _Seen(inventory, self._judge(tuple(reasons)))

    def _judge(self, reasons: tuple[str, ...]) -> Verdict:
        """The verdict, which began when its state did."""
        state: VerdictState = "degraded" if reasons else "up"
        before = self._seen.verdict
        return Verdict(state, before.since if before.state == state else datetime.now(UTC), reasons)

    def _log(self, reason: str) -> None:
        """One line when the engine goes, and one when it is there again."""
        if reason != self._reason_logged:
            log.warning("%s", f"{AWAY}: {reason}" if reason else "the container engine answers again")
        self._reason_logged = reason

    def _combine(self) -> _Seen:
        """Put the host's components and the engine's together, when either has changed; what that was made from."""
        seen, digest = self._seen, self._host.components_digest
        parts = digest, seen.inventory.components
        if self._made_of != parts:
            self._components = (*(self._host.make_now().components or ()), *seen.inventory.components)
            self._digest = components_digest(self._components)
            self._made_of = parts
        return seen
