"""Partitions made ahead and dropped behind; samples rolled up bucket by bucket."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections

from fleet.kit.tenancy import DEFAULT, job, scope

KEEPER = job("storage")
DAYS_AHEAD = 7
BUCKETS = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1)}
# Late answers are written up to ten seconds after they were due; a bucket is closed a little later than that.
SETTLE = timedelta(seconds=30)
METRICS = ("cpu_ratio", "load1", "mem_bytes", "disk_bytes", "temp_celsius", "power_watts", "rtt_ms")


def keep_partitions(now: datetime) -> dict[str, int]:
    """Make the partitions of the next days and drop those past their retention. Returns counts of both."""
    kept_days = {
        "sample": settings.RAW_SAMPLE_DAYS,
        "sample_5m": settings.ROLLUP_5M_DAYS,
        "sample_1h": settings.ROLLUP_1H_DAYS,
    }
    made = dropped = 0
    today = now.date()
    with scope(KEEPER), connections[DEFAULT].cursor() as cursor:
        for table, days in kept_days.items():
            cursor.execute("SELECT make_partitions(%s, %s, %s)", [table, today - timedelta(days=1), DAYS_AHEAD + 2])
            made += cursor.fetchone()[0]
            cursor.execute("SELECT drop_partitions(%s, %s)", [table, today - timedelta(days=days)])
            dropped += cursor.fetchone()[0]
    return {"made": made, "dropped": dropped}


_CLOSED = "sample WHERE at >= %(from)s AND at < %(to)s"
# Hours of sites, one by one over the index; where the day's partition is gone there is nothing to roll up into.
_HOURS = """(
    SELECT s.* FROM unnest(%(sites)s::int[], %(hours)s::timestamptz[]) AS r(site_id, hour)
    JOIN LATERAL (
        SELECT * FROM sample x
        WHERE x.site_id = r.site_id AND x.at >= r.hour AND x.at < r.hour + interval '1 hour' AND x.at < %(to)s
    ) s ON true
    WHERE to_regclass('public.' || %(table)s || to_char(r.hour AT TIME ZONE 'UTC', '_YYYYMMDD')) IS NOT NULL
) AS hours"""


def _rollup_sql(resolution: str, samples: str) -> str:
    """One statement that (re)computes the buckets of whole `samples`: running it twice changes nothing."""
    names = [f"{metric}_{figure}" for metric in METRICS for figure in ("min", "avg", "max", "p95")]
    values = [
        value
        for metric in METRICS
        for value in (
            f"min({metric})",
            f"avg({metric})",
            f"max({metric})",
            f"percentile_cont(0.95) WITHIN GROUP (ORDER BY {metric})",
        )
    ]
    columns = ["polls", "cpu_count", "mem_total_bytes", "disk_total_bytes", "net_rx_bytes_s", "net_tx_bytes_s", *names]
    updates = ", ".join(f"{column} = EXCLUDED.{column}" for column in columns)
    return f"""
        INSERT INTO sample_{resolution} (site_id, provider_id, bucket, {", ".join(columns)})
        SELECT site_id, provider_id, date_bin(%(width)s, at, 'epoch'), count(*), max(cpu_count),
            max(mem_total_bytes), max(disk_total_bytes), {_rate("net_rx_bytes_total")},
            {_rate("net_tx_bytes_total")}, {", ".join(values)}
        FROM {samples}
        GROUP BY 1, 2, 3
        ON CONFLICT (site_id, provider_id, bucket) DO UPDATE SET {updates}
    """  # noqa: S608  (names are constants of this module)


def _rate(counter: str) -> str:
    """Bytes a second over a bucket; null where the counter was reset (a reboot) or there is one sample only."""
    first = f"(array_agg({counter} ORDER BY at))[1]"
    last = f"(array_agg({counter} ORDER BY at DESC))[1]"
    seconds = "NULLIF(extract(epoch FROM max(at) - min(at)), 0)"
    return f"CASE WHEN {last} >= {first} THEN ({last} - {first}) / {seconds} END"


def roll_up(now: datetime, *, buckets_at_most: int = 48) -> dict[str, int]:
    """Roll up every closed bucket that is not yet rolled up, oldest first. Returns buckets done by resolution.

    A resolution that was never rolled up begins with the oldest sample.
    """
    done: dict[str, int] = {}
    for resolution, width in BUCKETS.items():
        with scope(KEEPER), connections[DEFAULT].cursor() as cursor:
            begin = _done_to(cursor, resolution, width)
            end = _floor(now - SETTLE, width)
            done[resolution] = 0
            if begin is None or begin >= end:
                continue
            end = min(end, begin + buckets_at_most * width)
            values: dict[str, Any] = {"width": width, "from": begin, "to": end}
            cursor.execute(_rollup_sql(resolution, _CLOSED), values)
            cursor.execute(
                "INSERT INTO rollup_progress VALUES (%s, %s)"
                " ON CONFLICT (resolution) DO UPDATE SET done_to = EXCLUDED.done_to",
                [resolution, end],
            )
            done[resolution] = (end - begin) // width
    return done


def roll_up_again(*, hours_at_most: int = 2_000) -> int:
    """Roll up anew the closed buckets of hours to which journals have added samples. Returns how many hours, of sites.

    The longest marked first. What is not closed yet is left to roll_up(), which finds the samples itself.
    """
    with scope(KEEPER), connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            "DELETE FROM rollup_stale WHERE (site_id, hour) IN (SELECT site_id, hour FROM rollup_stale"
            " ORDER BY marked_at, site_id, hour LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING site_id, hour",
            [hours_at_most],
        )
        stale = sorted(cursor.fetchall())
        if not stale:
            return 0
        sites, hours = zip(*stale, strict=True)
        # Held, so that no bucket is closed meanwhile: it would be written by both.
        cursor.execute("SELECT resolution, done_to FROM rollup_progress ORDER BY resolution FOR SHARE")
        for resolution, done_to in cursor.fetchall():
            values: dict[str, Any] = {"sites": list(sites), "hours": list(hours)}
            values |= {"table": f"sample_{resolution}", "width": BUCKETS[resolution], "to": done_to}
            cursor.execute(_rollup_sql(resolution, _HOURS), values)
    return len(stale)


def _done_to(cursor: Any, resolution: str, width: timedelta) -> datetime | None:
    cursor.execute("SELECT done_to FROM rollup_progress WHERE resolution = %s FOR UPDATE", [resolution])
    row = cursor.fetchone()
    if row is None:
        cursor.execute("SELECT min(at) FROM sample")
        row = cursor.fetchone()
    return _floor(row[0], width) if row and row[0] else None


def _floor(at: datetime, width: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=at.tzinfo)
    return epoch + ((at - epoch) // width) * width
