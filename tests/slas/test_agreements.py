"""What people may agree on: every fault at once, each as a sentence at its place."""

from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from slas.agreements import read_agreement
from slas.calendars import open_spans
from slas.currencies import PLACES
from slas.settlement import Burden, Tier
from slas.states import Cause
from slas.terms import Freeze, calendar_of
from tests.slas.factories import agreement, objective, segment

PROVIDERS = {"nord": 1, "sued": 2}
HOURS = {"timezone": "site", "weekly": {"mon": [["09:00", "17:00"]]}}


def faults(value: object) -> dict[str, str]:
    read, found = read_agreement(value, PROVIDERS)
    assert (read is None) == bool(found)
    return dict(found)


def of(**values: Any) -> dict[str, str]:
    """Faults of one segment, without the path to it."""
    return {
        path.removeprefix("segments.0."): text
        for path, text in faults(agreement(segment(**{"provider": "nord", **values}))).items()
    }


def test_a_whole_agreement_is_read_exactly():
    tiers = [{"below": "99.5", "credit": "5"}, {"below": "98", "credit": "25"}]
    value = agreement(
        segment(
            "nord",
            begins="2026-11-01T00:00",
            ends="2026-11-16T00:00",
            objectives=[
                objective(degraded="down", credits={"tiers": tiers, "cap": "20"}),
                {"measure": "restoration", "figure": "mttr_h", "limit": "4"},
                {"measure": "latency", "percentile": 99, "limit": 250, "scope": "share_of_sites", "share": "95"},
            ],
            calendar=HOURS | {"holidays": {"country": "DE", "subdivision": "BY"}, "closed": ["2026-12-24"]},
            maintenance={"counts": "counts_as_up", "notice_h": "72", "cap_h": "8", "cap_per": "quarter"},
            excluded_causes=["workload"],
            includes_link=True,
            freezes=[{"first": "2026-12-20", "last": "2027-01-06", "name": "Christmas"}],
        ),
        segment("sued", begins="2026-11-16T00:00"),
        zone="Europe/Berlin",
        labels={"kind": "shop"},
        regions=["DACH"],
    )
    read, found = read_agreement(value, PROVIDERS)
    assert found == []
    assert read is not None
    assert (read.zone, read.labels, read.regions) == ("Europe/Berlin", {"kind": "shop"}, ("DACH",))
    first, second = read.segments
    assert (first.provider_id, first.begins, first.ends) == (
        1,
        datetime(2026, 10, 31, 23, tzinfo=UTC),
        datetime(2026, 11, 15, 23, tzinfo=UTC),
    )
    assert (first.fee, first.currency, first.rule_version) == (Decimal("1200.00"), "EUR", 1)
    assert (second.provider_id, second.begins, second.ends) == (2, datetime(2026, 11, 15, 23, tzinfo=UTC), None)
    assert first.terms.freezes == (Freeze("Christmas", date(2026, 12, 20), date(2027, 1, 6)),)
    available, restored, latency = first.terms.objectives
    assert available.target == Fraction(995, 1000)
    assert available.burden is Burden.PROVIDER
    assert available.tiers == (
        Tier(Fraction(995, 1000), Fraction(5, 100)),
        Tier(Fraction(98, 100), Fraction(25, 100)),
    )
    assert available.cap == Fraction(20, 100)
    assert first.terms.rules(available).degraded == "down"
    assert (restored.figure, restored.limit, restored.target) == ("mttr_h", Decimal(4), None)
    assert (latency.percentile, latency.limit, latency.share) == (99, Decimal(250), Fraction(95, 100))
    assert first.terms.upkeep.notice_h == 72
    assert (first.terms.upkeep.cap_h, first.terms.upkeep.cap_per) == (8, "quarter")
    assert first.terms.excluded_causes == {Cause.WORKLOAD}
    assert second.terms.excluded_causes == {Cause.OPERATOR_ROLLOUT, Cause.OPERATOR_CHANGE, Cause.WORKLOAD}
    assert second.terms.hours is None
    # What is stored is what was written, and says the same again.
    assert first.written["calendar"]["holidays"] == {"country": "DE", "subdivision": "BY"}


def test_service_hours_are_the_sites_own_and_closed_on_public_holidays():
    year = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    read, _ = read_agreement(
        agreement(segment("nord", calendar=HOURS | {"holidays": {"country": "DE"}, "closed": ["2026-01-05"]})),
        PROVIDERS,
    )
    assert read is not None
    calendar = calendar_of(read.segments[0].terms.hours, "America/New_York", year)
    assert calendar is not None
    window = tuple(int(at.timestamp() * 1000) for at in year)
    days = [datetime.fromtimestamp(begin / 1000, UTC) for begin, _ in open_spans(calendar, (window[0], window[1]))]
    # 52 Mondays in 2026, less Easter Monday, Whit Monday, and the one that was named.
    assert len(days) == 49
    assert days[0] == datetime(2026, 1, 12, 14, tzinfo=UTC)
    assert datetime(2026, 7, 6, 13, tzinfo=UTC) in days
    assert not {datetime(2026, 4, 6, 13, tzinfo=UTC), datetime(2026, 5, 25, 13, tzinfo=UTC)} & set(days)


@pytest.mark.parametrize("target", ["100", "101", "100.0000"])
def test_a_target_that_allows_no_failure_is_refused(target):
    assert "below 100" in of(objectives=[objective(target=target)])["objectives.0.target"]


@pytest.mark.parametrize(
    ("values", "path", "says"),
    [
        ({"calendar": {"weekly": {}}}, "calendar.weekly", "no hours"),
        ({"calendar": {"weekly": {"mon": []}}}, "calendar.weekly", "no hours"),
        ({"calendar": {"weekly": {"mon": [["22:00", "06:00"]]}}}, "calendar.weekly.mon.0", "split it at 24:00"),
        ({"calendar": {"weekly": {"mon": [["09:00", "09:00"]]}}}, "calendar.weekly.mon.0", "split it at 24:00"),
        ({"calendar": {"weekly": {"mon": [["9", "17:00"]]}}}, "calendar.weekly.mon.0", "no time of day"),
        ({"calendar": {"weekly": {"moon": [["09:00", "17:00"]]}}}, "calendar.weekly.moon", "no such member"),
        ({"calendar": HOURS | {"timezone": "Mars/Base"}}, "calendar.timezone", "no time zone"),
        ({"calendar": HOURS | {"holidays": {"country": "XX"}}}, "calendar.holidays.country", "no public holidays"),
        ({"calendar": HOURS | {"closed": ["24.12."]}}, "calendar.closed", "no date"),
        ({"currency": "EURO"}, "currency", "no currency"),
        ({"currency": "XBT"}, "currency", "no currency"),
        ({"currency": "JPY", "fee": "12.5"}, "fee", "0 decimal places"),
        ({"fee": "1.005"}, "fee", "2 decimal places"),
        ({"fee": 12.5}, "fee", "Write a number"),
        ({"fee": "NaN"}, "fee", "Write a number"),
        ({"fee": "-1"}, "fee", "Write a number"),
        ({"provider": "west"}, "provider", "no such provider"),
        ({"begins": None}, "begins", "when it begins"),
        ({"begins": "soon"}, "begins", "Write a moment"),
        ({"ends": "2026-11-01T00:00"}, "ends", "ends before it begins"),
        ({"gap_reason": "we slept"}, "gap_reason", "no gap"),
        ({"rule_version": 2}, "rule_version", "rule version 1"),
        ({"objectives": []}, "objectives", "at least one"),
        ({"objectives": [objective(), objective()]}, "objectives.1", "promised twice"),
        ({"objectives": [objective(measure="beauty")]}, "objectives.0.measure", "one of availability"),
        ({"objectives": [objective(burden="nobody")]}, "objectives.0.burden", "one of provider"),
        ({"objectives": [objective(scope="share_of_sites")]}, "objectives.0.share", "Write a number"),
        ({"objectives": [objective(colour="red")]}, "objectives.0.colour", "no such member"),
        ({"objectives": [objective(target="0")]}, "objectives.0.target", "promises nothing"),
        ({"excluded_causes": ["witches"]}, "excluded_causes", "There is no 'witches'"),
        ({"maintenance": {"notice_h": "-1"}}, "maintenance.notice_h", "Write a number"),
        ({"maintenance": {"cap_h": "8", "cap_per": "week"}}, "maintenance.cap_per", "one of month"),
        ({"objectives": [objective(burn=["1000", "6", "3", "1"])]}, "objectives.0.burn.0", "never fire"),
        ({"objectives": [objective(burn=["3", "6", "3", "1"])]}, "objectives.0.burn.1", "lower threshold"),
        ({"objectives": [objective(burn=["3"])]}, "objectives.0.burn", "4 thresholds"),
    ],
)
def test_each_fault_is_a_sentence_at_its_place(values, path, says):
    found = of(**values)
    assert list(found) == [path]
    assert says in found[path]
    assert found[path].endswith((".", '".'))


def test_a_threshold_that_just_can_fire_is_taken():
    assert of(objectives=[objective(burn=["200", "6", "3", "1"])]) == {}  # 1 / (1 - 0.995)


@pytest.mark.parametrize(
    ("tiers", "path"),
    [
        ([("99", "5"), ("99.2", "10")], "tiers.1.below"),
        ([("99", "5"), ("99", "10")], "tiers.1.below"),
        ([("99", "5"), ("98", "5")], "tiers.1.credit"),
        ([("99.9", "5")], "tiers.0.below"),
    ],
)
def test_tiers_are_in_order_and_below_the_target(tiers, path):
    listed = [{"below": below, "credit": credit} for below, credit in tiers]
    assert list(of(objectives=[objective(credits={"tiers": listed})])) == [f"objectives.0.credits.{path}"]


def test_segments_of_one_provider_never_overlap():
    value = agreement(segment("nord", ends="2026-11-16T00:00"), segment("nord", begins="2026-11-15T00:00"))
    assert faults(value) == {"segments.1.begins": "It overlaps the segment before it, of the same provider."}
    assert list(faults(agreement(segment("nord"), segment("nord", begins="2027-01-01T00:00")))) == ["segments.1.begins"]
    assert faults(agreement(segment("nord"), segment("sued", begins="2026-11-15T00:00"))) == {}


def test_a_gap_needs_its_reason():
    first, second = segment("nord", ends="2026-11-16T00:00"), segment("nord", begins="2026-11-20T00:00")
    assert list(faults(agreement(second, first))) == ["segments.0.gap_reason"]
    assert faults(agreement(first, second | {"gap_reason": "the hall was rebuilt"})) == {}
    touching = segment("nord", begins="2026-11-16T00:00")
    assert faults(agreement(first, touching)) == {}
    assert list(faults(agreement(first, touching | {"gap_reason": "none"}))) == ["segments.1.gap_reason"]


def test_all_faults_are_said_at_once():
    value = agreement(
        segment("west", currency="?", objectives=[objective(target="101"), objective(measure="x", target="y")]),
        segment("nord", ends="2020-01-01T00:00"),
        zone="Nowhere",
    )
    assert set(faults(value)) == {
        "zone",
        "segments.0.provider",
        "segments.0.currency",
        "segments.0.objectives.0.target",
        "segments.0.objectives.1.measure",
        "segments.0.objectives.1.target",
        "segments.1.ends",
    }


@pytest.mark.parametrize(
    "value", [None, [], 7, "x", {"segments": 5}, {"segments": [3]}, {"segments": [{"objectives": {}}]}, {"zone": 5}]
)
def test_odd_values_are_faults_and_never_errors(value):
    assert faults(value)


def test_times_that_a_switch_of_clocks_doubles_or_drops():
    read, _ = read_agreement(
        agreement(segment("nord", begins="2026-10-25T02:30", ends="2027-03-28T02:30"), zone="Europe/Berlin"), PROVIDERS
    )
    assert read is not None
    assert read.segments[0].begins == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # the first of the two
    assert read.segments[0].ends == datetime(2027, 3, 28, 1, 30, tzinfo=UTC)  # the offset before


def test_currencies_have_their_places():
    assert (PLACES["EUR"], PLACES["JPY"], PLACES["KWD"], len(PLACES)) == (2, 0, 3, 156)


def test_odd_freezes_are_refused():
    good = {"first": "2026-12-20", "last": "2027-01-06", "name": "Christmas"}
    assert of(freezes=[good]) == {}
    assert of(freezes=[good | {"last": "2026-12-19"}]) == {"freezes.0.last": "It ends before it begins."}
    odd = of(freezes=[good | {"first": "yesterday", "last": "9999-12-31", "name": "", "zone": "UTC"}])
    assert odd["freezes.0.first"] == odd["freezes.0.last"] == "Write a date like 2026-12-24."
    assert set(odd) == {f"freezes.0.{name}" for name in ("first", "last", "name", "zone")}
    assert of(freezes="Christmas") == {"freezes": "This is a list of at most 50."}
