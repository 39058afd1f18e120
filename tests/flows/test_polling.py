"""From the beat to the database: real Celery processes poll real (simulated) agents."""

from collections.abc import Callable

from sites.models import Provider
from tests.flows.system import System, all_up, query, shown, wait_for

Make = Callable[..., Provider]


def test_sites_become_live_fail_and_recover(system: System, make_provider: Make) -> None:
    sites = system.start_sites(20, provider_id=make_provider().pk)
    wait_for(lambda: all_up(sites), what="20 sites up")
    assert query("SELECT count(DISTINCT site_id) FROM sample") == [(20,)]
    # A site that has just joined may be asked before it serves by its certificate; from now on nothing fails.
    ((polls, failures),) = query("SELECT sum(polls), sum(failures) FROM edge_sites_pollerbeat")
    wait_for(lambda: query("SELECT sum(polls) FROM edge_sites_pollerbeat")[0][0] > polls + 20, what="polled again")
    assert query("SELECT sum(failures) FROM edge_sites_pollerbeat") == [(failures,)]

    system.fail("down", sites[0])
    system.fail("degraded", sites[1])
    system.fail("dark", sites[2])
    wait_for(lambda: shown(sites[:3]) == ["down", "degraded", "unknown"], what="three failures")
    assert query("SELECT site_id, valid_to FROM edge_sites_outage WHERE superseded_at IS NULL") == [(sites[0].pk, None)]
    begun, last_good = query(
        "SELECT i.valid_from, s.last_good_at"
        " FROM edge_sites_stateinterval i JOIN edge_sites_sitestate s USING (site_id)"
        " WHERE site_id = %s AND axis = 'reachability' AND state = 'unreachable'",
        sites[2].pk,
    )[0]
    assert begun == last_good

    system.heal(*sites[:3])
    wait_for(lambda: all_up(sites), what="all up again")
    assert query("SELECT count(*) FROM edge_sites_outage WHERE valid_to IS NULL AND superseded_at IS NULL") == [(0,)]


def test_two_pollers_share_the_fleet(two_pollers: System, make_provider: Make) -> None:
    sites = two_pollers.start_sites(20, provider_id=make_provider().pk)
    wait_for(lambda: all_up(sites), what="all up")
    wait_for(
        lambda: query("SELECT count(DISTINCT poller) FROM edge_sites_pollerbeat WHERE polls > 0") == [(2,)],
        what="both pollers' beats",
    )


def test_many_slow_sites_hold_up_nobody(system: System, make_provider: Make) -> None:
    """Row 11, short form: a quarter of the fleet never answers; the others keep their pace."""
    sites = system.start_sites(80, provider_id=make_provider().pk, interval_s=2)
    wait_for(lambda: all_up(sites), what="all up")
    slow, good = sites[:20], sites[20:]
    system.fail("loris", *slow)
    ids = [site.pk for site in good]
    wait_for(lambda: set(shown(slow)) == {"unknown"}, what="slow sites unknown")
    mark = query("SELECT max(at) FROM sample")[0][0]
    wait_for(
        lambda: query("SELECT min(last_good_at) FROM edge_sites_sitestate WHERE site_id = ANY(%s)", ids)[0][0] > mark,
        what="good sites polled meanwhile",
    )
    late = query("SELECT count(*) FROM edge_sites_stateinterval WHERE state = 'unreachable' AND site_id = ANY(%s)", ids)
    assert late == [(0,)]


def test_upgrade_on_site_becomes_a_new_set_of_components(system: System, make_provider: Make) -> None:
    sites = system.start_sites(3, provider_id=make_provider().pk)
    wait_for(lambda: all_up(sites), what="all up")
    system._order(
        {"cmd": "upgrade", "sites": [str(sites[0].uuid)], "kind": "kernel", "name": "linux", "version": "9.9.9"}
    )
    spans = "SELECT component_set_id FROM edge_sites_componentspan WHERE site_id = %s ORDER BY id"
    wait_for(lambda: len(query(spans, sites[0].pk)) == 2, what="two spans")
    digest = query(spans, sites[0].pk)[1][0]
    components = query("SELECT components::text FROM edge_sites_componentset WHERE digest = %s", digest)[0][0]
    assert '"9.9.9"' in components
