"""Hostile and broken agents in a running system (matrix rows 11 to 14): each fails by class, nobody else notices."""

from typing import Any

import pytest

from tests.flows.system import System, all_up, flap, late_ms, query, shown, wait_for


@pytest.mark.parametrize(
    ("mode", "failure"),
    [
        ("hang", "timeout"),
        ("loris", "timeout"),
        ("garbage", "protocol_error"),
        ("big", "protocol_error"),
        ("bomb", "protocol_error"),
        ("liar", "protocol_error"),
        ("headers", "protocol_error"),
        ("wrong_site", "identity_mismatch"),
        ("wrong_protocol", "protocol_error"),
    ],
)
def test_hostile_agents_fail_by_class_and_hold_up_nobody(
    shared_system: tuple[System, list[Any]], mode: str, failure: str
) -> None:
    """Matrix rows 11 to 14: one site misbehaves; its row says how, and its neighbours are polled as before."""
    system, sites = shared_system
    bad, good = sites[0], sites[1:]
    wait_for(lambda: all_up(sites), what="all up")
    system.fail(mode, bad)
    wait_for(
        lambda: query("SELECT last_error FROM edge_sites_sitestate WHERE site_id = %s", bad.pk) == [(failure,)],
        what=f"{mode} -> {failure}",
    )
    before = query("SELECT min(last_good_at) FROM edge_sites_sitestate WHERE site_id <> %s", bad.pk)[0][0]
    wait_for(
        lambda: query("SELECT min(last_good_at) FROM edge_sites_sitestate WHERE site_id <> %s", bad.pk)[0][0] > before,
        what="neighbours polled meanwhile",
    )
    assert set(shown(good)) == {"up"}
    assert "Traceback" not in system.log("poller0").read_text()
    system.heal(bad)


def test_future_clock_is_stored_at_receipt_time(shared_system: tuple[System, list[Any]]) -> None:
    system, sites = shared_system
    system.fail("future_clock", sites[3])
    wait_for(
        lambda: (
            query("SELECT clock_offset_ms > 86400000 FROM edge_sites_sitestate WHERE site_id = %s", sites[3].pk)
            == [(True,)]
        ),
        what="the clock's offset",
    )
    assert query("SELECT count(*) FROM sample WHERE at > now()") == [(0,)]
    assert query("SELECT count(*) FROM edge_sites_journalentry WHERE mapped_at > now()") == [(0,)]
    assert shown([sites[3]]) == ["up"]


def test_flapping_sites_need_attention_once_and_cost_nobody_else(shared_system: tuple[System, list[Any]]) -> None:
    """Matrix row 8, short: four sites flap every 3 s, four do not (at length in test_faults.py)."""
    system, sites = shared_system
    wait_for(lambda: all_up(sites), what="all up")
    flapping, calm = sites[:4], sites[4:]
    late_before_ms = late_ms(calm, 5)
    outages = flap(system, flapping, times=2)
    # Who waited for a silent site would be late by its deadline of seconds; less is the machine's other work.
    assert late_ms(calm, 10) <= late_before_ms + 2_000
    assert set(shown(calm)) == {"up"}
    assert all(1 <= count <= 3 for count in outages.values())
    wait_for(lambda: all_up(sites), what="all up again")
