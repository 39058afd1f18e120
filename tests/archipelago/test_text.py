"""Words, tables, bars, and what changed: pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archipelago.rollout_text import bar, changes
from archipelago.text import age, counts, plain, seconds_of, sites, size, table

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_what_others_wrote_moves_no_cursor():
    assert plain("a\x1b[2Jb\r\nc\u202e") == "a?[2Jb??c?"
    assert table(("NAME",), [("\x1b]0;x\x07",)]) == ["NAME", "?]0;x?"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7_199, "1 h"), (200_000, "2 d"), (-5, "0 s")]
)
def test_ages_have_one_unit(seconds, text):
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text
    assert age(None, NOW) == "-"


def test_counts_and_sizes():
    assert (sites(1), sites(2_000)) == ("1 site", "2,000 sites")
    assert counts({"proven": 3, "in_doubt": 1, "failed": 0}) == "3 proven, 1 in doubt"
    assert counts({}) == "no sites"
    assert [size(number) for number in (0, 999, 1_500, 25_000_000, 10**16)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "25 MB",
        "10000 TB",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("30min", 1_800), ("2h", 7_200), ("1d", 86_400)]
)
def test_spans(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "1.5h", "2h ", "1h30m", "\u0662h"])
def test_what_is_no_span(text):
    with pytest.raises(ValueError, match="is no span"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, "[          ]"),
        ({"queued": 4}, "[..........]"),
        ({"proven": 5, "queued": 5}, "[#####.....]"),
        ({"proven": 999, "failed": 1}, "[#########!]"),
        ({"proven": 1, "applying": 1, "failed": 1, "in_doubt": 1, "queued": 996}, "[#>!.......]"),
        ({"proven": 1, "soaking": 1, "failed": 1, "deferred": 1}, "[####>>!!..]"),
    ],
)
def test_bars_show_whatever_there_is(found, text):
    assert bar(found, 10) == text


def rollout(state: str = "running", **changed: Any) -> dict[str, Any]:
    waves = [
        {"index": 0, "name": "canary", "state": "open", "counts": {"queued": 1}, "lane": {}, "reason": ""},
        {"index": 1, "name": "rest", "state": "pending", "counts": {"queued": 2}, "lane": {}, "reason": ""},
    ]
    fixed = {"id": 7, "name": "spring", "standard": "r2", "pause": None, "reason": "", "lane_state": "open"}
    return {**fixed, "state": state, "waves": waves} | changed


def test_the_first_look_tells_all_and_the_next_one_what_changed():
    first = rollout()
    assert list(changes(None, first)) == [
        "Rollout 7 'spring' to r2: running",
        "wave 1 'canary' open: 1 queued",
        "wave 2 'rest' pending: 2 queued",
    ]
    assert list(changes(first, rollout())) == []
    second = rollout("paused", pause="held", reason="lost")
    second["waves"][0] |= {"state": "held", "counts": {"failed": 1}, "reason": "1 lost"}
    assert list(changes(first, second)) == [
        "Rollout 7 'spring' to r2: paused (held), because lost",
        "wave 1 'canary' held (1 lost): 1 failed",
    ]
    halted = rollout(lane_state="halted")
    halted["waves"][1]["lane"] = {"catch_up": 1}
    assert list(changes(first, halted)) == [
        "Rollout 7 'spring' to r2: running; lane halted",
        "wave 2 'rest' pending: 2 queued, 1 catch up",
    ]
