"""The SLA engine: every vector, and what must hold of all inputs, held against counting each millisecond by hand."""

import json
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slas.bundle import read_json, read_vectors
from slas.calendars import CalendarError, make_calendar, open_spans
from slas.engine import Change, Part, Rules, State, Totals, Verdict, classify, figures, tally, totals, verdict
from slas.rounding import percent_2, percent_4
from slas.spans import Span, length, meet, union, without
from slas.verify import computed
from slas.version_sync import HOUR_MS, Outcome, Owner, Sync, split

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())["vectors"]
END = 60
moments = st.integers(-5, END + 5)
spans = st.lists(st.tuples(moments, st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=5)
states = st.dictionaries(moments, st.sampled_from(State), max_size=8).map(lambda found: list(found.items()))
rules = st.builds(Rules, st.sampled_from(["excluded", "counts_as_up"]), st.sampled_from(["up", "down"]))
calendars = st.none() | spans.map(union)
inputs = st.fixed_dictionaries({"calendar": calendars, "maintenance": spans, "exclusions": spans, "rules": rules})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector(vector: dict[str, Any]):
    (read,) = read_vectors(read_json(json.dumps({"vectors": [vector]}).encode()))
    found = {name: None if value is None else value for name, value in computed(read).items()}
    assert {
        name: float(found[name]) if isinstance(wanted, float) else found[name]
        for name, wanted in vector["expect"].items()
    } == vector["expect"]


# By hand ----------------------------------------------------------------------------------------------------
def by_hand(window: Span, changes: list[Change], given_: dict[str, Any]) -> list[Part]:
    """The class of each millisecond, looked at one by one."""

    def lies_in(at: int, found: list[Span] | None) -> bool:
        return found is None or any(begin <= at < end for begin, end in found)

    def part_of(at: int) -> Part:
        before = [(moment, state) for moment, state in changes if moment <= at]
        state = max(before, key=lambda change: change[0])[1] if before else State.UNKNOWN
        as_up = given_["rules"].maintenance == "counts_as_up"
        in_maintenance = lies_in(at, given_["maintenance"])
        if not lies_in(at, given_["calendar"]):
            return Part.OUT_OF_CALENDAR
        if lies_in(at, given_["exclusions"]) or (in_maintenance and not as_up):
            return Part.EXCLUDED
        return Part.UP if in_maintenance and state is not State.UNKNOWN else Part(state.value)

    return [part_of(at) for at in range(*window)]


@given(states, inputs)
def test_pieces_are_what_counting_each_millisecond_gives(changes: list[Change], given_: dict[str, Any]):
    pieces = classify((0, END), changes, **given_)
    assert [part for begin, end, part in pieces for _ in range(begin, end)] == by_hand((0, END), changes, given_)
    assert all(one[2] is not other[2] and one[1] == other[0] for one, other in pairwise(pieces))


@given(states, inputs)
def test_a_tally_is_the_totals_of_the_pieces(changes: list[Change], given_: dict[str, Any]):
    assert tally((0, END), changes, **given_) == totals(classify((0, END), changes, **given_))


@given(states, inputs)
def test_classes_partition_the_calendar_and_figures_are_in_order(changes: list[Change], given_: dict[str, Any]):
    total = totals(classify((0, END), changes, **given_))
    scheduled = END if given_["calendar"] is None else length(meet(given_["calendar"], [(0, END)]))
    parts = (total.excluded_ms, total.unknown_ms, total.down_ms, total.degraded_ms, total.up_ms)
    assert total.scheduled_ms == scheduled == sum(parts)
    shares = figures(total, given_["rules"])
    if shares.floor is None:
        assert scheduled == total.excluded_ms
        assert verdict(shares, Fraction(1, 2)) is None
        return
    assert shares.ceiling is not None
    if shares.measured is None:
        assert (shares.floor, shares.ceiling, shares.coverage) == (0, 1, 0)
    else:
        assert 0 <= shares.floor <= shares.measured <= shares.ceiling <= 1


@given(states, inputs, st.lists(st.integers(1, END - 1), unique=True, max_size=4).map(sorted))
def test_parts_of_a_period_add_up_to_the_whole(changes: list[Change], given_: dict[str, Any], cuts: list[int]):
    edges = [0, *cuts, END]
    parts = [totals(classify(part, changes, **given_)) for part in pairwise(edges)]
    assert sum(parts, Totals()) == totals(classify((0, END), changes, **given_))


@given(states, inputs, st.randoms())
def test_order_and_overlap_of_inputs_never_matter(changes: list[Change], given_: dict[str, Any], dice: Any):
    before = classify((0, END), changes, **given_)
    twice = {**given_, **{name: given_[name] * 2 for name in ("maintenance", "exclusions")}}
    for found in (changes, twice["maintenance"], twice["exclusions"]):
        dice.shuffle(found)
    assert classify((0, END), changes, **twice) == before


def test_two_states_at_one_instant_and_an_empty_window_are_refused():
    for found in (classify, tally):
        with pytest.raises(ValueError, match="two states"):
            found((0, 10), [(1, State.UP), (1, State.DOWN)])
        with pytest.raises(ValueError, match="ends after"):
            found((10, 10), [])


@pytest.mark.parametrize(
    ("total", "target", "settled"),
    [
        (Totals(100, 0, 0, 1, 0, 99), "0.99", Verdict.MET),
        (Totals(1000, 0, 0, 11, 0, 989), "0.99", Verdict.MISSED),
        (Totals(100, 0, 5, 0, 0, 95), "0.99", Verdict.UNDETERMINED),
        (Totals(100, 0, 100, 0, 0, 0), "0.99", Verdict.UNDETERMINED),
        (Totals(100, 100, 0, 0, 0, 0), "0.99", None),
    ],
)
def test_verdicts_rest_on_exact_integers(total: Totals, target: str, settled: Verdict | None):
    assert verdict(figures(total), Fraction(target)) is settled


# Sets of time -----------------------------------------------------------------------------------------------
def as_set(found: list[Span]) -> set[int]:
    return {at for begin, end in found for at in range(begin, end)}


@given(spans, spans)
def test_spans_are_sets(one: list[Span], other: list[Span]):
    left, right = union(one), union(other)
    assert as_set(left) == as_set(one)
    assert as_set(meet(left, right)) == as_set(one) & as_set(other)
    assert as_set(without(left, right)) == as_set(one) - as_set(other)
    assert length(left) == len(as_set(one))
    assert all(a[1] < b[0] for a, b in pairwise(left))


# Calendars --------------------------------------------------------------------------------------------------
def hours(zone: str, slot: tuple[str, str], day: str, first: str, last: str, **more: Any) -> float:
    calendar = make_calendar(zone, {day: [slot]}, **more)
    window = tuple(int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000) for at in (first, last))
    return length(open_spans(calendar, (window[0], window[1]))) / HOUR_MS


@pytest.mark.parametrize(
    ("slot", "date", "lasts"),
    [
        (("09:00", "17:00"), "2026-03-29", 8),
        (("00:00", "24:00"), "2026-03-29", 23),
        (("00:00", "24:00"), "2026-10-25", 25),
        (("02:00", "03:00"), "2026-03-29", 0),
        (("02:30", "04:00"), "2026-03-29", 0.5),
        (("02:00", "03:00"), "2026-10-25", 2),
        (("02:30", "02:45"), "2026-10-25", 0.25),
    ],
)
def test_slots_on_the_days_when_clocks_change(slot: tuple[str, str], date: str, lasts: float):
    assert (
        hours(
            "Europe/Berlin", slot, "sun", f"{date[:8]}{int(date[8:]) - 1}T00:00", f"{date[:8]}{int(date[8:]) + 2}T00:00"
        )
        == lasts
    )


def test_a_zone_whose_midnight_does_not_exist():
    assert hours("America/Sao_Paulo", ("00:00", "24:00"), "sun", "2018-11-03T00:00", "2018-11-06T00:00") == 23


def test_holidays_have_no_hours():
    first, last = "2026-12-25T00:00", "2026-12-26T00:00"
    assert hours("UTC", ("09:00", "17:00"), "fri", first, last) == 8
    assert hours("UTC", ("09:00", "17:00"), "fri", first, last, holidays=["2026-12-25"]) == 0


@pytest.mark.parametrize(
    ("zone", "weekly", "holidays", "words"),
    [
        ("Mars/Olympus", {}, [], "no time zone"),
        ("../etc/passwd", {}, [], "no time zone"),
        (7, {}, [], "no time zone"),
        ("UTC", {"monday": []}, [], "no day 'monday'"),
        ("UTC", {"mon": [["22:00", "06:00"]]}, [], "split it at 24:00"),
        ("UTC", {"mon": [["09:00", "09:00"]]}, [], "does not end after it begins"),
        ("UTC", {"mon": [["9:00", "17:00"]]}, [], "no time of day"),
        ("UTC", {"mon": [["09:00", "24:01"]]}, [], "no time of day"),
        ("UTC", {"mon": ["09:00"]}, [], "a begin and an end"),
        ("UTC", {}, ["25.12.2026"], "no date"),
        ("UTC", {}, ["2026-02-30"], "no date"),
    ],
)
def test_what_is_no_calendar_is_said(zone: Any, weekly: Any, holidays: Any, words: str):
    with pytest.raises(CalendarError, match=words):
        make_calendar(zone, weekly, holidays)


# Version synchronisation ------------------------------------------------------------------------------------
sync_spans = st.lists(
    st.tuples(moments, st.integers(1, 20), st.sampled_from(Owner)).map(lambda one: (one[0], one[0] + one[1], one[2])),
    max_size=6,
)
syncs = st.builds(
    Sync,
    published=moments,
    eligible=moments,
    sent=st.none() | moments,
    proven=st.none() | moments,
    as_of=moments,
    deadline_h=st.integers(0, 30).map(lambda ms: Fraction(ms, HOUR_MS)),
    spans=sync_spans.map(tuple),
    network=st.sampled_from(["charged", "not_charged"]),
)


@given(syncs)
def test_owners_partition_the_time_to_the_proof(sync: Sync):
    found = split(sync)
    start = max(sync.published, sync.eligible)
    is_proven = sync.proven is not None and sync.proven <= sync.as_of
    end = sync.proven if sync.proven is not None and is_proven else sync.as_of
    sums = dict.fromkeys((*Owner, "provider"), 0)
    for at in range(start, end):
        owners = {owner for begin, finish, owner in sync.spans if begin <= at < finish}
        if sync.sent is None or at < sync.sent:
            owners.add(Owner.OPERATOR)
        sums[next((owner for owner in Owner if owner in owners), "provider")] += 1
    assert [found.freeze_ms, found.operator_ms, found.network_ms, found.provider_ms] == list(sums.values())
    assert found.elapsed_ms == max(0, end - start)
    charged = found.provider_ms + (found.network_ms if sync.network == "charged" else 0)
    assert found.charged_ms == charged
    if charged > sync.deadline_h * HOUR_MS:
        assert found.verdict is Outcome.LATE
    else:
        assert found.verdict is (Outcome.ON_TIME if is_proven else Outcome.PENDING)


# Rounding ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("share", "four", "two"),
    [
        (Fraction(99_999, 100_000), "99.9990", "99.99"),
        (Fraction(9_999_999, 10_000_000), "100.0000", "99.99"),
        (Fraction(1), "100.0000", "100.00"),
        (Fraction(2, 3), "66.6667", "66.66"),
        (Fraction(500_0050, 10**8), "5.0000", "5.00"),
        (Fraction(500_0150, 10**8), "5.0002", "5.00"),
        (Fraction(-1, 3), "-33.3333", "-33.34"),
    ],
)
def test_files_round_half_to_even_and_people_see_no_more_than_there_is(share: Fraction, four: str, two: str):
    assert (str(percent_4(share)), str(percent_2(share))) == (four, two)


def test_what_is_not_measured_has_no_figure():
    assert (percent_4(None), percent_2(None)) == (None, None)
