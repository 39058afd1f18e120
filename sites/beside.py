"""What a poller does beside its polls: in a thread of its own, over the poller's loop and connections, with rests."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from django.db import close_old_connections

from sites.addresses import Vetting
from sites.wire import Wire

logger = logging.getLogger(__name__)
T = TypeVar("T")
AFTER_FAILURE_S = 10.0


class Beside(threading.Thread):
    """Rounds of work, one after another, until stop(). Polls are never behind it."""

    idle_s = 5.0
    rest_s = 0.2

    def __init__(self, poller: int, loop: asyncio.AbstractEventLoop, wire: Wire, vetting: Vetting) -> None:
        """`poller` is the number whose shards are served; loop and wire are those of its polls."""
        super().__init__(name=type(self).__name__.lower(), daemon=True)
        self._poller = poller
        self._loop = loop
        self._wire = wire
        self._vetting = vetting
        self._ended = threading.Event()

    def work(self) -> int:
        """One round. Returns how much was due: after 0 the thread rests for `idle_s`, else for `rest_s`."""
        raise NotImplementedError

    def stop(self) -> None:
        """End after the round that is under way."""
        self._ended.set()
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
            self._ended.wait(self.rest_s if done else self.idle_s)

    def _run_all(self, work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run coroutines on the poller's loop, and wait for all of them; each has its own deadline."""

        async def gathered() -> list[T]:
            return list(await asyncio.gather(*work))

        return asyncio.run_coroutine_threadsafe(gathered(), self._loop).result()
