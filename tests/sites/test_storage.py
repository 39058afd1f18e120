"""Partitions and rollups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from fleet.kit.tenancy import scope
from sites.selectors.one_site import SAMPLE_FIGURES, samples_of
from sites.services.storage import keep_partitions, roll_up
from tests.conftest import TEST

pytestmark = pytest.mark.usefixtures("database")
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connections["owner"].cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def sample(site: Any, at: datetime, cpu: float, rx: int) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, mem_bytes,"
            " mem_total_bytes, disk_bytes, disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total)"
            " VALUES (%s, %s, %s, 5, 10, 4, %s, 1, 2, 3, 4, %s, %s)",
            [site.pk, site.provider_id, at, cpu, rx, rx],
        )


def partitions(parent: str) -> list[str]:
    found = rows("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1", parent)
    return [name for (name,) in found]


def drop_days_before(at: datetime) -> None:
    with connections["owner"].cursor() as cursor:
        for table in ("sample", "sample_5m", "sample_1h"):
            cursor.execute("SELECT drop_partitions(%s, %s)", [table, at.date()])


def test_partitions_are_made_ahead_and_dropped_behind(settings: Any) -> None:
    # A time in the past: PostgreSQL itself refuses to drop days that are not over.
    then = datetime.now(UTC) - timedelta(days=30)
    drop_days_before(then)  # what other tests made
    before = partitions("sample")
    later = then + timedelta(days=3)
    assert keep_partitions(then) == {"made": 27, "dropped": 0}
    assert keep_partitions(later) == {"made": 9, "dropped": 0}
    assert f"sample_{later + timedelta(days=7):%Y%m%d}" in partitions("sample")
    assert keep_partitions(later) == {"made": 0, "dropped": 0}
    settings.RAW_SAMPLE_DAYS = 1
    assert keep_partitions(later) == {"made": 0, "dropped": 3}
    assert f"sample_{later - timedelta(days=2):%Y%m%d}" not in partitions("sample")
    assert f"sample_{later - timedelta(days=1):%Y%m%d}" in partitions("sample")
    drop_days_before(later + timedelta(days=10))
    assert set(before) == set(partitions("sample"))


def test_rollups_hold_exact_figures(make_site: Any) -> None:
    site = make_site()
    begin = HOUR - timedelta(hours=1)
    for number in range(20):
        sample(site, begin + timedelta(seconds=10 * number), number / 20, 1000 * number)
    done = roll_up(HOUR + timedelta(seconds=31))
    assert done == {"5m": 12, "1h": 1}
    assert rows(
        "SELECT polls, cpu_ratio_min, round(cpu_ratio_avg::numeric, 6)::float8, cpu_ratio_max,"
        " round(cpu_ratio_p95::numeric, 6)::float8, net_rx_bytes_s, cpu_count FROM sample_5m"
    ) == [(20, 0, 0.475, pytest.approx(0.95), pytest.approx(0.9025), 100, 4)]
    assert rows("SELECT bucket, polls, provider_id FROM sample_1h") == [(begin, 20, site.provider_id)]


def test_rolling_up_twice_changes_nothing(make_site: Any) -> None:
    site = make_site()
    sample(site, HOUR - timedelta(minutes=30), 0.5, 10)
    roll_up(HOUR + timedelta(seconds=31))
    before = rows("SELECT * FROM sample_5m") + rows("SELECT * FROM sample_1h")
    assert roll_up(HOUR + timedelta(seconds=31)) == {"5m": 0, "1h": 0}
    with connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM rollup_progress")
    roll_up(HOUR + timedelta(seconds=31))
    assert rows("SELECT * FROM sample_5m") + rows("SELECT * FROM sample_1h") == before


def test_open_bucket_is_left_alone_until_it_has_settled(make_site: Any) -> None:
    sample(make_site(), HOUR - timedelta(minutes=5), 0.5, 10)
    assert roll_up(HOUR + timedelta(seconds=29))["5m"] == 0
    assert roll_up(HOUR + timedelta(seconds=31))["5m"] == 1


def test_stopped_worker_catches_up_where_it_left(make_site: Any) -> None:
    site = make_site()
    for hours in (3, 2, 1):
        sample(site, HOUR - timedelta(hours=hours), 0.5, 10)
    roll_up(HOUR - timedelta(hours=2) + timedelta(seconds=31))
    assert rows("SELECT count(*) FROM sample_1h") == [(1,)]
    roll_up(HOUR + timedelta(seconds=31))
    assert rows("SELECT count(*) FROM sample_1h") == [(3,)]


def test_counter_reset_gives_no_rate(make_site: Any) -> None:
    site = make_site()
    sample(site, HOUR - timedelta(minutes=10), 0.5, 5000)
    sample(site, HOUR - timedelta(minutes=9), 0.5, 100)
    roll_up(HOUR + timedelta(seconds=31))
    assert rows("SELECT net_rx_bytes_s FROM sample_1h") == [(None,)]


def test_hand_over_within_a_bucket_makes_a_row_a_provider(make_site: Any, make_provider: Any) -> None:
    site = make_site()
    sample(site, HOUR - timedelta(minutes=10), 0.5, 10)
    site.provider_id = make_provider().pk
    sample(site, HOUR - timedelta(minutes=9), 0.5, 10)
    roll_up(HOUR + timedelta(seconds=31))
    assert len(rows("SELECT provider_id FROM sample_1h")) == 2


@pytest.mark.parametrize(("resolution", "points"), [("raw", 4), ("5m", 2), ("1h", 2)])
def test_samples_reach_from_rollups_to_now(make_site: Any, resolution: str, points: int) -> None:
    site = make_site()
    for minutes in (70, 69, 4, 3):
        sample(site, HOUR - timedelta(minutes=minutes), 0.5, 10)
    roll_up(HOUR - timedelta(minutes=5) + timedelta(seconds=31))
    with scope(TEST):
        columns = samples_of(site, since=HOUR - timedelta(days=1), until=HOUR, resolution=resolution)
    assert len(columns) == 1 + len(SAMPLE_FIGURES)
    assert [len(column) for column in columns] == [points] * len(columns)
    assert columns[0] == sorted(value for value in columns[0] if value is not None)
