"""Twelve hours without a link, by the agent's own clock, read through the real gateway, poller and database.

The agent lives through the hours second by second, with its clock that many hours behind; what the centre had on
record before the cut is moved back by as much, as if it had been written then. All else is as in production.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from sites.models import Provider, Site
from slas.services.deriving import derive_due
from tests.flows.driven_agent import DIAL_OUT, DIRECT, DrivenSite
from tests.flows.system import System, all_up, query, wait_for

Make = Callable[..., Provider]
Standing = tuple[Any, ...]
LAG_S = 12 * 3_600
MOVED = ("stateinterval", "outage", "componentspan", "sitestate", "sitetenure", "journalcursor", "journalentry")
ANCHOR = "SELECT last_good_at, clock_offset_ms FROM edge_sites_sitestate WHERE site_id = %s"
OUTAGES = """
SELECT valid_from, valid_to, cause, source FROM edge_sites_outage
WHERE site_id = %s AND superseded_at IS NULL ORDER BY valid_from
"""
STANDING = """
SELECT state, valid_from, valid_to, source, evidence FROM edge_sites_stateinterval
WHERE site_id = %s AND axis = %s AND superseded_at IS NULL ORDER BY valid_from, id
"""


def at(hours: int, minutes: int = 0, seconds: int = 0) -> int:
    """Seconds after the agent's first entry."""
    return hours * 3_600 + minutes * 60 + seconds


class Cut:
    """A site that was up until its link was cut, and the centre that knew it, both LAG_S ago."""

    def __init__(self, system: System, site: Site, folder: Path, *, route: str) -> None:
        self.site = site
        (join,) = system.join_strings([site])
        time.sleep(2)  # the site's clock shows whole seconds: so its first entry is later than the site for sure
        self.driven = DrivenSite(folder, site, route=route, lag_s=LAG_S, join=join)
        self.driven.order("link")
        wait_for(lambda: all_up([site]), what="the site is up")
        wait_for(lambda: query("SELECT 1 FROM edge_sites_journalcursor WHERE acked > 0"), what="its journal is read")
        ((began_at,),) = query("SELECT at FROM edge_sites_journalentry WHERE kind = 'start'")
        self.zero_s = int(began_at.timestamp())
        self.driven.order("cut")
        wait_for(
            lambda: query("SELECT 1 FROM edge_sites_sitestate WHERE reachability = 'unreachable'"), what="unreachable"
        )
        # Not polled by itself from now on: of what it says when it calls in, one report is the anchor of all.
        query_nothing("UPDATE edge_sites_pollschedule SET interval_s = 7200, next_poll_at = now() + interval '2 h'")
        self._move_back()
        ((self.cut_at, _),) = query(ANCHOR, site.pk)
        ((self.polled_at,),) = query("SELECT min(valid_from) FROM edge_sites_stateinterval WHERE state = 'reachable'")
        ((self.made_at,),) = query("SELECT min(valid_from) FROM edge_sites_stateinterval WHERE source = 'inference'")
        ((first_at,),) = query("SELECT mapped_at FROM edge_sites_journalentry WHERE seq = 1")
        # Its first verdict may map to later than the first poll that found it up, by what its clock shows at once.
        self.first_at = min(_whole_ms(first_at), self.polled_at)

    @staticmethod
    def _move_back() -> None:
        """What the centre wrote, as if LAG_S ago. (Facts are guarded against this very thing; only their owner may.)"""
        for name in (f"edge_sites_{table}" for table in MOVED):
            columns = query(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_name = %s AND data_type LIKE 'timestamp%%'",
                name,
            )
            moved = ", ".join(f"{column} = {column} - interval '{LAG_S} s'" for (column,) in columns)
            query_nothing(f"ALTER TABLE {name} DISABLE TRIGGER USER")
            query_nothing(f"UPDATE {name} SET {moved}")
            query_nothing(f"ALTER TABLE {name} ENABLE TRIGGER USER")

    def come_back(self) -> None:
        """Link the site again, at the present second, and have its journal read to the end."""
        now_s = int(datetime.now(UTC).timestamp())
        self.driven.order("link", to_s=now_s)
        if self.driven.route == DIRECT:  # who calls in is polled at once
            query_nothing("UPDATE edge_sites_pollschedule SET next_poll_at = now()")
        wait_for(
            lambda: query(
                "SELECT 1 FROM edge_sites_journalcursor c JOIN edge_sites_sitestate t USING (site_id)"
                " WHERE t.reachability = 'reachable' AND c.seq = t.journal_seq AND c.acked = c.seq"
            ),
            what="all of the journal is read",
        )
        ((self.back_at, offset_ms),) = query(ANCHOR, self.site.pk)
        ((self.last_seq,),) = query("SELECT seq FROM edge_sites_journalcursor")
        # The one report was made while the site's clock stood: what both clocks differ by, exactly.
        self.difference = self.back_at - datetime.fromtimestamp(now_s, UTC)
        assert timedelta(milliseconds=-offset_ms) == timedelta(
            milliseconds=round(self.difference / timedelta(milliseconds=1))
        )

    def moment(self, after_s: int) -> datetime:
        """That second of the site's clock by ours, in whole milliseconds, as the journal's entries are mapped."""
        return _whole_ms(datetime.fromtimestamp(self.zero_s + after_s, UTC) + self.difference)


def _whole_ms(moment: datetime) -> datetime:
    return datetime.fromtimestamp(round(moment.timestamp() * 1000) / 1000, UTC)


def standing(site: Site, axis: str) -> list[Standing]:
    """What stands of an axis, in order: state, begin, end, source, and the entries that prove it and why."""
    rows = query(STANDING, site.pk, axis)
    found = []
    for *row, evidence in rows:
        journal = json.loads(evidence).get("journal")
        proof = (journal["from_seq"], journal["to_seq"], journal["why"]) if journal else None
        found.append((*row, proof))
    return found


def query_nothing(statement: str) -> None:
    """Change something, as the owner."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def make_cut(system: System, make_provider: Make, tmp_path: Path) -> Iterator[Callable[..., Cut]]:
    with ExitStack() as stack:

        def make(route: str = DIAL_OUT) -> Cut:
            (site,) = system.make_sites(1, provider_id=make_provider().pk)
            cut = Cut(system, site, tmp_path / "driven", route=route)
            stack.callback(cut.driven.close)
            return cut

        yield make


def live_through(cut: Cut) -> None:
    """The twelve hours, and back."""
    agent, zero_s = cut.driven, cut.zero_s
    for hours, minutes, state in ((2, 0, "down"), (2, 37, "up")):
        agent.order("live", to_s=zero_s + at(hours, minutes))
        agent.order("judge", state=state)
    for end, begin, rebooted in (
        (at(7, 0, 30), at(7, 8, 30), True),
        (at(8, 0, 40), at(8, 1, 0), False),
        (at(9, 0, 20), at(9, 10, 0), False),
        (at(10, 0, 5), at(10, 0, 35), True),
    ):
        agent.order("live", to_s=zero_s + end)
        agent.kill()
        agent.start(at_s=zero_s + begin, rebooted=rebooted)
    agent.order("live", to_s=zero_s + at(12))
    cut.come_back()


@pytest.mark.usefixtures("plain_static")
@pytest.mark.parametrize("route", [DIAL_OUT, pytest.param(DIRECT, marks=pytest.mark.full)])
def test_an_outage_power_losses_and_restarts_inside_the_cut_are_known_to_the_millisecond(
    make_cut: Callable[..., Cut], signed_in: Callable[..., Client], api_client: Callable[..., Client], route: str
) -> None:
    cut = make_cut(route)
    live_through(cut)

    # By hand: the 37 minutes of its own verdict; `alive` came last at 7:00:00, so that nothing is known for a minute,
    # and it was down from 7:01:00 until its first verdict in the new boot, at 7:08:30. Two restarts without a reboot
    # are no outage: after half a minute it was up all along, after ten minutes nobody knows. A power loss of half a
    # minute is too short to be told from one of the link. Entries: 3 at each start, one at the first minute, when it
    # was still polled, two a minute from then on, and the verdicts.
    moment, first = cut.moment, cut.first_at
    availability = [
        ("unknown", cut.made_at, first, "inference", None),
        ("up", first, moment(at(2)), "journal", (3, 241, "verdict")),
        ("down", moment(at(2)), moment(at(2, 37)), "journal", (243, 316, "verdict")),
        ("up", moment(at(2, 37)), moment(at(7)), "journal", (318, 843, "verdict")),
        ("unknown", moment(at(7)), moment(at(7, 1)), "poll", None),
        ("down", moment(at(7, 1)), moment(at(7, 8, 30)), "journal", (844, 845, "reboot")),
        ("up", moment(at(7, 8, 30)), moment(at(9)), "journal", (847, 1071, "verdict")),
        ("unknown", moment(at(9)), moment(at(9, 10)), "poll", None),
        ("up", moment(at(9, 10)), moment(at(10)), "journal", (1075, 1174, "verdict")),
        ("unknown", moment(at(10)), moment(at(10, 0, 35)), "poll", None),
        ("up", moment(at(10, 0, 35)), None, "journal", (1178, cut.last_seq, "verdict")),
    ]
    reachability = [
        ("reachable", cut.polled_at, cut.cut_at, "poll", None),
        ("unreachable", cut.cut_at, cut.back_at, "poll", None),
        ("reachable", cut.back_at, None, "poll", None),
    ]
    outages = [
        (moment(at(2)), moment(at(2, 37)), "unknown", "journal"),
        (moment(at(7, 1)), moment(at(7, 8, 30)), "power", "journal"),
    ]
    assert standing(cut.site, "availability") == availability
    assert standing(cut.site, "reachability") == reachability
    assert query(OUTAGES, cut.site.pk) == outages
    assert (outages[0][1] - outages[0][0], outages[1][1] - outages[1][0]) == (
        timedelta(minutes=37),
        timedelta(minutes=7, seconds=30),
    )
    superseded = query("SELECT state FROM edge_sites_stateinterval WHERE superseded_at IS NOT NULL ORDER BY valid_from")
    assert ("unknown",) in superseded

    api = api_client("viewer").get(f"/api/v1/sites/{cut.site.slug}/intervals?axis=availability").json()["items"]
    told = sorted(api, key=lambda row: row["valid_from"])
    assert [(row["state"], _read(row["valid_from"]), _read(row["valid_to"]), row["source"]) for row in told] == [
        (state, _cut_off(begin), _cut_off(end), source) for state, begin, end, source, _ in availability
    ]
    while derive_due():
        pass
    viewer = signed_in("viewer")
    _assert_page(viewer.get(f"/sites/{cut.site.slug}/").content.decode(), availability, reachability)
    _assert_outages(viewer.get(f"/sites/{cut.site.slug}/outages/").content.decode(), outages)


def _assert_outages(html: str, outages: list[Any]) -> None:
    """The site's outages are just these, beside the cut itself, newest first."""
    rows = re.findall(r"<tr><td>(.*?)</tr>", html, re.DOTALL)
    down = [row for row in rows if "is-down" in row]
    assert [_times(row) for row in down] == [[begin.isoformat()] for begin, *_ in reversed(outages)]
    words = {"power": "Power", "unknown": "Not known"}
    assert all(f"<td>{words[cause]}</td>" in row for row, (_, _, cause, _) in zip(down, reversed(outages), strict=True))
    assert ["7 min" in down[0], "37 min" in down[1]] == [True, True]
    assert len(rows) - len(down) == 1
    assert "Unreachable" in html


def _assert_page(html: str, availability: list[Standing], reachability: list[Standing]) -> None:
    """The site's page draws and lists just these."""
    lanes = re.findall(r'<svg class="lane".*?</svg>', html, re.DOTALL)
    for lane, wanted in zip(lanes, (availability, reachability), strict=True):
        titles = re.findall(r'<rect class="is-\w+" x=.*?<title>(.*?)</title>', lane)
        assert sorted(titles) == sorted(
            f"{state} from {begin:%d %b %H:%M} to {f'{end:%d %b %H:%M} UTC' if end else 'now'}"
            for state, begin, end, *_ in wanted
        )
    _, listed = html.split('id="intervals"')
    rows = re.findall(r"<tr><td>(.*?)</tr>", listed.split("</details>")[0])
    assert sorted(tuple(_times(row)) for row in rows) == sorted(
        tuple(moment.isoformat() for moment in (begin, end) if moment)
        for _, begin, end, *_ in availability + reachability
    )
    assert any("journal entries 844 to 845: it came back in another boot" in row for row in rows)


def _times(row: str) -> list[str]:
    return re.findall(r'datetime="([^"]+)"', row)


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _cut_off(moment: datetime | None) -> datetime | None:
    """As precise as the API is: whole milliseconds, the rest cut off."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000) if moment else None
