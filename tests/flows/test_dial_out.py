"""Sites that nobody can dial: they call the gateway, and polling does not care."""

from collections.abc import Callable

from sites.models import Provider
from tests.flows.system import System, all_up, query, wait_for

Make = Callable[..., Provider]


def test_sites_behind_nat_are_polled_through_the_gateway_and_journals_are_read(
    system: System, make_provider: Make
) -> None:
    sites = system.start_sites(6, provider_id=make_provider().pk, dial_out=[1, 3, 5])
    wait_for(lambda: all_up(sites), what="six sites up")
    routes = dict(query("SELECT site_id, gateway FROM edge_sites_pollschedule WHERE gateway_until > now()"))
    assert routes == {sites[number].pk: "main" for number in (1, 3, 5)}
    wait_for(
        lambda: query("SELECT count(*) FROM edge_sites_journalcursor WHERE acked > 0") == [(6,)],
        what="six journals are read and acknowledged",
    )

    system.fail("down", sites[1])
    wait_for(
        lambda: query("SELECT shown FROM edge_sites_sitestate WHERE site_id = %s", sites[1].pk) == [("down",)],
        what="what a linked site says is heard",
    )
    system.heal(sites[1])

    system.kill("gateway")
    wait_for(
        lambda: (
            query("SELECT site_id FROM edge_sites_sitestate WHERE reachability = 'unreachable' ORDER BY site_id")
            == [(sites[number].pk,) for number in (1, 3, 5)]
        ),
        what="without a gateway its sites are out of reach, and no others",
    )
    system.start_gateway()
    wait_for(lambda: all_up(sites), what="they have called in again")
