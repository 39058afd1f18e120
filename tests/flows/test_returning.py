"""Many sites return at once, their journals full (matrix row 9): all are polled first, nothing is lost."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from agent.journal import Journal
from agent.journal_file import Draft
from agent.memory import BOUND_BYTES
from agent.protocol import Verdict
from agent.protocol.entries import Alive, Body
from sites.models import Provider, Site
from tests.flows.system import System, all_up, late_ms, query, wait_for, wait_for_journals

Make = Callable[..., Provider]
GOOD = "SELECT count(*) FROM edge_sites_sitestate WHERE last_good_at > %s"
READ = """
SELECT count(*) FROM edge_sites_journalcursor WHERE acked = seq AND seq > %s
"""
BROKEN = """
SELECT count(*) FROM (SELECT from_seq, lag(to_seq, 1, 0) OVER (PARTITION BY site_id ORDER BY from_seq) AS before
    FROM edge_sites_journalenvelope) e WHERE from_seq <> before + 1
"""
DOWN = "SELECT count(*), count(DISTINCT site_id) FROM edge_sites_outage WHERE superseded_at IS NULL"


def fill(path: Path, sites: Sequence[Site], count: int, seconds: float) -> None:
    """Let each site have written so many entries within the last seconds, while nobody reached it, an outage among."""
    known = {row[0]: row[1:] for row in query("SELECT site_id, boot, mono_ms, last_good_at FROM edge_sites_sitestate")}
    now = timezone.now()
    with closing(Journal.open(path, bound_bytes=BOUND_BYTES)) as journal:
        for site in sites:
            boot, mono_ms, seen_at = known[site.pk]
            begin_ms = mono_ms + int((now - seen_at).total_seconds() * 1000) - int(seconds * 1000)
            drafts = []
            for number in range(count):
                after_ms = int(seconds * 1000 * number / count)
                at = now - timedelta(seconds=seconds) + timedelta(milliseconds=after_ms)
                body: Body = Alive()
                if number in (count // 3, 2 * count // 3):
                    body = Verdict("down" if number == count // 3 else "up", at)
                drafts.append(Draft(site.uuid, body, boot, begin_ms + after_ms, at))
            journal.append_many(drafts)


@pytest.mark.parametrize(
    ("count", "entries", "away_s", "back_s"),
    [(30, 1_200, 6, 15), pytest.param(1_000, 200, 60, 60, marks=pytest.mark.full)],
)  # 5,000 at once are measured by `make bench`, figure reconnect: joining them through the door takes too long here
def test_many_return_at_once_with_full_journals(
    system: System, make_provider: Make, count: int, entries: int, away_s: int, back_s: int
) -> None:
    sites = system.start_sites(count, provider_id=make_provider().pk, interval_s=1 if count < 1_000 else 10)
    wait_for(lambda: all_up(sites), 60 + count / 5, "all up")
    wait_for_journals()
    system.end("demo0")
    went = time.monotonic()
    time.sleep(away_s)
    fill(system.folder / "sites" / "journal.sqlite", sites, entries, time.monotonic() - went - 1)
    mark = query("SELECT clock_timestamp()")[0][0]
    system.restart("demo0")
    wait_for(lambda: query(GOOD, mark) == [(count,)], back_s, "all polled")
    polled_s, read = (timezone.now() - mark).total_seconds(), query(READ, entries)[0][0]
    wait_for(lambda: query(READ, entries) == [(count,)], 60 + count / 5, "all journals read")
    read_s = (timezone.now() - mark).total_seconds()
    print(f"{count} polled within {polled_s:.1f} s, by then {read} journals read, all within {read_s:.1f} s")
    assert read < count  # present states come first
    assert query(BROKEN) == [(0,)]
    assert query(DOWN) == [(count, count)]
    assert query("SELECT count(*) FROM edge_sites_journalcursor WHERE problem <> ''") == [(0,)]
    assert late_ms(sites, int(read_s)) < 5_000  # they starve no polls; `make bench` measures how punctual those are
    assert "Traceback" not in system.log("poller0").read_text()
