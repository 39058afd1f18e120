"""Rows 1 to 5 of the matrix for rollouts: what is killed, stopped or away in mid-wave costs latency alone."""

import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connections

from fleet.rollouts.services.ticking import tick
from fleet.stack.process import signal_group
from sites.models import Provider
from tests.conftest import empty_database
from tests.flows.rolling import People, Run, runs, to
from tests.flows.system import System, all_up, query, wait_for
from tests.services import crash_database

# Ticks hold the row of the rollout that they work on.
IN_MID_TICK = "SELECT 1 FROM pg_locks WHERE relation = 'rollouts_rollout'::regclass AND mode = 'RowShareLock'"


class Fleet:
    """A running system with so many sites, and rollouts of three waves to all of them, one standard after the other."""

    def __init__(self, stack: ExitStack, folder: Any, sites: int) -> None:
        self.system = System(stack, folder)
        self.system.start()
        provider = Provider.objects.using("owner").create(slug="flows", name="Flows")
        self.sites = self.system.start_sites(sites, provider_id=provider.pk)
        wait_for(lambda: all_up(self.sites), 60 + sites / 2, "all up")
        self.people = People()
        self._letters = iter("0123456789abcdef")

    def begin(self) -> Run:
        """A rollout of which the first wave is claimed."""
        self.letter = next(self._letters)
        third = len(self.sites) // 3
        waves = self.sites[:third], self.sites[third : 2 * third], self.sites[2 * third :]
        run = self.people.roll_out(to(self.letter), *waves)
        wait_for(lambda: "queued" not in run.states(waves[0]), what="the first wave is claimed")
        return run

    def is_done(self, run: Run) -> bool:
        """Whether it is over; starts again meanwhile what has ended by itself, as the stack's supervisor does."""
        self.system.restart_ended()
        return run.state == "succeeded"

    def was_exact(self, run: Run) -> None:
        """Every site has what the rollout gave it, by one document that was signed once."""
        try:
            wait_for(lambda: self.is_done(run), 120 + len(self.sites) / 2, f"the end, from {run.state} {run.waves}")
        except AssertionError as error:
            error.add_note(f"{run.failures()} {sorted(run.states())}")
            error.add_note(self.system.last_words("tick", "poller0", "beat"))
            raise
        assert run.waves == ["passed"] * 3
        run.was_exact()
        assert runs(self.sites) == ["sha256:" + self.letter * 64] * len(self.sites)
        applied = "SELECT count(*), count(DISTINCT site_id) FROM edge_sites_journalentry e WHERE kind = 'receipt'"
        again = f"{applied} AND body ->> 'state' = 'applied' AND body ->> 'version' = %s"
        assert query(f"{again} GROUP BY site_id HAVING count(*) > 1", self.letter) == []


def _fleet(blocker: Any, folder: Any, sites: int) -> Iterator[Fleet]:
    with blocker.unblock(), ExitStack() as stack:
        stack.callback(empty_database)
        yield Fleet(stack, folder, sites)


@pytest.fixture(scope="module")
def few(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    yield from _fleet(django_db_blocker, tmp_path_factory.mktemp("few"), 9)


@pytest.fixture
def many(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    yield from _fleet(django_db_blocker, tmp_path_factory.mktemp("many"), 200)


def kill_while_it_runs(fleet: Fleet, run: Run, times: int, names: Sequence[str], seed: int) -> int:
    """Kill and start again one of these, at random moments, until it is over; how often."""
    dice, killed = random.Random(seed), 0
    while killed < times and run.state != "succeeded":
        time.sleep(dice.uniform(0.2, 2.0))
        name = dice.choice(names)
        fleet.system.kill(name)
        fleet.system.start_worker(name)
        killed += 1
    return killed


# Short ------------------------------------------------------------------------------------------------------
def test_workers_killed_in_mid_wave_make_it_later_and_nothing_else(few: Fleet) -> None:
    """Row 1, short."""
    run = few.begin()
    assert kill_while_it_runs(few, run, 3, ("tick", "poller0"), seed=1) == 3
    few.was_exact(run)


def test_a_worker_that_is_stopped_in_mid_tick_holds_up_nobody_and_writes_nothing_late(few: Fleet) -> None:
    """Row 2: the database ends its session, another worker goes on; when it wakes up it finds nothing to write."""
    run = few.begin()
    stopped = stop_in_mid_tick(few)
    few.system.start_worker("tick")
    few.was_exact(run)
    before = query("SELECT id, state, lease, due_at FROM rollouts_sitestep ORDER BY id")
    signal_group(stopped, signal.SIGCONT)
    wait_for(lambda: "a tick of rollout" in few.system.log("tick").read_text(), 30, "it wakes up, in vain")
    assert query("SELECT id, state, lease, due_at FROM rollouts_sitestep ORDER BY id") == before
    signal_group(stopped, signal.SIGTERM)
    stopped.wait(20)


def stop_in_mid_tick(fleet: Fleet) -> Any:
    """Stop the worker at a moment at which it holds the row of the rollout."""
    for _ in range(2_000):
        child = fleet.system.freeze("tick")
        time.sleep(0.005)
        if query(IN_MID_TICK):
            time.sleep(0.2)
            if query(IN_MID_TICK):  # else it had just committed
                return child
        signal_group(child, signal.SIGCONT)
        time.sleep(0.005)
    raise AssertionError("it was never in mid-tick")


def test_ticks_at_the_same_moment_and_out_of_order_come_to_the_same(few: Fleet) -> None:
    """Row 3, short: three more workers take what the real one takes too, and lose one message in five."""
    stop = threading.Event()

    def work(dice: random.Random) -> None:
        while not stop.wait(dice.uniform(0.1, 0.5)):
            if dice.random() > 0.2:
                tick()
        connections.close_all()

    threads = [threading.Thread(target=work, args=[random.Random(seed)]) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        few.was_exact(few.begin())
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_redis_away_in_mid_wave_makes_it_later_and_nothing_else(few: Fleet) -> None:
    """Row 4, short."""
    run = few.begin()
    few.system.kill("redis")
    time.sleep(4)
    few.system.start_broker()
    few.was_exact(run)


def test_postgresql_crashed_in_mid_wave_leaves_nothing_half_written(few: Fleet) -> None:
    """Row 5, short."""
    run = few.begin()
    few.system.close_connections()
    crash_database()
    few.was_exact(run)


# At length --------------------------------------------------------------------------------------------------
@pytest.mark.full
def test_a_worker_killed_at_twenty_random_moments_inside_a_wave_of_two_hundred_sites(many: Fleet) -> None:
    """Row 1."""
    killed, seed = 0, 0
    while killed < 20:
        run, seed = many.begin(), seed + 1
        killed += kill_while_it_runs(many, run, 20 - killed, ("tick", "poller0", "beat"), seed)
        many.was_exact(run)


@pytest.mark.full
def test_redis_away_for_ten_minutes_in_mid_wave(many: Fleet) -> None:
    """Row 4: nobody watches meanwhile, so nothing is late when it is back."""
    run = many.begin()
    many.system.kill("redis")
    time.sleep(600)
    many.system.start_broker()
    many.was_exact(run)


@pytest.mark.full
def test_postgresql_crashes_five_times_in_mid_wave(many: Fleet) -> None:
    """Row 5."""
    run = many.begin()
    for _ in range(5):
        time.sleep(2)
        many.system.close_connections()
        crash_database()
    many.was_exact(run)
