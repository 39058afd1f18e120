"""What is known of one site that get_site() has handed out: intervals, outages, samples, audit."""

from collections.abc import Sequence
from datetime import UTC, datetime

from django.db import connections
from django.db.models import Q

from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import DEFAULT, Scope
from sites.models import Acknowledgement, ComponentSpan, Site, SiteTenure, StateInterval


def open_acknowledgement(site: Site) -> Acknowledgement | None:
    """Who has taken the site's trouble."""
    return site.acknowledgements.filter(cleared_at=None).first()


def tenure_of(who: Scope, site: Site) -> SiteTenure | None:
    """The tenure under which the viewer sees the site: the newest of its provider's."""
    return SiteTenure.objects.filter(site=site).order_by("-valid_from").first()


def intervals_of(site: Site, *, since: datetime, until: datetime | None = None) -> list[StateInterval]:
    """Intervals of both axes that touch the span and stand, oldest first (row-level security keeps tenures apart)."""
    found = site.intervals.filter(superseded_at=None).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    if until is not None:
        found = found.filter(valid_from__lt=until)
    return list(found.order_by("valid_from", "id"))


def timeline_rows(
    site: Site, *, since: datetime, until: datetime, superseded: bool, axis: str | None = None, limit: int
) -> list[StateInterval]:
    """Intervals that touch the span in order of time, those that no longer stand too if asked; at most `limit`."""
    found = site.intervals.filter(valid_from__lt=until).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    if axis is not None:
        found = found.filter(axis=axis)
    if not superseded:
        found = found.filter(superseded_at=None)
    return list(found.order_by("valid_from", "id")[:limit])


def component_spans_of(site: Site, *, since: datetime) -> list[ComponentSpan]:
    """Which components it ran since then and just before, by what stands, oldest first; the newest 200."""
    found = site.component_spans.filter(superseded_at=None).filter(Q(valid_to=None) | Q(valid_to__gte=since))
    return list(found.select_related("component_set").order_by("-valid_from", "-id")[:200])[::-1]


def audit_of(site: Site, *, limit: int = 50) -> list[AuditEntry]:
    """Who changed the site, newest first."""
    return list(AuditEntry.objects.filter(object_type="site", object_id=str(site.pk)).order_by("-at", "-id")[:limit])


RANGES = {"1h": 3600, "6h": 6 * 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
RESOLUTIONS = ("raw", "5m", "1h")
SAMPLE_FIGURES = (
    *("cpu_ratio", "mem_bytes", "mem_total_bytes", "disk_bytes", "disk_total_bytes", "load1"),
    *("net_rx_bytes_s", "net_tx_bytes_s", "temp_celsius", "power_watts", "rtt_ms"),
)

_RAW = """
SELECT extract(epoch FROM at)::float8, cpu_ratio, mem_bytes, mem_total_bytes, disk_bytes, disk_total_bytes, load1,
    (net_rx_bytes_total - lag(net_rx_bytes_total) OVER w) / NULLIF(extract(epoch FROM at - lag(at) OVER w), 0)::float8,
    (net_tx_bytes_total - lag(net_tx_bytes_total) OVER w) / NULLIF(extract(epoch FROM at - lag(at) OVER w), 0)::float8,
    temp_celsius, power_watts, rtt_ms
FROM sample WHERE site_id = %s AND at >= %s AND at < %s WINDOW w AS (ORDER BY at) ORDER BY at
"""

_ROLLED = """
SELECT extract(epoch FROM bucket)::float8, cpu_ratio_avg, mem_bytes_avg, mem_total_bytes, disk_bytes_avg,
    disk_total_bytes, load1_avg, net_rx_bytes_s, net_tx_bytes_s, temp_celsius_avg, power_watts_avg, rtt_ms_avg
FROM sample_{resolution} WHERE site_id = %s AND bucket >= %s AND bucket < %s ORDER BY bucket
"""


def resolution_for(seconds: float) -> str:
    """The resolution that draws a span well: raw up to 6 h, 5 minutes up to 7 d, hours beyond."""
    return "raw" if seconds <= RANGES["6h"] else "5m" if seconds <= RANGES["7d"] else "1h"


def samples_of(site: Site, *, since: datetime, until: datetime, resolution: str) -> list[list[float | None]]:
    """Columns (time in epoch seconds, then SAMPLE_FIGURES), each a list of equal length, oldest first.

    `resolution` is one of RESOLUTIONS; rolled-up figures are averages of their bucket. What is younger than the
    last closed bucket is completed from raw samples, thinned to one a bucket, so that charts reach to now.
    """
    with connections[DEFAULT].cursor() as cursor:
        rows: list[Sequence[float | None]] = []
        begin = since
        if resolution != "raw":
            cursor.execute(_ROLLED.format(resolution=resolution), [site.pk, since, until])
            rows = cursor.fetchall()
            width_s = 300 if resolution == "5m" else 3600
            if rows and rows[-1][0] is not None:
                begin = datetime.fromtimestamp(rows[-1][0] + width_s, tz=UTC)
        cursor.execute(_RAW, [site.pk, begin, until])
        raw = cursor.fetchall()
        rows = [*rows, *(raw if resolution == "raw" else _thin(raw, width_s))]
    columns: list[list[float | None]] = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(1 + len(SAMPLE_FIGURES))]


def _thin(rows: Sequence[Sequence[float | None]], width_s: int) -> list[Sequence[float | None]]:
    """The last row of each bucket."""
    last: dict[int, Sequence[float | None]] = {}
    for row in rows:
        last[int((row[0] or 0) // width_s)] = row
    return list(last.values())
