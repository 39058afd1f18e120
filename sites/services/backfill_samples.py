"""Figures that a site kept while nobody polled it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from django.db import connections

from agent.protocol import Resources
from fleet.kit.tenancy import DEFAULT

# Where the day's partition is gone (or not made yet) the figures stay in their envelope alone.
_INSERT = """
INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, load1, mem_bytes, mem_total_bytes,
    disk_bytes, disk_total_bytes, net_rx_bytes_total, net_tx_bytes_total, temp_celsius, power_watts)
SELECT %s, %s, s.at, 0, NULL, LEAST(s.cpu_count, 32767)::int2, s.cpu_ratio, s.load1, s.mem_bytes, s.mem_total_bytes,
    s.disk_bytes, s.disk_total_bytes, s.net_rx_bytes_total, s.net_tx_bytes_total, s.temp_celsius, s.power_watts
FROM jsonb_to_recordset(%s::jsonb) AS s(at timestamptz, cpu_count int8, cpu_ratio float8, load1 float8, mem_bytes int8,
    mem_total_bytes int8, disk_bytes int8, disk_total_bytes int8, net_rx_bytes_total int8, net_tx_bytes_total int8,
    temp_celsius float8, power_watts float8)
WHERE to_regclass('public.sample_' || to_char(s.at AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT NULL
"""

# Locked until the commit: who rolls up takes the hour only when its samples are to be seen.
_MARK = """
INSERT INTO rollup_stale (site_id, hour)
SELECT DISTINCT %s, date_trunc('hour', s.at, 'UTC') FROM unnest(%s::timestamptz[]) AS s(at)
ORDER BY 2 ON CONFLICT (site_id, hour) DO UPDATE SET marked_at = now()
"""


def store_samples(site_id: int, provider_id: int, samples: Sequence[tuple[datetime, Resources]]) -> None:
    """Add samples at their times (our clock), and mark the hours to be rolled up again.

    Within the open scope and transaction; the caller makes sure that none comes twice.
    """
    if not samples:
        return
    rows = [{"at": at.isoformat(), **msgspec.structs.asdict(figures)} for at, figures in samples]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_INSERT, [site_id, provider_id, msgspec.json.encode(rows).decode()])
        cursor.execute(_MARK, [site_id, [at for at, _ in samples]])
