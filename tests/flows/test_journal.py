"""What a site wrote while nobody reached it becomes history: real agents, real pollers, a link that is really cut."""

import time
from collections.abc import Callable

from sites.models import Provider
from tests.flows.system import System, all_up, query, wait_for

Make = Callable[..., Provider]
STANDING = """
SELECT state, source, extract(epoch FROM valid_to - valid_from)::float8 FROM edge_sites_stateinterval
WHERE site_id = %s AND axis = 'availability' AND superseded_at IS NULL ORDER BY valid_from, valid_to
"""


def test_an_outage_while_the_link_was_cut_is_known_afterwards(system: System, make_provider: Make) -> None:
    site = system.start_sites(1, provider_id=make_provider().pk)[0]
    wait_for(lambda: all_up([site]), what="the site is up")
    system.fail("dark", site)
    wait_for(lambda: query("SELECT 1 FROM edge_sites_sitestate WHERE reachability = 'unreachable'"), what="unreachable")
    system.judge("down", site)
    time.sleep(4)
    system.judge("up", site)
    time.sleep(3)
    assert [state for state, *_ in query(STANDING, site.pk)] == ["unknown", "up", "unknown"]
    system.heal(site)
    wait_for(
        lambda: query("SELECT 1 FROM edge_sites_outage WHERE source = 'journal' AND superseded_at IS NULL"),
        what="the outage is known",
    )
    standing = query(STANDING, site.pk)
    assert [state for state, *_ in standing] == ["unknown", "up", "down", "up"], standing
    (outage,) = query("SELECT extract(epoch FROM valid_to - valid_from)::float8 FROM edge_sites_outage")
    assert 3.0 <= outage[0] <= 7.0
