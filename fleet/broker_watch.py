"""Ends a worker that takes no tasks any more after its broker was away; whoever keeps it running starts another.

Celery connects again by itself. Now and then, though, a worker that lost its broker in the middle of a task lives on
and never takes another one (celery's issues 8030, 8091, 10205).
"""

import logging
import os
import threading
import time
from typing import Any, Final

import redis
from celery import bootsteps
from celery.worker.consumer import Consumer

from fleet.kit.counters import broker

logger = logging.getLogger(__name__)
LOOK_S: Final = 1.0
# A worker that waits for a broker asks every 30 s at most; one that is ended instead loses nothing.
GRACE_S: Final = 15.0


class Watch:
    """Whether a worker consumes from the broker that there is. `server` is what a broker calls its present run."""

    def __init__(self) -> None:
        self._server: str | None = None
        self._back_at: float | None = None

    def consumes(self, server: str | None) -> None:
        """The worker begins to consume from this broker; None where that did not say its run."""
        self._server, self._back_at = server, None

    def look(self, server: str | None, now: float) -> bool:
        """Whether the worker should end, `now` by a clock that only goes forward.

        None is a broker that does not answer. That proves nothing: it may be slow, and the worker consume all the same.
        """
        if server is None:
            self._back_at = None
            return False
        self._server = self._server or server
        if server == self._server:
            return False
        if self._back_at is None:
            self._back_at = now
        return now - self._back_at > GRACE_S


class BrokerWatch(bootsteps.StartStopStep):
    """Celery's consumer starts it whenever it has connected, the first time and again."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _watch = Watch()
    _thread: threading.Thread | None = None

    def start(self, parent: Consumer) -> None:
        """See StartStopStep."""
        self._watch.consumes(present_run())
        if BrokerWatch._thread is None:
            BrokerWatch._thread = threading.Thread(target=keep_looking, args=[self._watch], daemon=True, name="watch")
            BrokerWatch._thread.start()


def keep_looking(watch: Watch) -> None:
    """Look every second; ends the process at once, as a kill would, which whatever it does must stand anyway."""
    while not watch.look(present_run(), time.monotonic()):
        time.sleep(LOOK_S)
    logger.critical("the broker is back since %g s and this worker takes no tasks: it ends", GRACE_S)
    os._exit(os.EX_TEMPFAIL)


def present_run() -> str | None:
    """Id of the broker's present run, which changes when it is started again; None while it does not answer."""
    try:
        found: Any = broker().info("server")
    except redis.RedisError:
        return None
    return str(found["run_id"])
