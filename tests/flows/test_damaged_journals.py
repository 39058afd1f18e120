"""Journals that cannot be written, are cut or are edited under a running agent: it goes on, and the centre is told."""

import json
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.flows.driven_agent import DrivenSite
from tests.flows.running import HOUR_S, are_polled_on, read_on
from tests.flows.system import query

GAPS = "SELECT seq, body FROM edge_sites_journalentry WHERE site_id = %s AND kind = 'gap' ORDER BY seq"
VERDICTS = "SELECT body->>'state' FROM edge_sites_journalentry WHERE site_id = %s AND kind = 'verdict' ORDER BY seq"
HISTORY = "SELECT site_id, axis, state, valid_from FROM edge_sites_stateinterval WHERE valid_to IS NOT NULL ORDER BY id"
ENTRIES = "SELECT seq, kind, digest, mapped_at FROM edge_sites_journalentry WHERE site_id = %s ORDER BY seq"


def fill_the_disk(agent: DrivenSite) -> None:
    """No file of that process can grow any more: a full disk, but for the error's name."""
    resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


def free_the_disk(agent: DrivenSite) -> None:
    resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def truncate(agent: DrivenSite) -> None:
    os.truncate(agent.journal, agent.journal.stat().st_size // 2)
    os.truncate(f"{agent.journal}-wal", 0)


def edit(agent: DrivenSite) -> None:
    """One letter of the newest sign of life, in the file and in its log."""
    for path in (agent.journal, Path(f"{agent.journal}-wal")):
        data = path.read_bytes()
        place = data.rfind(b'"kind":"alive"')
        if place >= 0:
            with path.open("r+b") as file:
                file.seek(place + len(b'"kind":"'))
                file.write(b"alivE")


@pytest.mark.usefixtures("plain_static")
def test_journals_damaged_under_running_agents(start_running: Any, signed_in: Callable[..., Client]) -> None:
    full, cut, edited = sites = start_running(*[12 * HOUR_S] * 3)
    entries = {one.pk: query(ENTRIES, one.pk) for one in sites}
    intervals = query(HISTORY)

    full.agent.order("stand")
    are_polled_on(full)
    ((last,),) = query("SELECT journal_seq FROM edge_sites_sitestate WHERE site_id = %s", full.pk)
    fill_the_disk(full.agent)
    for hours, state in ((2, "down"), (1, "up"), (7, "up")):
        full.live(hours)
        full.agent.order("judge", state=state)
    cut.live(1)
    edited.live(1)
    read_on(cut, edited)
    truncate(cut.agent)
    edit(edited.agent)
    are_polled_on(*sites)  # whatever befell their journals

    free_the_disk(full.agent)
    for one in sites:
        one.live(1 / 60)
    read_on(*sites)
    # 600 signs of life, 600 samples and two verdicts waited, of which 1,000 may: what is worth least went.
    assert query(GAPS, full.pk) == [(last + 1, _gap(last + 1, last, "disk_full", sample=202))]
    assert query(VERDICTS, full.pk) == [("up",), ("down",), ("up",)]
    assert query(GAPS, cut.pk) == query(GAPS, edited.pk) == []  # the process itself still knows all of it

    for one in (cut, edited):
        one.agent.kill()
        one.agent.start(at_s=one.live_s, rebooted=False)
        one.agent.order("link")
        one.live(0.1)
    read_on(cut, edited)
    are_polled_on(*sites)
    assert query(GAPS, cut.pk) == [(1005, _gap(1, 1004, "damaged"))]
    assert query(GAPS, edited.pk) == [(1005, _gap(1, 1004, "rolled_back"))]  # its log ends before the edited commit

    for pk, before in entries.items():
        assert query(ENTRIES, pk)[: len(before)] == before
    assert set(intervals) <= set(query(HISTORY))  # what had ended stands as it stood
    assert query("SELECT problem FROM edge_sites_journalcursor") == [("",)] * 3
    assert query("SELECT count(*) FROM kit_auditentry WHERE action = 'journal.alarm'") == [(0,)]
    viewer = signed_in("viewer")
    for one, said in (
        (full, "not written (disk_full): 202 sample"),
        (cut, "1 to 1004 are gone (damaged): nobody can say what"),
        (edited, "1 to 1004 are gone (rolled_back): nobody can say what"),
    ):
        page = viewer.get(f"/sites/{one.site.slug}/").content.decode()
        assert said in page
        assert re.search(r"Its clock is \d+ h \d\d min behind ours", page)  # matrix row 10


def _gap(first: int, last: int, reason: str, **lost: int) -> str:
    return json.dumps({"lost": lost, "reason": reason, "to_seq": last, "from_seq": first})
