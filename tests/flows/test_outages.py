"""From a poll to an outage with real processes: agents fail, pollers find it, a worker derives it, and it ends."""

from collections.abc import Callable

from sites.models import Provider
from tests.flows.system import System, all_up, query, wait_for

Make = Callable[..., Provider]
SPANS = """
SELECT kind, valid_to IS NULL FROM slas_incidentspan WHERE site_id = %s AND superseded_at IS NULL ORDER BY kind
"""


def test_a_site_that_fails_has_an_outage_until_it_is_well(system: System, make_provider: Make) -> None:
    system.start_worker("worker")
    sites = system.start_sites(4, provider_id=make_provider().pk)
    wait_for(lambda: all_up(sites), what="all up")
    system.fail("down", sites[0])
    system.fail("dark", sites[1])
    wait_for(lambda: query(SPANS, sites[0].pk) == [("down", True)], what="an outage")
    wait_for(lambda: query(SPANS, sites[1].pk) == [("unreachable", True)], what="a site out of reach")
    system.heal(*sites[:2])
    wait_for(lambda: query(SPANS, sites[0].pk) == [("down", False)], what="its end")
    wait_for(lambda: query(SPANS, sites[1].pk) == [("unreachable", False)], what="its return")
    began = "SELECT count(*) FROM slas_incidentspan p JOIN edge_sites_outage o USING (site_id, valid_from, valid_to)"
    assert query(f"{began} WHERE p.kind = 'down' AND site_id = %s", sites[0].pk) == [(1,)]
