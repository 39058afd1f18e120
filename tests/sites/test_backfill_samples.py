"""Figures from journals reach the rollups too: charts of any span have no hole."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connections

from sites.models import Site, SiteTenure
from sites.services.backfill import record_page
from sites.services.storage import keep_partitions, roll_up, roll_up_again
from tests.sites.journaled import FIGURES, NOW, OWNER, SiteWithJournal

# An hour that is over, whatever the time is.
HOUR = NOW.replace(minute=0, second=0) - timedelta(hours=3)
ROLLED = (
    "SELECT bucket, polls, cpu_ratio_min, cpu_ratio_avg, cpu_ratio_max, net_rx_bytes_s, rtt_ms_avg"
    " FROM sample_{} WHERE site_id = %s ORDER BY bucket"
)


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connections[OWNER].cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def polled(site: Site, at: datetime, cpu: float, rx: int) -> None:
    with connections[OWNER].cursor() as cursor:
        cursor.execute(
            "INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, mem_bytes,"
            " mem_total_bytes, disk_bytes, disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total)"
            " VALUES (%s, %s, %s, 0, 20, 4, %s, 1, 4, 1, 4, %s, %s)",
            [site.pk, site.provider_id, at, cpu, rx, rx],
        )


def kept(told: SiteWithJournal, at: datetime, cpu: float, rx: int) -> None:
    """What the site kept for itself at that time."""
    figures = msgspec.structs.replace(FIGURES, cpu_ratio=cpu, net_rx_bytes_total=rx, net_tx_bytes_total=rx)
    told.write((NOW - at) / timedelta(minutes=1), figures)


@pytest.fixture
def cut(told):
    """Polled in the first minutes of an hour, then cut off; all is rolled up, and the journal not yet read."""
    keep_partitions(NOW)
    polled(told.site, HOUR, 0.1, 0)
    polled(told.site, HOUR + timedelta(minutes=1), 0.2, 6_000)
    roll_up(NOW)
    for minute, cpu in ((3, 0.5), (4, 0.6), (7, 0.7), (62, 0.9)):
        kept(told, HOUR + timedelta(minutes=minute), cpu, 6_000 * minute)
    return told


def test_the_rollup_is_that_of_all_samples_as_computed_by_hand(cut):
    five = [(HOUR, 2, pytest.approx(0.1), pytest.approx(0.15), pytest.approx(0.2), 100.0, 20.0)]
    assert rows(ROLLED.format("5m"), cut.site.pk) == five
    cut.read_all()
    assert roll_up_again() == 2
    # 0.1, 0.2, 0.5 and 0.6 within the first five minutes; 24,000 bytes in four of them.
    first = (HOUR, 4, pytest.approx(0.1), pytest.approx(0.35), pytest.approx(0.6), 100.0, 20.0)
    second = (HOUR + timedelta(minutes=5), 1, *[pytest.approx(0.7)] * 3, None, None)
    last = (HOUR + timedelta(minutes=60), 1, *[pytest.approx(0.9)] * 3, None, None)
    assert rows(ROLLED.format("5m"), cut.site.pk) == [first, second, last]
    hour = (HOUR, 5, pytest.approx(0.1), pytest.approx(0.42), pytest.approx(0.7), 100.0, 20.0)
    assert rows(ROLLED.format("1h"), cut.site.pk) == [hour, last]


def test_rolling_up_again_is_done_once_and_changes_nothing_more(cut):
    cut.read_all()
    assert roll_up_again() == 2
    stands = rows(ROLLED.format("5m"), cut.site.pk)
    assert roll_up_again() == 0
    mark(cut)
    assert roll_up_again() == 1
    assert rows(ROLLED.format("5m"), cut.site.pk) == stands


def mark(told: SiteWithJournal) -> None:
    with connections[OWNER].cursor() as cursor:
        cursor.execute("INSERT INTO rollup_stale (site_id, hour) VALUES (%s, %s)", [told.site.pk, HOUR])


def test_a_run_is_bounded_and_the_next_goes_on(cut):
    cut.read_all()
    assert [roll_up_again(hours_at_most=1) for _ in range(3)] == [1, 1, 0]
    assert len(rows(ROLLED.format("5m"), cut.site.pk)) == 3


def test_the_figures_of_other_sites_are_not_touched(cut, make_site):
    other = make_site()
    polled(other, HOUR, 0.4, 0)
    cut.read_all()
    roll_up_again()
    assert rows(ROLLED.format("5m"), other.pk) == []  # it was not marked, though a sample of it came late


def test_what_is_not_closed_yet_is_left_to_the_next_rolling(told):
    keep_partitions(NOW)
    polled(told.site, HOUR, 0.1, 0)
    roll_up(HOUR + timedelta(minutes=31))
    kept(told, HOUR + timedelta(minutes=3), 0.5, 1)
    kept(told, HOUR + timedelta(minutes=40), 0.9, 2)
    told.read_all()
    assert roll_up_again() == 1
    assert [row[:2] for row in rows(ROLLED.format("5m"), told.site.pk)] == [(HOUR, 2)]
    roll_up(NOW)
    buckets = [row[:2] for row in rows(ROLLED.format("5m"), told.site.pk)]
    assert buckets == [(HOUR, 2), (HOUR + timedelta(minutes=40), 1)]
    assert [row[:2] for row in rows(ROLLED.format("1h"), told.site.pk)] == [(HOUR, 3)]


def test_figures_from_before_the_provider_took_over_stay_in_their_page(told):
    keep_partitions(NOW)
    SiteTenure.objects.using(OWNER).filter(site=told.site).update(valid_from=HOUR + timedelta(minutes=30))
    kept(told, HOUR + timedelta(minutes=3), 0.5, 1)
    kept(told, HOUR + timedelta(minutes=40), 0.9, 2)
    told.read_all()
    assert rows("SELECT at FROM sample WHERE site_id = %s", told.site.pk) == [(HOUR + timedelta(minutes=40),)]


def test_a_page_that_fails_marks_nothing(told):
    keep_partitions(NOW)
    kept(told, HOUR, 0.5, 1)
    page, body = told.page(0)
    with pytest.raises(OverflowError):
        anchor = replace(told.anchor(), mono_ms=2**62)
        record_page(page, body, site_id=told.site.pk, identity_id=told.identity.pk, anchor=anchor)
    assert rows("SELECT * FROM rollup_stale") == []
