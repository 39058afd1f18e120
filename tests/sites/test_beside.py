"""Threads beside the polls: when the next round comes."""

import asyncio
import threading
import time
from typing import Any

import pytest

from sites.beside import Beside

LONG_S = 30.0


class Rounds(Beside):
    """Counts its rounds; `due` is what each found."""

    idle_s = LONG_S

    def __init__(self, due: int = 0) -> None:
        nothing: Any = None
        super().__init__(0, asyncio.new_event_loop(), nothing, nothing)
        self.due, self.rounds, self.came = due, 0, threading.Semaphore(0)

    def work(self) -> int:
        self.rounds += 1
        self.came.release()
        return self.due


@pytest.fixture
def begun() -> Any:
    made: list[Rounds] = []

    def begin(rounds: Rounds) -> Rounds:
        made.append(rounds)
        rounds.start()
        assert rounds.came.acquire(timeout=5)
        return rounds

    yield begin
    for one in made:
        one.stop()
        one._loop.close()


def test_an_idle_one_rests_and_is_woken_from_any_thread(begun: Any) -> None:
    it = begun(Rounds())
    assert not it.came.acquire(timeout=0.2)
    it.wake()
    assert it.came.acquire(timeout=5)


def test_a_wake_during_a_round_is_not_lost(begun: Any) -> None:
    class WokenInside(Rounds):
        def work(self) -> int:
            if self.rounds == 0:
                self.wake()
            return super().work()

    it = begun(WokenInside())
    assert it.came.acquire(timeout=5)


def test_after_work_it_looks_again_briskly_for_a_while(begun: Any) -> None:
    class Brisk(Rounds):
        brisk_s, rest_s = 0.01, 0.01

    it = begun(Brisk(due=1))
    assert it.came.acquire(timeout=5)
    it.due = 0
    assert all(it.came.acquire(timeout=5) for _ in range(3))


def test_one_that_has_had_nothing_is_not_brisk(begun: Any) -> None:
    class Brisk(Rounds):
        brisk_s = 0.01

    it = begun(Brisk())
    assert not it.came.acquire(timeout=0.3)


def test_stop_ends_it_at_once(begun: Any) -> None:
    it = begun(Rounds())
    began_s = time.monotonic()
    it.stop()
    assert not it.is_alive()
    assert time.monotonic() - began_s < LONG_S / 2
