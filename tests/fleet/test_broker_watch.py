"""A worker that does not consume from the broker that there is ends; any other goes on."""

import os

import pytest
import redis

from fleet import broker_watch
from fleet.broker_watch import GRACE_S, Watch, keep_looking, present_run

LATER = GRACE_S + 1


def test_one_that_consumes_goes_on():
    watch = Watch()
    watch.consumes("a")
    assert not watch.look("a", 0)
    assert not watch.look("a", LATER)


@pytest.mark.parametrize("between", ["", None], ids=["too short to be seen", "seen"])
def test_one_that_does_not_connect_again_ends_after_its_grace(between):
    watch = Watch()
    watch.consumes("a")
    if between is None:
        assert not watch.look(None, 0)
    assert not watch.look("b", 1)
    assert not watch.look("b", GRACE_S)
    assert watch.look("b", 1 + LATER)


@pytest.mark.parametrize("at_first", ["a", None], ids=["known", "slow when the worker began"])
def test_a_broker_that_is_slow_to_answer_ends_nobody(at_first):
    watch = Watch()
    watch.consumes(at_first)
    for now in range(0, 1_000, 10):
        assert not watch.look("a" if now % 20 else None, now)


def test_one_that_connects_again_in_time_goes_on():
    watch = Watch()
    watch.consumes("a")
    assert not watch.look("b", 0)
    watch.consumes("b")
    assert not watch.look("b", LATER)


def test_while_the_broker_is_away_nobody_ends():
    watch = Watch()
    watch.consumes("a")
    for now in range(1_000):
        assert not watch.look(None, now)


def test_the_broker_of_the_tests_says_its_run_and_one_that_is_away_none(monkeypatch):
    assert present_run()
    assert present_run() == present_run()
    monkeypatch.setattr(broker_watch, "broker", lambda: redis.Redis.from_url("redis://127.0.0.1:1"))
    assert present_run() is None


def test_the_process_ends_at_once(monkeypatch):
    class EndedError(Exception):
        """Instead of the end of the tests' process."""

    def end(code: int) -> None:
        raise EndedError(code)

    clock = iter(range(0, 1_000, 5))
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(broker_watch.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(broker_watch.time, "monotonic", lambda: next(clock))
    watch = Watch()
    watch.consumes("another")
    with pytest.raises(EndedError) as ended:
        keep_looking(watch)
    assert ended.value.args == (os.EX_TEMPFAIL,)
