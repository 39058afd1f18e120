"""A poller's heart: one uvloop event loop in its own thread for the process's whole life.

A task submits a batch and writes what was answered within its window; the rest is written by a writer thread
of our own when it answers or reaches its deadline. So a few hundred slow sites never hold up the others.
"""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import psutil
import uvloop
from django.conf import settings
from django.db import close_old_connections

from fleet.kit import live
from sites.addresses import Vetting, networks
from sites.agent_client import PollResult, PollTarget, poll
from sites.wire import Wire

logger = logging.getLogger(__name__)
# How long a task waits for the answers of its batch: a little, and more for each site. Where somebody in each batch is
# silent, they must not take a poller all its time.
ANSWER_WINDOW_S = 0.05
ANSWER_WINDOW_A_SITE_S = 0.0007
WRITE_EVERY_S = 0.25
WORKERS = 2000
FREEZE_AFTER_CONNECTIONS = 500
WORKLOADS_EVERY_S = 300.0
# Objects between two runs of the garbage collector: a poll makes dozens, none of them part of a cycle.
GC_EVERY = 50_000

Record = Callable[[Sequence[PollResult]], object]


class Batch:
    """Results of one submission: collected for the task until it has taken them, then for the writer thread."""

    def __init__(self, size: int, late: Callable[[PollResult], None]) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._results: list[PollResult] = []
        self.size = self._missing = size
        self._taken = False
        self._late = late
        if size == 0:
            self._done.set()

    def answered(self, result: PollResult) -> None:
        """Take one result (from the loop's thread)."""
        with self._lock:
            if not self._taken:
                self._results.append(result)
                self._missing -= 1
                if self._missing == 0:
                    self._done.set()
                return
        self._late(result)

    def take(self, timeout_s: float) -> list[PollResult]:
        """What was answered in time; what answers later goes to the writer."""
        self._done.wait(timeout_s)
        with self._lock:
            self._taken = True
            return self._results


class Poller:
    """The loop, its connections and its writer. One a process; start() it before the first submit()."""

    def __init__(
        self,
        record: Record,
        *,
        tls: ssl.SSLContext | None,
        vetting: Vetting | None = None,
        workers: int = WORKERS,
    ) -> None:
        """`tls` as in sites.wire.Wire."""
        self._record = record
        self._tls = tls
        self._vetting = vetting or default_vetting()
        self._workers = workers
        self._loop = uvloop.new_event_loop()
        self._queue: asyncio.Queue[tuple[PollTarget, Batch]] = asyncio.Queue()
        self._in_flight: set[int] = set()
        self._late: list[PollResult] = []
        self._late_lock = threading.Lock()
        self._some_late = threading.Event()
        self._stop = threading.Event()
        self._frozen_at = 0
        self._workloads_kept: dict[int, tuple[int, float]] = {}
        self.wire: Wire
        self._ready = threading.Event()
        self._loop_thread = threading.Thread(target=self._run_loop, name="poll-loop", daemon=True)
        self._writer_thread = threading.Thread(target=self._run_writer, name="poll-writer", daemon=True)

    def start(self) -> None:
        """Start both threads; returns when the loop runs."""
        gc.set_threshold(GC_EVERY)
        self._loop_thread.start()
        self._ready.wait()
        self._writer_thread.start()
        live.use_loop(self._loop)

    def stop(self) -> None:
        """Write what has answered, close the connections, end the threads."""
        live.use_loop(None)
        self._stop.set()
        self._some_late.set()
        self._writer_thread.join(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(timeout=5)

    @property
    def reach(self) -> tuple[asyncio.AbstractEventLoop, Wire, Vetting]:
        """What else may use its connections."""
        return self._loop, self.wire, self._vetting

    def use_certificate(self, tls: ssl.SSLContext) -> None:
        """Show another certificate of ours in handshakes from now on."""
        self._tls = self.wire.tls = tls

    def submit(self, targets: Iterable[PollTarget]) -> Batch:
        """Have the loop poll these sites; one that is still in flight is left out."""
        with self._late_lock:
            fresh = [target for target in targets if target.site_id not in self._in_flight]
            self._in_flight.update(target.site_id for target in fresh)
        batch = Batch(len(fresh), self._answered_late)
        self._loop.call_soon_threadsafe(self._enqueue, fresh, batch)
        return batch

    def poll_batch(self, targets: Iterable[PollTarget]) -> int:
        """Submit, wait for the window, write what was answered. Returns how many were written."""
        batch = self.submit(targets)
        results = batch.take(ANSWER_WINDOW_S + batch.size * ANSWER_WINDOW_A_SITE_S)
        self.write(results)
        self._freeze()
        return len(results)

    def write(self, results: Sequence[PollResult]) -> None:
        """Record results, and let their sites be polled again whatever comes of it."""
        try:
            self._record(results)
        finally:
            with self._late_lock:
                self._in_flight.difference_update(result.target.site_id for result in results)

    # The loop's thread --------------------------------------------------------------------------------
    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.wire = Wire(self._loop, tls=self._tls)
        workers = [self._loop.create_task(self._work()) for _ in range(self._workers)]
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        for worker in workers:
            worker.cancel()
        self._loop.run_until_complete(asyncio.gather(*workers, return_exceptions=True))
        self.wire.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))  # lets the closed transports say so
        self._loop.close()

    def _enqueue(self, targets: Sequence[PollTarget], batch: Batch) -> None:
        for target in targets:
            self._queue.put_nowait((target, batch))

    async def _work(self) -> None:
        while True:
            target, batch = await self._queue.get()
            result = await poll(self.wire, target, self._vetting)
            if result.report is not None:
                result.keep_workloads = self._workloads_due(result)
            batch.answered(result)

    def _workloads_due(self, result: PollResult) -> bool:
        """Whether the workloads' figures are worth writing: when one changed, and every few minutes."""
        assert result.report is not None
        shape = hash(tuple((w.name, w.state, w.health, w.restarts) for w in result.report.workloads))
        now = time.monotonic()
        kept = self._workloads_kept.get(result.target.site_id)
        if kept is not None and kept[0] == shape and now - kept[1] < WORKLOADS_EVERY_S:
            return False
        self._workloads_kept[result.target.site_id] = (shape, now)
        return True

    # The writer's thread ------------------------------------------------------------------------------
    def _answered_late(self, result: PollResult) -> None:
        with self._late_lock:
            self._late.append(result)
        self._some_late.set()

    def _run_writer(self) -> None:
        while not self._stop.is_set():
            self._some_late.wait()
            self._stop.wait(WRITE_EVERY_S)  # others will answer, to be written with it
            self._some_late.clear()
            self._write_late()

    def _write_late(self) -> None:
        with self._late_lock:
            results, self._late = self._late, []
        if not results:
            return
        close_old_connections()  # one that broke would fail for ever: no task begins and ends in this thread
        try:
            self.write(results)
        except Exception:  # top of a thread: the next results must still be written
            logger.exception("late results were not written", extra={"sites": len(results)})

    def _freeze(self) -> None:
        """Keep long-lived objects out of the collector's sight: with 10,000 connections it costs more than polls."""
        opened = self.wire.opened
        if opened - self._frozen_at >= FREEZE_AFTER_CONNECTIONS:
            self._frozen_at = opened
            gc.collect()
            gc.freeze()


def default_vetting() -> Vetting:
    """From the settings: the exceptions, and every address of this machine and of our own services."""
    own: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = set()
    for rows in psutil.net_if_addrs().values():
        for row in rows:
            with contextlib.suppress(ValueError):
                own.add(ipaddress.ip_address(row.address.partition("%")[0]))
    for host in settings.OWN_HOSTS:
        if not host.startswith("/"):
            with contextlib.suppress(OSError):
                own.update(ipaddress.ip_address(row[4][0]) for row in socket.getaddrinfo(host, None))
    return Vetting(exceptions=networks(settings.AGENT_NETWORKS_ALLOWED), own=frozenset(own))
