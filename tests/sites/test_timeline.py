"""Correcting intervals and outages by better evidence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sites.timeline import Correction, Evidence, Interval, correct, outages

T0 = datetime(2026, 11, 25, tzinfo=UTC)
PROOF = {"journal": {"from_seq": 1, "to_seq": 2}}


def at(minute: float) -> datetime:
    return T0 + timedelta(minutes=minute)


def stood(key: int, begin: float, end: float | None, state: str, provider: int = 1) -> Interval:
    return Interval(at(begin), None if end is None else at(end), state, provider, key, {"poll": key})


def proven(begin: float, end: float, state: str) -> Evidence:
    return Evidence(at(begin), at(end), state, PROOF)


def shape(correction: Correction) -> list[tuple[float, float | None, str, bool]]:
    def minute(moment: datetime) -> float:
        return (moment - T0) / timedelta(minutes=1)

    return [
        (minute(new.begin), None if new.end is None else minute(new.end), new.state, new.better)
        for new in correction.added
    ]


def test_evidence_that_agrees_changes_nothing():
    standing = [stood(1, 0, 10, "up"), stood(2, 10, None, "down")]
    assert correct(standing, [proven(2, 10, "up"), proven(10, 12, "down")]) == Correction()


def test_an_outage_inside_silence():
    standing = [stood(1, 0, 10, "up"), stood(2, 10, 30, "unknown"), stood(3, 30, None, "up")]
    found = correct(standing, [proven(10, 15, "up"), proven(15, 20, "down"), proven(20, 30, "up")])
    assert found.superseded == (1, 2, 3)
    assert shape(found) == [(0, 15, "up", True), (15, 20, "down", True), (20, None, "up", True)]


def test_what_is_cut_off_keeps_its_evidence_and_source():
    found = correct([stood(1, 0, 30, "unknown"), stood(2, 30, None, "up")], [proven(10, 20, "down")])
    assert found.superseded == (1,)
    assert shape(found) == [(0, 10, "unknown", False), (10, 20, "down", True), (20, 30, "unknown", False)]
    assert [new.evidence for new in found.added] == [{"poll": 1}, PROOF, {"poll": 1}]


def test_the_begin_of_a_known_outage_is_put_right():
    found = correct([stood(1, 0, 10, "up"), stood(2, 10, None, "down")], [proven(8, 11, "down")])
    assert (found.superseded, shape(found)) == ((1, 2), [(0, 8, "up", False), (8, None, "down", True)])


def test_a_time_of_which_nothing_stands_stays_empty():
    assert correct([stood(1, 10, None, "up")], [proven(0, 10, "down")]) == Correction()
    assert correct([], [proven(0, 10, "down")]) == Correction()


def test_intervals_of_two_providers_never_become_one():
    standing = [stood(1, 0, 10, "unknown", provider=1), stood(2, 10, None, "up", provider=2)]
    found = correct(standing, [proven(0, 10, "up")])
    assert found.superseded == (1,)
    assert [(new.state, new.provider_id) for new in found.added] == [("up", 1)]


def test_less_than_a_millisecond_is_no_interval():
    whole = Interval(at(0) + timedelta(microseconds=400), at(10) + timedelta(microseconds=300), "unknown", 1, 1)
    found = correct([whole], [proven(0, 10, "up"), Evidence(at(10), at(11), "down", PROOF)])
    assert [(new.begin, new.end, new.state) for new in found.added] == [(whole.begin, whole.end, "up")]


def test_what_lasted_no_time_goes_with_its_surroundings():
    standing = [stood(1, 0, 5, "unknown"), stood(2, 5, 5, "up"), stood(3, 5, 9, "unknown"), stood(4, 9, None, "up")]
    found = correct(standing, [proven(2, 9, "up")])
    assert found.superseded == (1, 2, 3, 4)
    assert shape(found) == [(0, 2, "unknown", False), (2, None, "up", True)]


def test_outages_go_on_through_silence_and_end_at_a_hand_over():
    rows = [
        stood(1, 0, 5, "up"),
        stood(2, 5, 10, "down"),
        stood(3, 10, 15, "unknown"),
        stood(4, 15, 20, "down"),
        stood(5, 20, 25, "degraded"),
        stood(6, 25, 30, "unknown"),
        stood(7, 30, 40, "down"),
        stood(8, 40, None, "down", provider=2),
    ]
    found = outages(rows)
    assert [(o.begin, o.end, o.provider_id) for o in found] == [
        (at(5), at(20), 1),
        (at(30), at(40), 1),
        (at(40), None, 2),
    ]


STATES = st.sampled_from(["up", "degraded", "down", "unknown"])


@given(
    st.lists(st.tuples(st.integers(1, 9), STATES), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), STATES), max_size=6),
    st.booleans(),
)
def test_whatever_comes_the_time_stays_covered_once_and_says_what_was_proven(lengths, pieces, is_open):
    standing, minute = [], 0
    for key, (length, state) in enumerate(lengths):
        standing.append(stood(key, minute, minute + length, state))
        minute += length
    if is_open:
        standing[-1] = Interval(standing[-1].begin, None, standing[-1].state, 1, standing[-1].key)
    evidence, begin = [], 0
    for gap, length, state in pieces:
        evidence.append(proven(begin + gap, begin + gap + length, state))
        begin += gap + length
    found = correct(standing, evidence)
    after = sorted(
        [row for row in standing if row.key not in found.superseded] + list(found.added), key=lambda row: row.begin
    )
    assert [row.end for row in after[:-1]] == [row.begin for row in after[1:]]  # adjoining, without gap or overlap
    assert (after[0].begin, after[-1].end) == (standing[0].begin, standing[-1].end)
    for step in range(minute):
        moment = at(step + 0.5)
        before = next(row for row in standing if row.begin <= moment and (row.end is None or moment < row.end))
        now = next(row for row in after if row.begin <= moment and (row.end is None or moment < row.end))
        said = next((e.state for e in evidence if e.begin <= moment < e.end), before.state)
        assert now.state == said
    assert correct([Interval(r.begin, r.end, r.state, 1, i) for i, r in enumerate(after)], evidence) == Correction()


def test_what_two_pages_of_a_journal_prove_together_names_the_entries_of_both():
    def told(first: int, last: int) -> dict[str, object]:
        return {"journal": {"from_seq": first, "to_seq": last, "why": "verdict"}}

    standing = [replace(stood(1, 0, 10, "up"), evidence=told(3, 100)), stood(2, 10, None, "unknown")]
    found = correct(standing, [Evidence(at(10), at(20), "up", told(100, 200))])
    assert found.superseded == (1, 2)
    assert [(row.state, row.evidence) for row in found.added] == [("up", told(3, 200)), ("unknown", {"poll": 2})]
