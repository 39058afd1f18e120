"""Samples and state intervals of a site through the API."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sites.models import Site, StateInterval
from tests.database import OWNER, rows
from tests.openapi import assert_error

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
COLUMNS = [
    *("at", "cpu_ratio", "mem_bytes", "mem_total_bytes", "disk_bytes", "disk_total_bytes", "load1"),
    *("net_rx_bytes_s", "net_tx_bytes_s", "temp_celsius", "power_watts", "rtt_ms"),
]


@pytest.fixture
def site(make_provider: Any, make_site: Any) -> Any:
    """A site, and partitions for the days that the tests speak of."""
    for table in ("sample", "sample_5m", "sample_1h"):
        rows("SELECT make_partitions(%s, '2026-02-05', 40)", [table], using=OWNER)
    return make_site("ours-site", make_provider("ours"))


def sample(
    site: Site, at: datetime, *, cpu: float = 0.5, rx: int | None = None, provider_id: int | None = None
) -> None:
    rows(
        "INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, mem_bytes,"
        " mem_total_bytes, disk_bytes, disk_total_bytes, net_rx_bytes_total)"
        " VALUES (%s, %s, %s, 5, 12, 4, %s, 1, 2, 3, 4, %s)",
        [site.pk, provider_id or site.provider_id, at, cpu, rx],
        using=OWNER,
    )


def bucket(site: Site, table: str, at: datetime, *, cpu: float) -> None:
    rows(
        f"INSERT INTO {table} (site_id, provider_id, bucket, polls, cpu_count, mem_total_bytes, disk_total_bytes,"
        " cpu_ratio_avg) VALUES (%s, %s, %s, 10, 4, 2, 4, %s)",
        [site.pk, site.provider_id, at, cpu],
        using=OWNER,
    )


def get(client: Any, what: str = "samples", slug: str = "ours-site", **query: Any) -> Any:
    query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return client.get(f"/api/v1/sites/{slug}/{what}", query)


def seconds(*at: datetime) -> list[float]:
    return [moment.timestamp() for moment in at]


# Samples ----------------------------------------------------------------------------------------------------
def test_raw_samples_come_as_columns_of_equal_length_oldest_first(site, api_client):
    at = [NOW + timedelta(seconds=30 * step) for step in (2, 0, 1)]
    for moment, cpu, rx in zip(at, (0.75, 0.25, 0.5), (4000, 1000, 2500), strict=True):
        sample(site, moment, cpu=cpu, rx=rx)
    body = get(api_client("viewer"), since=NOW, until=NOW + timedelta(minutes=5), resolution="raw").json()
    assert (body["resolution"], body["columns"]) == ("raw", COLUMNS)
    data = dict(zip(body["columns"], body["data"], strict=True))
    assert data["at"] == seconds(*sorted(at))
    assert data["cpu_ratio"] == [0.25, 0.5, 0.75]
    # Rates from counters: nothing before the first, 1,500 bytes in 30 s after it.
    assert data["net_rx_bytes_s"] == [None, 50.0, 50.0]
    assert data["temp_celsius"] == [None] * 3
    assert {len(column) for column in body["data"]} == {3}


def test_the_span_is_half_open(site, api_client):
    for step in range(4):
        sample(site, NOW + timedelta(minutes=step))
    body = get(api_client("viewer"), since=NOW + timedelta(minutes=1), until=NOW + timedelta(minutes=3)).json()
    assert body["data"][0] == seconds(NOW + timedelta(minutes=1), NOW + timedelta(minutes=2))


def test_a_span_without_samples_has_empty_columns(site, api_client):
    body = get(api_client("viewer"), since=NOW, until=NOW + timedelta(hours=1)).json()
    assert body == {"resolution": "raw", "columns": COLUMNS, "data": [[] for _ in COLUMNS]}


@pytest.mark.parametrize(
    ("span", "chosen"),
    [
        (timedelta(minutes=1), "raw"),
        (timedelta(hours=6), "raw"),
        (timedelta(hours=6, seconds=1), "5m"),
        (timedelta(days=7), "5m"),
        (timedelta(days=7, seconds=1), "1h"),
        (timedelta(days=400), "1h"),
    ],
)
def test_auto_takes_the_resolution_that_suits_the_span(site, api_client, span, chosen):
    client = api_client("viewer")
    for query in ({}, {"resolution": "auto"}):
        assert get(client, since=NOW - span, until=NOW, **query).json()["resolution"] == chosen


@pytest.mark.parametrize(("resolution", "width"), [("5m", timedelta(minutes=5)), ("1h", timedelta(hours=1))])
def test_rollups_are_completed_from_raw_samples_to_the_present(site, api_client, resolution, width):
    for step in range(3):
        bucket(site, f"sample_{resolution}", NOW + step * width, cpu=step / 10)
    sample(site, NOW + 2 * width, cpu=0.9)  # inside the last bucket, so it is in there already
    young = [NOW + 3 * width + timedelta(seconds=second) for second in (1, 2, 3)]
    for moment, cpu in zip(young, (0.5, 0.6, 0.7), strict=True):
        sample(site, moment, cpu=cpu)
    body = get(api_client("viewer"), since=NOW, until=NOW + 5 * width, resolution=resolution).json()
    data = dict(zip(body["columns"], body["data"], strict=True))
    assert data["at"] == seconds(NOW, NOW + width, NOW + 2 * width, young[-1])
    assert data["cpu_ratio"] == pytest.approx([0.0, 0.1, 0.2, 0.7])


def test_resolutions_do_not_mix(site, api_client):
    bucket(site, "sample_5m", NOW, cpu=0.1)
    bucket(site, "sample_1h", NOW, cpu=0.2)
    client = api_client("viewer")
    found = {
        resolution: get(client, since=NOW, until=NOW + timedelta(hours=2), resolution=resolution).json()["data"][1]
        for resolution in ("raw", "5m", "1h")
    }
    assert found == {"raw": [], "5m": pytest.approx([0.1]), "1h": pytest.approx([0.2])}


def test_samples_of_another_site_or_another_tenure_are_not_in(site, make_site, make_provider, api_client):
    other = make_site("other", site.provider)
    earlier = make_provider("earlier")
    sample(site, NOW, cpu=0.1)
    sample(other, NOW, cpu=0.2)
    sample(site, NOW + timedelta(seconds=1), cpu=0.3, provider_id=earlier.pk)
    span = {"since": NOW, "until": NOW + timedelta(hours=1)}
    own = get(api_client("provider_viewer", provider=site.provider), **span).json()
    assert own["data"][1] == pytest.approx([0.1])
    fleet_wide = get(api_client("viewer"), **span).json()
    assert fleet_wide["data"][1] == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize(
    "query",
    [
        {"since": NOW, "until": NOW},
        {"since": NOW, "until": NOW - timedelta(seconds=1)},
        {"since": NOW - timedelta(days=401), "until": NOW},
        {"since": NOW - timedelta(days=3), "until": NOW, "resolution": "raw"},
        {"since": "yesterday"},
        {"until": "2026-13-40"},
        {"since": "\x00"},
        {"resolution": "1m"},
        {"resolution": ""},
        {"since": "0001-01-01T00:00:00Z"},
        {"until": "0001-01-01T12:00:00Z"},
        {"since": "1e400"},
    ],
    ids=str,
)
def test_spans_that_make_no_sense_are_422(site, api_client, query):
    assert_error(get(api_client("viewer"), **query), 422, "invalid")


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (None, "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:00:00-14:00", "9999-12-31T23:59:59-14:00"),
        ("0001-01-01T00:00:00+14:00", "0001-01-02T00:00:00+14:00"),
    ],
)
@pytest.mark.parametrize("resolution", ["raw", "1h", "auto"])
def test_spans_at_the_ends_of_time_are_empty(site, api_client, since, until, resolution):
    query = {"until": until, "resolution": resolution} | ({"since": since} if since else {})
    client = api_client("viewer")
    assert get(client, **query).json()["data"] == [[] for _ in COLUMNS]
    query.pop("resolution")
    assert get(client, "intervals", **query).status_code == 200


def test_without_a_span_the_last_day_is_meant(site, api_client):
    now = datetime.now(UTC)
    rows("SELECT make_partitions('sample_5m', current_date - 3, 3)", using=OWNER)
    for hours in (30, 23, 1):
        bucket(site, "sample_5m", now - timedelta(hours=hours), cpu=hours / 100)
    body = get(api_client("viewer")).json()
    assert (body["resolution"], body["data"][1]) == ("5m", pytest.approx([0.23, 0.01]))


def test_times_without_a_zone_are_utc(site, api_client):
    sample(site, NOW)
    client = api_client("viewer")
    body = client.get("/api/v1/sites/ours-site/samples?since=2026-03-10T12:00:00&until=2026-03-10T12:01:00").json()
    assert body["data"][0] == seconds(NOW)


# Intervals --------------------------------------------------------------------------------------------------
@pytest.fixture
def history(site: Any) -> list[StateInterval]:
    """Three closed intervals and an open one on one axis, one on the other, and one that was corrected."""
    rows("TRUNCATE edge_sites_stateinterval RESTART IDENTITY", using=OWNER)
    common = {"site": site, "provider_id": site.provider_id, "source": "poll", "evidence": {"poll": "x"}}
    made = []
    for hour, state, closed in ((0, "up", True), (1, "down", True), (2, "degraded", True), (3, "up", False)):
        begin, end = NOW + timedelta(hours=hour), NOW + timedelta(hours=hour + 1)
        values = {"valid_from": begin, "valid_to": end if closed else None, "closed_at": end if closed else None}
        made.append(StateInterval.objects.using(OWNER).create(axis="availability", state=state, **common, **values))
    made.append(
        StateInterval.objects.using(OWNER).create(axis="reachability", state="reachable", valid_from=NOW, **common)
    )
    wrong = {"valid_from": NOW, "valid_to": NOW + timedelta(hours=9), "superseded_at": NOW + timedelta(hours=10)}
    made.append(StateInterval.objects.using(OWNER).create(axis="availability", state="unknown", **common, **wrong))
    return made


def states(client: Any, **query: Any) -> list[str]:
    response = get(client, "intervals", **{"since": NOW, "until": NOW + timedelta(days=1), **query})
    assert response.status_code == 200, response.content
    return [item["state"] for item in response.json()["items"]]


def test_intervals_that_stand_come_in_the_order_of_their_record(history, api_client):
    client = api_client("viewer")
    assert states(client) == ["up", "down", "degraded", "up", "reachable"]
    assert states(client, axis="availability") == ["up", "down", "degraded", "up"]
    assert states(client, axis="reachability") == ["reachable"]
    assert states(client, superseded="true")[-1] == "unknown"


def test_intervals_that_touch_the_span(history, api_client):
    client = api_client("viewer")
    half = timedelta(minutes=30)
    hour = timedelta(hours=1)
    availability = {"axis": "availability"}
    assert states(client, since=NOW + half, until=NOW + hour + half, **availability) == ["up", "down"]
    assert states(client, since=NOW + hour, until=NOW + 2 * hour, **availability) == ["down"]
    assert states(client, since=NOW + 30 * hour, until=NOW + 31 * hour, **availability) == ["up"]
    assert states(client, since=NOW - 2 * hour, until=NOW, **availability) == []


def test_an_interval_as_it_is_shown(history, api_client):
    row = history[1]
    row.refresh_from_db()
    item = get(api_client("viewer"), "intervals", since=NOW, until=NOW + timedelta(days=1)).json()["items"][1]
    assert item.pop("recorded_at")[:10] == f"{row.recorded_at:%Y-%m-%d}"
    assert item == {
        "axis": "availability",
        "state": "down",
        "valid_from": "2026-03-10T13:00:00Z",
        "valid_to": "2026-03-10T14:00:00Z",
        "closed_at": "2026-03-10T14:00:00Z",
        "superseded_at": None,
        "source": "poll",
        "evidence": {"poll": "x"},
    }


def test_intervals_are_paged(history, api_client):
    client = api_client("viewer")
    found, cursor = [], None
    while True:
        query = {"since": NOW, "until": NOW + timedelta(days=1), "limit": 2}
        body = get(client, "intervals", **query, **({"cursor": cursor} if cursor else {})).json()
        found.append([item["state"] for item in body["items"]])
        cursor = body["next"]
        if cursor is None:
            break
    assert found == [["up", "down"], ["degraded", "up"], ["reachable"]]


@pytest.mark.parametrize(
    "query", [{"axis": "mood"}, {"superseded": "perhaps"}, {"limit": "x"}, {"since": "x"}], ids=str
)
def test_questions_that_make_no_sense_are_422(site, api_client, query):
    assert_error(get(api_client("viewer"), "intervals", **query), 422, "invalid")
