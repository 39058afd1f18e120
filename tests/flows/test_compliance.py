"""From a report to the verdict, with real worker, poller and agents: within two seconds, and for that site alone."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.backends.catalogue import WORKLOADS, make_component
from tests.fleet.standards.factories import make_ring, make_standard
from tests.flows.system import System, all_up, query, wait_for

STANDS = WORKLOADS["factory"][:3]
LATENCY_S = 2.5
COMPARED = "SELECT state, differences, judged_at FROM standards_sitecompliance WHERE site_id = %s"


def content() -> dict[str, Any]:
    """The newest of everything that the simulated sites run."""
    newest = [make_component("workload", one.name, one.versions[0]) for one in STANDS]
    images = [(one.name, f"registry.example/{one.name}@{one.digest}", one.version) for one in newest]
    return {"workloads": [{"name": name, "image": image, "version": version} for name, image, version in images]}


def state_of(site: Any) -> str:
    found = query(COMPARED, site.pk)
    return found[0][0] if found else ""


@pytest.fixture
def sites(system: System, make_provider: Any) -> list[Any]:
    """Six sites, all up, judged against a standard that those with the newest of everything run."""
    system.start_worker("worker")
    made = system.make_sites(6, provider_id=make_provider("ours").pk)
    make_ring(make_standard("factories", content()))
    system.simulate(made)
    wait_for(lambda: all_up(made), what="all sites to be up")
    wait_for(lambda: {state_of(site) for site in made} <= {"conform", "drift"}, what="all sites to be judged")
    return made


def test_a_workload_that_stops_is_drift_within_two_seconds_of_the_report(system, sites):
    site = next(site for site in sites if state_of(site) == "conform")
    others = {one.pk: query(COMPARED, one.pk) for one in sites if one is not site}
    system.judge("down", site)
    wait_for(lambda: state_of(site) == "drift", what="drift")
    ((_, differences, judged_at),) = query(COMPARED, site.pk)
    ((told_at,),) = query("SELECT workloads_at FROM edge_sites_sitestate WHERE site_id = %s", site.pk)
    assert [(one["kind"], one["verb"]) for one in json.loads(differences)] == [("workload", "stopped")]
    assert (judged_at - told_at).total_seconds() < LATENCY_S
    assert query("SELECT compliance FROM edge_sites_sitestate WHERE site_id = %s", site.pk) == [("drift",)]
    system.judge("up", site)
    wait_for(lambda: state_of(site) == "conform", what="conform again")
    assert {one.pk: query(COMPARED, one.pk) for one in sites if one is not site} == others


def test_a_site_that_falls_silent_is_unknown_since_it_was_last_heard(system, sites):
    site = sites[0]
    before = state_of(site)
    # Else it was never heard since it was first judged, and a span does not begin before the one that it ends.
    heard = "SELECT 1 FROM edge_sites_sitestate t JOIN standards_sitecompliance c USING (site_id)"
    wait_for(lambda: query(f"{heard} WHERE site_id = %s AND t.last_good_at > c.since", site.pk), what="a later report")
    system.fail("dark", site)
    wait_for(lambda: state_of(site) == "unknown", what="unknown")
    ((since, proven_at),) = query("SELECT since, proven_at FROM standards_sitecompliance WHERE site_id = %s", site.pk)
    ((last_good_at,),) = query("SELECT last_good_at FROM edge_sites_sitestate WHERE site_id = %s", site.pk)
    assert since == proven_at == last_good_at
    assert (datetime.now(UTC) - since).total_seconds() < 60
    system.heal(site)
    wait_for(lambda: state_of(site) == before, what="its verdict of before")
