"""Polling loses a process, its broker or its database's connections, and goes on: that costs latency only."""

import time

from sites.models import Site
from tests.flows.system import System, all_up, end_application_connections, query, wait_for, wait_for_journals

Shared = tuple[System, list[Site]]


def states(axis: str = "availability") -> list[tuple[int, str]]:
    """What stands, by site: a journal may correct when it began."""
    return query(
        "SELECT site_id, state FROM edge_sites_stateinterval"
        " WHERE axis = %s AND superseded_at IS NULL ORDER BY site_id, valid_from, id",
        axis,
    )


def test_killed_poller_costs_latency_only(shared_system: Shared) -> None:
    system, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    wait_for_journals()
    before = states() + states("reachability")
    for _ in range(3):
        system.kill("poller0")
        system.start_worker("poller0")
        mark = query("SELECT max(last_good_at) FROM edge_sites_sitestate")[0][0]
        wait_for(
            lambda mark=mark: query("SELECT min(last_good_at) FROM edge_sites_sitestate")[0][0] > mark,
            what="polled again",
        )
    assert states() + states("reachability") == before


def test_lost_redis_costs_latency_only(shared_system: Shared) -> None:
    system, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    wait_for_journals()
    before = states() + states("reachability")
    system.kill("redis")
    time.sleep(3)
    system.start_broker()
    mark = query("SELECT max(last_good_at) FROM edge_sites_sitestate")[0][0]

    def polled_again() -> bool:
        system.restart_ended()  # a worker ends where it would have acknowledged a task just then
        return bool(query("SELECT min(last_good_at) FROM edge_sites_sitestate")[0][0] > mark)

    wait_for(polled_again)
    assert states() + states("reachability") == before


def test_lost_database_connections_cost_latency_only(shared_system: Shared) -> None:
    _, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    wait_for_journals()
    before = states()
    for _ in range(3):
        end_application_connections()
        time.sleep(0.7)
    mark = query("SELECT max(last_good_at) FROM edge_sites_sitestate")[0][0]
    wait_for(lambda: query("SELECT min(last_good_at) FROM edge_sites_sitestate")[0][0] > mark, what="polled again")
    assert states() == before
