"""Sites whose agents run by a clock that the test moves, polled and read by the real system meanwhile."""

from pathlib import Path

from django.db import connections

from sites.models import Site
from tests.flows.driven_agent import DIRECT, DrivenSite
from tests.flows.system import System, all_up, query, wait_for

HOUR_S = 3_600
CAUGHT_UP = """
SELECT 1 FROM edge_sites_journalcursor c JOIN edge_sites_sitestate t USING (site_id)
WHERE site_id = %s AND c.seq = t.journal_seq AND c.acked = c.seq AND t.last_good_at > %s
"""


class Running:
    """One site with its agent, polled every second, its journal read; time passes as it is told to."""

    def __init__(self, system: System, site: Site, folder: Path, *, lag_s: int) -> None:
        self.pk = site.pk
        self.site = site
        (join,) = system.join_strings([site])
        self.agent = DrivenSite(folder, site, route=DIRECT, lag_s=lag_s, join=join)
        self.agent.order("link")

    def live(self, hours: float, step_s: int = 60) -> int:
        """So long by its own clock, `step_s` at a time; the clock stands afterwards, at the second that is returned."""
        now_s = self.agent.order("stand")
        self.live_s = self.agent.order("live", to_s=now_s + int(hours * HOUR_S), step_s=step_s)
        return self.live_s

    def seq(self) -> int:
        """How far the centre has read."""
        return int(
            query("SELECT coalesce(max(seq), 0) FROM edge_sites_journalcursor WHERE site_id = %s", self.pk)[0][0]
        )


def read_on(*some: Running) -> None:
    """Have the centre read these journals to the end, as a report younger than now tells it."""
    mark = query("SELECT clock_timestamp()")[0][0]

    def caught_up() -> bool:
        with connections["owner"].cursor() as cursor:  # not in a quarter of an hour, as after a problem
            cursor.execute("UPDATE edge_sites_journalcursor SET next_at = now()")
        return all(query(CAUGHT_UP, one.pk, mark) for one in some)

    wait_for(caught_up, what="the journals are read")


def are_polled_on(*some: Running) -> None:
    """Each brings a good report younger than now, and is shown as up."""
    pks, mark = [one.pk for one in some], query("SELECT clock_timestamp()")[0][0]
    youngest = "SELECT min(last_good_at) FROM edge_sites_sitestate WHERE site_id = ANY(%s)"
    wait_for(lambda: query(youngest, pks)[0][0] > mark, what="polled again")
    assert all_up([one.site for one in some])
