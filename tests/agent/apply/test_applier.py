"""What drives the steps: who is due when, and a disk that is full for a while."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from agent.apply import applier as module
from agent.apply.applier import Applier, Turns
from agent.apply.store import FileStore
from tests.agent.apply.documents import Bench, FullStore, sealed
from tests.agent.factories import SITE
from tests.agent.wire import NAMESPACE, until

A, B = uuid5(NAMESPACE, "a"), uuid5(NAMESPACE, "b")


class TestTurns:
    def test_all_are_due_at_the_start_each_once(self) -> None:
        turns = Turns([A, B])
        assert {turns.take(), turns.take()} == {A, B}
        assert turns.take() is None
        assert turns.wait_s() is None

    def test_the_earliest_time_counts(self) -> None:
        turns = Turns()
        turns.set(A, 60.0)
        assert turns.take() is None
        turns.set(A, 0.0)
        turns.set(A, 30.0)
        turns.set(A, None)
        assert turns.take() == A
        assert turns.take() is None

    def test_many_threads_get_each_turn_once(self) -> None:
        sites = [uuid5(NAMESPACE, str(n)) for n in range(500)]
        turns, taken = Turns(sites), list[UUID]()

        def take() -> None:
            while (site := turns.take()) is not None:
                taken.append(site)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(sites)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FullStore:
    monkeypatch.setattr(module, "STORE_RETRY_S", 0.05)
    store = FullStore(FileStore(tmp_path / "desired", SITE))
    store.is_full = False
    return store


def test_the_thread_is_woken_by_what_comes(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench()
    applier = Applier(bench.desk)
    applier.start()
    time.sleep(0.05)
    began_s = time.monotonic()
    bench.desk.put(SITE, sealed(1, "a:1"))
    until(lambda: bench.state == (1, "applied"), "the document to be applied")
    assert time.monotonic() - began_s < 2
    applier.stop()
    assert not applier.is_alive()


def test_a_full_disk_is_waited_out(open_bench: Callable[..., Bench], store: FullStore) -> None:
    bench = open_bench(store=store)
    bench.desk.put(SITE, sealed(1, "a:1"))
    store.is_full = True
    applier = Applier(bench.desk)
    applier.start()
    time.sleep(0.2)
    assert bench.state == (1, "accepted")
    assert bench.part.world() == {}
    store.is_full = False
    until(lambda: bench.state == (1, "applied"), "the document to be applied")
    applier.stop()


def test_the_steps_themselves_cost_little(open_bench: Callable[..., Bench]) -> None:
    """An apply costs less than 200 ms beyond what its parts take: here they take next to nothing."""
    bench = open_bench()
    bench.apply(sealed(1, "a:1"))
    applier = Applier(bench.desk)
    applier.start()
    best_s = float("inf")
    for version in range(2, 8):
        began_s = time.monotonic()
        bench.desk.put(SITE, sealed(version, f"a:{version}"))
        until(lambda version=version: bench.state == (version, "applied"), "the document to be applied")
        best_s = min(best_s, time.monotonic() - began_s)
    applier.stop()
    print(f"an apply of one thing: {best_s * 1_000:.0f} ms")
    assert best_s < 0.2
