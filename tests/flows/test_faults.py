"""The fault matrix of polling at full length (`make faults`): things are really killed, for long."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sites.models import Provider, Site
from tests.flows.system import System, all_up, flap, late_ms, query, shown, wait_for, wait_for_journals
from tests.services import crash_database

pytestmark = pytest.mark.full
Make = Callable[..., Provider]


def facts() -> list[tuple[Any, ...]]:
    """What stands, once every site's journal has been read."""
    wait_for_journals()
    return query(
        "SELECT site_id, axis, state, valid_from, valid_to FROM edge_sites_stateinterval"
        " WHERE superseded_at IS NULL ORDER BY site_id, axis, valid_from, id"
    )


def polled_again(sites: Sequence[Site], seconds: float = 60) -> None:
    """Every site brings a good report younger than now."""
    ids, mark = [site.pk for site in sites], query("SELECT clock_timestamp()")[0][0]
    wait_for(
        lambda: query("SELECT min(last_good_at) FROM edge_sites_sitestate WHERE site_id = ANY(%s)", ids)[0][0] > mark,
        seconds,
        "all polled again",
    )


@pytest.mark.parametrize("mode", ["loris", "hang", "big", "headers"])
def test_three_hundred_hostile_sites_hold_up_nobody(system: System, make_provider: Make, mode: str) -> None:
    """Rows 11 and 12: half of 600 sites never finish an answer; the others keep their pace, memory stays bounded."""
    sites = system.start_sites(600, provider_id=make_provider().pk, interval_s=5)
    wait_for(lambda: all_up(sites), what="all up")
    bad, good = sites[:300], sites[300:]
    before_mib = system.rss_mib("poller0")
    system.fail(mode, *bad)
    wait_for(lambda: set(shown(bad)) == {"unknown"}, what="hostile sites unknown")
    for _ in range(3):
        polled_again(good)
    ids = [site.pk for site in good]
    assert query(
        "SELECT count(*) FROM edge_sites_stateinterval WHERE state = 'unreachable' AND site_id = ANY(%s)", ids
    ) == [(0,)]
    # 300 answers at their bound of 1 MiB may be under way at once; nothing of them stays.
    assert system.rss_mib("poller0") - before_mib < 400
    system.heal(*bad)
    wait_for(lambda: all_up(sites), what="all up again")


def test_processes_killed_at_twenty_random_moments(two_pollers: System, make_provider: Make) -> None:
    """Row 1, for polling: whatever is killed, facts stay true and every site is polled on."""
    system, dice = two_pollers, random.Random(1)
    sites = system.start_sites(200, provider_id=make_provider().pk, interval_s=2)
    wait_for(lambda: all_up(sites), what="all up")
    before = facts()
    for _ in range(20):
        time.sleep(dice.uniform(0.2, 2.0))
        name = dice.choice(["poller0", "poller1", "tick", "beat"])
        system.kill(name)
        system.start_worker(name)
    polled_again(sites)
    assert facts() == before
    assert set(shown(sites)) == {"up"}


def test_redis_away_for_two_minutes(system: System, make_provider: Make) -> None:
    """Row 4: nobody is watched meanwhile, the beats say so, and no site is blamed for it."""
    sites = system.start_sites(30, provider_id=make_provider().pk, interval_s=2)
    wait_for(lambda: all_up(sites), what="all up")
    before = facts()
    system.kill("redis")
    gone = query("SELECT clock_timestamp()")[0][0]
    time.sleep(120)
    back = query("SELECT clock_timestamp()")[0][0]
    system.start_broker()
    system.restart_ended()  # a worker ends where it would have acknowledged a task just when Redis went
    polled_again(sites, 90)
    assert facts() == before
    polls = query("SELECT count(*) FROM sample WHERE at > %s + interval '15 s' AND at < %s", gone, back)
    assert polls == [(0,)]
    minutes = query(
        "SELECT count(*) FROM edge_sites_pollerbeat WHERE minute > %s AND minute + '1 min' < %s", gone, back
    )
    assert minutes == [(0,)]


def test_postgresql_crashes_in_the_middle(system: System, make_provider: Make) -> None:
    """Row 5: errors for seconds, then on; nothing half-written."""
    sites = system.start_sites(50, provider_id=make_provider().pk, interval_s=1)
    wait_for(lambda: all_up(sites), what="all up")
    before = facts()
    for _ in range(5):
        time.sleep(2)
        system.close_connections()
        crash_database()
        polled_again(sites)
    assert facts() == before
    assert query("SELECT count(*) FROM edge_sites_sitestate WHERE version = 0") == [(0,)]
    orphans = "SELECT count(*) FROM sample s LEFT JOIN edge_sites_site t ON t.id = s.site_id WHERE t.id IS NULL"
    assert query(orphans) == [(0,)]


def test_flapping_sites_are_recorded_and_cost_nobody_else(system: System, make_provider: Make) -> None:
    """Row 8, for state: 100 sites flap every 3 s for a minute; each needs attention once, the others are polled on."""
    sites = system.start_sites(160, provider_id=make_provider().pk, interval_s=1)
    wait_for(lambda: all_up(sites), what="all up")
    flapping, calm = sites[:100], sites[100:]
    late_before_ms = late_ms(calm, 10)
    outages = flap(system, flapping, times=10)
    polled_again(calm)
    assert late_ms(calm, 60) <= late_before_ms + 2_000  # see test_hostile
    ids = [site.pk for site in calm]
    assert query("SELECT count(*) FROM edge_sites_stateinterval WHERE state = 'down' AND site_id = ANY(%s)", ids) == [
        (0,)
    ]
    assert all(5 <= count <= 11 for count in outages.values())
    wait_for(lambda: all_up(sites), what="all up again")
