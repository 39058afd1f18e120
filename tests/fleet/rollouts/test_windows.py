"""Windows and freezes on the site's own clock, on the days when clocks change too."""

from datetime import UTC, datetime, time

import pytest

from fleet.rollouts.windows import Calendar, Freeze, Weekly, never_opens, next_open, open_at, openings

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock(text: str) -> datetime:
    """What a clock on site shows: no zone."""
    return datetime.fromisoformat(text)


def nightly(begin: str, end: str, days: tuple[int, ...] = EVERY_DAY) -> Calendar:
    return Calendar(windows=(Weekly(days, time.fromisoformat(begin), time.fromisoformat(end)),))


NIGHT = nightly("02:00", "04:00")


def test_no_windows_is_always_open():
    assert open_at(Calendar(), BERLIN, utc("2026-07-01T12:00"))
    assert next_open((), BERLIN, utc("2026-07-01T12:00")) == utc("2026-07-01T12:00")


@pytest.mark.parametrize(
    ("zone", "opens"), [(BERLIN, "2026-07-02T00:00"), (NEW_YORK, "2026-07-01T06:00"), ("UTC", "2026-07-02T02:00")]
)
def test_a_window_is_on_the_sites_own_clock(zone, opens):
    begin = utc("2026-07-01T05:00")
    assert next_open((NIGHT,), zone, begin) == utc(opens)
    assert open_at(NIGHT, zone, utc(opens))


def test_the_end_is_outside():
    assert open_at(NIGHT, "UTC", utc("2026-07-01T03:59:59"))
    assert not open_at(NIGHT, "UTC", utc("2026-07-01T04:00"))


def test_a_window_past_midnight_belongs_to_the_day_it_begins_on():
    friday_night = nightly("22:00", "03:00", days=(4,))
    assert open_at(friday_night, "UTC", utc("2026-07-04T02:59"))  # Saturday
    assert not open_at(friday_night, "UTC", utc("2026-07-04T22:30"))
    assert next_open((friday_night,), "UTC", utc("2026-07-04T03:00")) == utc("2026-07-10T22:00")


def test_in_spring_a_window_that_begins_in_the_missing_hour_opens_at_the_jump():
    assert next_open((nightly("02:30", "04:00"),), BERLIN, utc("2026-03-28T12:00")) == utc("2026-03-29T01:00")


def test_in_spring_a_window_within_the_missing_hour_does_not_open_that_day():
    assert next_open((nightly("02:00", "03:00"),), BERLIN, utc("2026-03-28T12:00")) == utc("2026-03-30T00:00")


def test_in_autumn_the_repeated_hour_opens_once():
    calendar = nightly("02:00", "02:30")
    assert openings(calendar, BERLIN, utc("2026-10-24T22:00"), utc("2026-10-25T22:00")) == [
        (utc("2026-10-25T00:00"), utc("2026-10-25T00:30"))
    ]
    assert not open_at(calendar, BERLIN, utc("2026-10-25T01:10"))


def test_in_autumn_a_window_around_the_repeated_hour_is_an_hour_longer():
    assert openings(NIGHT, BERLIN, utc("2026-10-24T22:00"), utc("2026-10-25T22:00")) == [
        (utc("2026-10-25T00:00"), utc("2026-10-25T03:00"))
    ]


def test_a_freeze_wins_over_a_window():
    freeze = Freeze(clock("2026-12-20T00:00"), clock("2027-01-03T03:00"), "the busy season")
    calendar = Calendar(NIGHT.windows, (freeze,))
    assert not open_at(calendar, BERLIN, utc("2026-12-24T01:30"))
    assert next_open((calendar,), BERLIN, utc("2026-12-19T12:00")) == utc("2027-01-03T02:00")


def test_two_calendars_open_together():
    plan, provider = nightly("00:00", "06:00", days=(5, 6)), nightly("04:00", "08:00")
    assert next_open((plan, provider), "UTC", utc("2026-07-01T00:00")) == utc("2026-07-04T04:00")


def test_windows_that_never_open_are_found():
    mornings, evenings = nightly("06:00", "08:00"), nightly("18:00", "20:00")
    for calendars in [
        (Calendar(freezes=(Freeze(clock("2026-01-01T00:00"), None),)),),
        (mornings, evenings),
    ]:
        assert never_opens(calendars, BERLIN, utc("2026-07-01T00:00"))
    assert not never_opens((mornings,), BERLIN, utc("2026-07-01T00:00"))


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        ("2026-12-20T00:00", "2026-12-20T00:00", "ends after it begins"),
        ("2026-12-20T00:00", "2026-12-19T00:00", "ends after it begins"),
        ("1969-12-31T00:00", None, "between the years"),
        ("2026-12-20T00:00", "9999-12-31T23:59", "between the years"),
    ],
)
def test_a_freeze_is_a_span_within_the_calendar(begin, end, words):
    with pytest.raises(ValueError, match=words):
        Freeze(clock(begin), clock(end) if end else None)
