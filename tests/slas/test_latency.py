"""Round trips of polls: counted once a day, exactly; every percentile by hand, to each side its own."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from openpyxl import load_workbook

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from slas.exports.pdf import content_of
from slas.exports.sheets import xlsx_of
from slas.models import Contract, LatencyDay
from slas.periods import days_between
from slas.selectors.latency import Delayed, latency_of
from slas.selectors.papers import paper_of
from slas.services.latency import count_latency
from tests.database import OWNER, rows, value
from tests.slas.factories import TEST, make_contract, objective, segment, states, tenures

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
SINCE = DAY - timedelta(days=5)
END = DAY + timedelta(days=1)
H, M = 3_600_000, 60_000


@pytest.fixture(autouse=True)
def clock(database: Any, monkeypatch: Any, settings: Any) -> None:
    """Yesterday is over for good, also shortly after midnight; the day before is not kept any more."""
    monkeypatch.setattr("slas.services.latency.SETTLE", timedelta(0))
    settings.RAW_SAMPLE_DAYS = 1


def latency(**values: Any) -> dict[str, Any]:
    found = objective(measure="latency", limit="80", percentile=90, scope="pooled") | values
    del found["target"]
    return found


def site_of(make_site: Any, provider: Any, slug: str, **values: Any) -> Any:
    site = make_site(slug, provider, **values)
    tenures(site, (provider, SINCE, None))
    states(site, "availability", (SINCE, "up"))
    return site


def promise(*providers: Any, **values: Any) -> Any:
    fixed = {"begins": SINCE.isoformat(), "objectives": [latency()]}
    made = make_contract(*(segment(one, **(fixed | values)) for one in providers))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [SINCE, made.pk], using=OWNER)
    return made


def poll(site: Any, at: datetime, rtt: int | None, provider: Any = None) -> None:
    rows(
        "INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, mem_bytes,"
        " mem_total_bytes, disk_bytes, disk_total_bytes) VALUES (%s, %s, %s, 5, %s, 4, 0.5, 1, 2, 3, 4)",
        [site.pk, (provider or site.provider).pk, at, rtt],
        using=OWNER,
    )


def forget_contracts() -> None:
    for table in ("segment", "contractversion", "contract"):
        rows(f"DELETE FROM slas_{table}", using=OWNER)


def found(begin: datetime = DAY, end: datetime = END, as_of: datetime | None = None, who: Any = TEST) -> list[Delayed]:
    with scope(who):
        return latency_of(Contract.objects.get(), begin, end, as_of or database_now())


def days() -> list[LatencyDay]:
    with scope(TEST):
        return list(LatencyDay.objects.select_related("site", "provider").order_by("site__slug"))


@pytest.fixture
def two(make_provider: Any, make_site: Any) -> tuple[Any, Any, Any]:
    """Ten polls of one site, five minutes apart, 10 to 100 ms; ten of 5 ms of the other, within one step."""
    nord = make_provider("nord")
    far, near = site_of(make_site, nord, "far"), site_of(make_site, nord, "near")
    for number in range(10):
        poll(far, DAY + timedelta(minutes=5 * number), 10 * (number + 1))
        poll(near, DAY + timedelta(hours=3, seconds=number), 5)
    promise(nord)
    return nord, far, near


# Counting ---------------------------------------------------------------------------------------------------
def test_a_day_that_is_over_is_counted_once(two):
    assert count_latency() == 2
    assert count_latency() == 0
    far, near = days()
    assert (far.begins, far.ends, far.polls) == (DAY, END, 10)
    assert (far.rtt_ms, far.counts) == (list(range(10, 101, 10)), [1] * 10)
    assert (near.polls, near.rtt_ms, near.counts) == (10, [5], [10])
    assert (far.seen_ms, near.seen_ms, far.scheduled_ms) == (50 * M, 5 * M, 24 * H)


def test_some_sites_at_a_time_and_what_a_pass_left_is_done_by_the_next(two):
    assert [count_latency(1), count_latency(1), count_latency(1)] == [1, 1, 0]
    assert [day.site.slug for day in days()] == ["far", "near"]


def test_a_day_that_goes_on_is_not_counted_and_what_has_no_round_trip_neither(two):
    _, far, _ = two
    poll(far, DAY + timedelta(hours=5), None)
    poll(far, END, 999)
    count_latency()
    assert [(day.begins, day.polls) for day in days()] == [(DAY, 10)] * 2


def test_only_service_hours_count(make_provider, make_site):
    nord = make_provider("nord")
    berlin = site_of(make_site, nord, "shop", time_zone="Europe/Berlin")
    opens = datetime(DAY.year, DAY.month, DAY.day, 9, tzinfo=UTC) - berlin_offset()
    weekly = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
    for at, rtt in ((opens - timedelta(seconds=1), 900), (opens, 7), (opens + timedelta(hours=8), 800)):
        poll(berlin, at, rtt)
    promise(nord, calendar={"timezone": "site", "weekly": weekly})
    count_latency()
    (day,) = days()
    assert (day.rtt_ms, day.counts, day.scheduled_ms, day.seen_ms) == ([7], [1], 8 * H, 5 * M)


def berlin_offset() -> timedelta:
    offset = (DAY + timedelta(hours=9)).astimezone(ZoneInfo("Europe/Berlin")).utcoffset()
    assert offset is not None
    return offset


def test_a_hand_over_at_noon_gives_each_its_half(make_provider, make_site):
    nord, sued = make_provider("nord"), make_provider("sued")
    site = site_of(make_site, sued, "shop")
    noon = DAY + timedelta(hours=12)
    tenures(site, (nord, SINCE, noon), (sued, noon, None))
    poll(site, noon - timedelta(seconds=1), 100, nord)
    poll(site, noon, 20, sued)
    promise(nord, sued)
    assert count_latency() == 2
    assert [(day.provider.slug, day.rtt_ms, day.scheduled_ms) for day in days()] in (
        [("nord", [100], 12 * H), ("sued", [20], 12 * H)],
        [("sued", [20], 12 * H), ("nord", [100], 12 * H)],
    )
    assert [(one.total.at(one.objective), one.verdict) for one in found()] == [(100, "MISSED"), (20, "MET")]


def test_nothing_is_counted_where_nobody_promises_it(make_provider, make_site):
    nord = make_provider("nord")
    poll(site_of(make_site, nord, "shop"), DAY, 5)
    promise(nord, objectives=[objective()])
    assert count_latency() == 0
    assert value("SELECT count(*) FROM slas_latencyday", using=OWNER) == 0


# Figures ----------------------------------------------------------------------------------------------------
def test_every_percentile_is_exact_of_each_site_and_of_all(two):
    count_latency()
    (one,) = found()
    trips = {place.slug: (trips.rtt_ms, trips.polls) for place, trips, _ in one.sites}
    assert trips == {"far": ((50, 90, 100, 100), 10), "near": ((5, 5, 5, 5), 10)}
    # All twenty in order: ten of 5 ms, then 10 to 100: the 10th, 18th, 19th and 20th.
    assert (one.total.rtt_ms, one.total.polls) == ((5, 80, 90, 100), 20)
    assert (one.total.days, one.days, one.verdict) == (2, 2, "MET")
    assert (one.total.seen_ms, one.total.scheduled_ms) == (55 * M, 48 * H)


@pytest.mark.parametrize(
    ("terms", "verdict"),
    [
        ({"limit": "80"}, "MET"),
        ({"limit": "79.999"}, "MISSED"),
        ({"scope": "each_site"}, "MISSED"),  # far has 90
        ({"scope": "each_site", "limit": "90"}, "MET"),
        ({"scope": "share_of_sites", "share": "50"}, "MET"),
        ({"percentile": 50, "limit": "4"}, "MISSED"),
    ],
)
def test_the_verdict_is_by_the_promise(two, terms, verdict):
    nord = two[0]
    forget_contracts()
    promise(nord, objectives=[latency(**terms)])
    count_latency()
    assert [one.verdict for one in found()] == [verdict]


def test_without_a_poll_there_is_no_figure(make_provider, make_site):
    nord = make_provider("nord")
    site_of(make_site, nord, "shop")
    promise(nord)
    (before,) = found()
    assert (before.total.polls, before.total.days, before.days, before.verdict) == (0, 0, 1, None)
    count_latency()
    (one,) = found()
    assert (one.total.rtt_ms, one.verdict, one.total.days) == ((None,) * 4, None, 1)
    assert (one.total.seen_ms, one.total.scheduled_ms) == (0, 24 * H)


def test_as_known_before_it_was_counted_there_is_none(two):
    count_latency()
    # Moments so near that midnight hardly ever lies between them: of a day that is not over nothing is known.
    ((at,),) = rows("UPDATE slas_latencyday SET recorded_at = now() RETURNING recorded_at", using=OWNER)[:1]
    assert found(as_of=at)[0].total.polls == 20
    assert found(as_of=at - timedelta(milliseconds=1))[0].total.polls == 0


def test_a_day_counts_under_the_segment_of_its_last_moment(two, make_provider):
    """Terms that change at noon: the day is not told twice."""
    nord = two[0]
    noon = (DAY + timedelta(hours=12)).isoformat()
    forget_contracts()
    begins = {"begins": SINCE.isoformat()}
    made = make_contract(
        segment(nord, **begins, ends=noon, objectives=[latency()]),
        segment(nord, begins=noon, objectives=[latency(limit="1")]),
    )
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [SINCE, made.pk], using=OWNER)
    count_latency()
    first, second = found()
    assert (first.total.polls, first.days) == (0, 0)
    assert (second.total.polls, second.days, second.verdict) == (20, 2, "MISSED")


def test_days_of_a_zone_are_as_long_as_they_are():
    begin, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 26, 23, tzinfo=UTC)
    lengths = [(last - first) / timedelta(hours=1) for first, last in days_between(begin, end, "Europe/Berlin")]
    assert lengths == [25, 24]
    assert days_between(begin + timedelta(seconds=1), end - timedelta(seconds=1), "Europe/Berlin") == []


# In reports -------------------------------------------------------------------------------------------------
def test_a_report_says_it_with_what_is_missing(two):
    count_latency()
    with scope(TEST):
        paper = paper_of(TEST, Contract.objects.get(), DAY - timedelta(days=2), END, database_now())
    (line,) = paper.latencies
    assert (line.figure, line.limit_ms, line.percentile, line.verdict) == (80, Decimal(80), 90, "MET")
    assert (line.days, line.missing, line.coverage) == (2, 4, Fraction(55, 48 * 60))
    assert [(one.slug, one.figure, one.verdict) for one in paper.delays] == [("far", 90, "MISSED"), ("near", 5, "MET")]
    book = load_workbook(BytesIO(xlsx_of(paper)))
    assert list(book["Latency"].values)[1][3:9] == (80, 80, 2, 5, 80, 90)
    assert list(book["Latency by site"].values)[1][1:5] == ("far", "Far", 90, 50)
    figures = content_of(paper)["latencies"][0]["figures"]
    assert figures[0] == ["90 of 100 within", "80 ms"]
    assert figures[3] == ["Coverage", "1.90 %"]


def test_a_provider_sees_its_own_round_trips(two, make_provider, make_site, access):
    sued = make_provider("sued")
    poll(site_of(make_site, sued, "theirs"), DAY, 3)
    forget_contracts()
    promise(two[0], sued)
    count_latency()
    who, _ = access("provider_viewer", provider=sued)
    (one,) = found(who=who)
    assert [place.slug for place, _, _ in one.sites] == ["theirs"]
    with scope(who):
        assert {day.provider_id for day in LatencyDay.objects.all()} == {sued.pk}
