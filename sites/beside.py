"""What a poller does beside its polls: in a thread of its own, over the poller's loop and connections, with rests."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from django.db import close_old_connections

from sites.addresses import Vetting
from sites.wire import Wire

logger = logging.getLogger(__name__)
T = TypeVar("T")
AFTER_FAILURE_S = 10.0
BRISK_FOR_S = 10.0


class Beside(threading.Thread):
    """Rounds of work, one after another, until stop(). Polls are never behind it."""

    idle_s = 5.0
    rest_s = 0.2
    brisk_s = math.inf  # as idle_s, if shorter, while something was due in the last BRISK_FOR_S

    def __init__(self, poller: int, loop: asyncio.AbstractEventLoop, wire: Wire, vetting: Vetting) -> None:
        """`poller` is the number whose shards are served; loop and wire are those of its polls."""
        super().__init__(name=type(self).__name__.lower(), daemon=True)
        self._poller = poller
        self._loop = loop
        self._wire = wire
        self._vetting = vetting
        self._ended = threading.Event()
        self._woken = threading.Event()
        self._last_due = -math.inf

    def work(self) -> int:
        """One round. Returns how much was due: after 0 the thread rests for `idle_s`, else for `rest_s`."""
        raise NotImplementedError

    def wake(self) -> None:
        """There is something to do: begin the next round now, from any thread. A hint alone; rounds come anyway."""
        self._woken.set()

    def stop(self) -> None:
        """End after the round that is under way."""
        self._ended.set()
        self._woken.set()
        self.join(timeout=15)

    def run(self) -> None:
        """See Thread."""
        while not self._ended.is_set():
            try:
                close_old_connections()
                done = self.work()
            except Exception:  # top of a thread: the database may be away; the next round finds all that is due
                logger.exception("%s: a round failed", self.name)
                self._ended.wait(AFTER_FAILURE_S)
                continue
            self._woken.wait(self._pause_s(done))
            self._woken.clear()  # here, so that stop() and wake() during a round are not lost

    def _pause_s(self, done: int) -> float:
        now = time.monotonic()
        if done:
            self._last_due = now
            return self.rest_s
        return min(self.brisk_s, self.idle_s) if now - self._last_due < BRISK_FOR_S else self.idle_s

    def _run_all(self, work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run coroutines on the poller's loop, and wait for all of them; each has its own deadline."""

        async def gathered() -> list[T]:
            return list(await asyncio.gather(*work))

        return asyncio.run_coroutine_threadsafe(gathered(), self._loop).result()
