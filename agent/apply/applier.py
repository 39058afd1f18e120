"""Drives the steps of sites: one thread where steps block, as at a real site; a task where none does, for thousands."""

import asyncio
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from agent.apply.desk import Desk
from agent.apply.site import Step
from agent.apply.store import StoreError, Write

STORE_RETRY_S: Final = 5.0
BEGIN_TRIES: Final = 24
SLICE_S: Final = 0.02
MOST: Final = 500
log = logging.getLogger("agent")


class Turns:
    """Which site is due when. For any thread."""

    def __init__(self, sites: Iterable[UUID] = ()) -> None:
        """All of them are due now."""
        self._lock = threading.Lock()
        self._due: dict[UUID, float] = {}
        self._heap: list[tuple[float, UUID]] = []
        for site in sites:
            self.set(site, 0.0)

    def set(self, site: UUID, wait_s: float | None) -> None:
        """Due after so many seconds, if not before; never by itself with None."""
        if wait_s is None:
            return
        at_s = time.monotonic() + wait_s
        with self._lock:
            if at_s < self._due.get(site, float("inf")):
                self._due[site] = at_s
                heapq.heappush(self._heap, (at_s, site))

    def take(self) -> UUID | None:
        """A site that is due, which then is due no more; None while there is none."""
        with self._lock:
            while self._heap and self._heap[0][0] <= time.monotonic():
                at_s, site = heapq.heappop(self._heap)
                if self._due.get(site) == at_s:  # else it was set to an earlier time since
                    del self._due[site]
                    return site
        return None

    def wait_s(self) -> float | None:
        """Seconds until one is due, 0 if one is; None while none is to be."""
        with self._lock:
            return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None


class Applier(threading.Thread):
    """The thread of a real site: steps one after the other, each on the disk before the next."""

    def __init__(self, desk: Desk, begin: Callable[[], bool] = lambda: True) -> None:
        """`begin` is called before the first step, again after each pause while it gives False, BEGIN_TRIES at most."""
        super().__init__(name="applier", daemon=True)
        self._desk = desk
        self._begin = begin
        self._turns = Turns(desk.sites)
        self._stir = threading.Event()
        self._is_ended = False
        desk.woken = self._wake

    def run(self) -> None:
        """See Thread."""
        self._desk.note_untold()
        for _ in range(BEGIN_TRIES):
            if self._is_ended or self._begin():
                break
            self._stir.wait(STORE_RETRY_S)
        while not self._is_ended:
            site = self._turns.take()
            if site is None:
                self._stir.wait(self._turns.wait_s())
                self._stir.clear()
                continue
            try:
                self._turn(site)
            except Exception:  # the top of the thread: whatever it was, the next try may pass
                log.exception("a step of the desired state failed")
                self._turns.set(site, STORE_RETRY_S)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the step that is under way, or leave it: it is done again at the next start."""
        self._is_ended = True
        self._stir.set()
        if self.is_alive():
            self.join(timeout_s)

    def _turn(self, site: UUID) -> None:
        step = self._desk.begin(site)
        if not _keep(self._desk, self._desk.writes(site, step)):
            self._turns.set(site, STORE_RETRY_S)
            return
        self._desk.finish(site, step)
        self._turns.set(site, step.wait_s)

    def _wake(self, site: UUID) -> None:
        self._turns.set(site, 0.0)
        self._stir.set()


class Player:
    """The same for the sites of a simulator, in its loop: their steps block nobody, and share their commits."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turns = Turns(desk.sites)
        self._loop = asyncio.get_running_loop()
        self._stir = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        desk.woken = self._wake

    def start(self) -> None:
        """Play from now on, in the running loop."""
        self._desk.note_untold()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End, after what is being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            steps = self._steps()
            if not steps:
                self._stir.clear()
                wait_s = self._turns.wait_s()
                if wait_s != 0:
                    await _wait(self._stir, wait_s)
                continue
            writes = list(itertools.chain.from_iterable(self._desk.writes(*step) for step in steps))
            # Shielded: what is on the disk is also what we know, to the last.
            is_kept = not writes or await asyncio.shield(asyncio.to_thread(_keep, self._desk, writes))
            for site, step in steps:
                if is_kept:
                    self._desk.finish(site, step)
                self._turns.set(site, step.wait_s if is_kept else STORE_RETRY_S)
            await asyncio.sleep(0)

    def _steps(self) -> list[tuple[UUID, Step]]:
        """Steps of sites that are due: as many as one slice of time allows, for the loop has polls to answer."""
        steps: list[tuple[UUID, Step]] = []
        end_s = time.monotonic() + SLICE_S
        while len(steps) < MOST and time.monotonic() < end_s:
            site = self._turns.take()
            if site is None:
                break
            steps.append((site, self._desk.begin(site)))
        return steps

    def _wake(self, site: UUID) -> None:
        self._turns.set(site, 0.0)
        try:
            self._loop.call_soon_threadsafe(self._stir.set)
        except RuntimeError:  # the loop has ended
            log.debug("woken after the end")


async def _wait(event: asyncio.Event, wait_s: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), wait_s)
    except TimeoutError:
        return


def _keep(desk: Desk, writes: list[Write]) -> bool:
    """Whether they are on the disk; otherwise it is said, and the steps are done again later."""
    try:
        desk.keep(writes)
    except StoreError as error:
        log.error("the desired state cannot go on: %s", error)
        return False
    return True
