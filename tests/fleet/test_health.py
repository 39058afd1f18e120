"""Pages for machines: who may read them, what they say when parts are away."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.db import connections
from django.test import Client

from fleet.kit import counters
from sites.services.claims import map_pollers
from sites.services.reports import record_reports
from tests.database import APP, OWNER, rows
from tests.sites.builders import polled

LINE = re.compile(r'([a-z_]+)(\{[a-z_]+="[a-zA-Z0-9_.]+"(,[a-z_]+="[a-zA-Z0-9_.]+")*\})? (-?[0-9.e+-]+|NaN)')


@pytest.fixture
def without_database(database: None) -> Iterator[Any]:
    """Call it, and the application finds no PostgreSQL any more."""
    settings = connections[APP].settings_dict
    own = {name: settings[name] for name in ("HOST", "PORT")}

    def lose() -> None:
        connections[APP].close()
        settings.update(HOST="127.0.0.1", PORT="9")

    yield lose
    connections[APP].close()
    settings.update(own)


@pytest.fixture
def without_broker(settings: Any) -> Iterator[None]:
    """No Redis answers."""
    settings.REDIS_COUNTERS_URL = settings.REDIS_BROKER_URL = "redis://127.0.0.1:9/0"
    counters.client.cache_clear()
    counters.broker.cache_clear()
    yield
    counters.client.cache_clear()
    counters.broker.cache_clear()


@pytest.fixture
def no_counts(database: None) -> None:
    """Counters from zero."""
    counters.client().delete(counters.KEY)


def figures(text: str) -> dict[str, float]:
    """Samples of a text in Prometheus' format, after a check of every line."""
    found: dict[str, float] = {}
    described: dict[str, set[str]] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, family, *rest = line.split(" ", 3)
            assert what in {"HELP", "TYPE"}
            assert rest
            assert what not in described.setdefault(family, set()), f"{line}: twice"
            assert not any(name.partition("{")[0] == family for name in found), f"{line}: after its samples"
            if what == "TYPE":
                assert rest[0] in {"counter", "gauge"}
            described[family].add(what)
            continue
        match = LINE.fullmatch(line)
        assert match, line
        family, labels, number = match[1], match[2] or "", match[4]
        assert described.get(family) == {"HELP", "TYPE"}, f"{family} is not described"
        assert family + labels not in found, f"{line}: twice"
        found[family + labels] = float(number)
    return found


# Health and readiness ---------------------------------------------------------------------------------------
def test_healthz_needs_nothing(without_database, without_broker):
    without_database()
    client = Client()
    client.cookies["__Host-session"] = "whatever"
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_readyz_when_all_is_there(database):
    response = Client().get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "database": True, "broker": True})


@pytest.mark.usefixtures("without_broker")
def test_readyz_is_degraded_without_the_broker(database):
    response = Client().get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "degraded", "database": True, "broker": False})


def test_readyz_is_down_without_the_database(without_database):
    without_database()
    response = Client().get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "down", "database": False, "broker": True})


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_they_are_open_to_everybody_and_say_nothing_more(database, path):
    response = Client(REMOTE_ADDR="203.0.113.9").get(path)
    assert response.status_code == 200
    assert response.json().keys() <= {"status", "database", "broker"}


# Metrics ----------------------------------------------------------------------------------------------------
def test_metrics_are_in_prometheus_format_and_count(no_counts, make_site):
    site, other = make_site(), make_site()
    for _ in range(2):
        record_reports([polled(site), polled(other, None)], poller="test")
    response = Client().get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = figures(response.content.decode())
    assert found.pop("archipelago_poll_batch_lag_seconds_total") >= 0
    assert found.pop("archipelago_poll_lag_seconds") >= 0
    assert found == {
        'archipelago_polls_total{outcome="ok"}': 2,
        'archipelago_polls_total{outcome="timeout"}': 2,
        "archipelago_poll_batches_total": 2,
        'archipelago_sites{state="up"}': 1,
        'archipelago_sites{state="degraded"}': 0,
        'archipelago_sites{state="down"}': 0,
        'archipelago_sites{state="unknown"}': 1,
        'archipelago_sites{state="unreachable"}': 0,
        'archipelago_queue_depth{queue="tick"}': 0,
        'archipelago_queue_depth{queue="default"}': 0,
        'archipelago_queue_depth{queue="slow"}': 0,
        'archipelago_queue_depth{queue="poll.0"}': 0,
        "archipelago_websocket_clients": 0,
        "archipelago_broker_up": 1,
    }


def test_metrics_with_nothing_counted_yet(no_counts):
    found = figures(Client().get("/metrics").content.decode())
    assert found["archipelago_poll_lag_seconds"] == 0
    assert 'archipelago_sites{state="up"}' in found


def test_metrics_show_the_most_overdue_site_and_the_waiting_messages(no_counts, make_site):
    site = make_site()
    rows(
        "UPDATE edge_sites_pollschedule SET next_poll_at = now() - interval '90 s' WHERE site_id = %s",
        [site.pk],
        using=OWNER,
    )
    map_pollers(2)
    broker = counters.broker()
    try:
        broker.rpush("poll.1", "a", "b", "c")
        found = figures(Client().get("/metrics").content.decode())
    finally:
        broker.delete("poll.1")
        map_pollers(1)
    assert found["archipelago_poll_lag_seconds"] == pytest.approx(90, abs=5)
    assert found['archipelago_queue_depth{queue="poll.1"}'] == 3
    assert found['archipelago_queue_depth{queue="poll.0"}'] == 0


def test_large_counters_keep_every_digit(no_counts):
    counters.add({"archipelago_poll_batches_total": 123_456_789_012})
    found = figures(Client().get("/metrics").content.decode())
    assert found["archipelago_poll_batches_total"] == 123_456_789_012


@pytest.mark.usefixtures("without_broker")
def test_metrics_without_the_broker_still_say_what_the_database_knows(database):
    found = figures(Client().get("/metrics").content.decode())
    assert found["archipelago_broker_up"] == 0
    assert 'archipelago_sites{state="up"}' in found


@pytest.mark.usefixtures("plain_static")
def test_metrics_without_the_database_are_503(without_database):
    without_database()
    assert Client().get("/metrics").status_code == 503


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_may_read_metrics(database, address):
    assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200


LIES = (
    {},
    {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer x"},
    {"Authorization": ""},
)


@pytest.mark.parametrize("address", ["203.0.113.9", "10.0.0.1", "2001:db8::1", "", "not an address", "127.0.0.1.evil"])
def test_others_may_not_whatever_they_say(make_person, address):
    client = Client(REMOTE_ADDR=address)
    client.force_login(make_person("admin"))
    for headers in LIES:
        response = client.get("/metrics", headers=headers)
        assert response.status_code == 403, headers
        assert b"archipelago_" not in response.content


def test_loopback_counts_for_nothing_behind_a_proxy(database, settings):
    settings.TRUST_PROXY = True
    assert Client().get("/metrics").status_code == 403
    assert Client().get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        *(
            ("Bearer right-token", 200),
            ("Bearer right-toke", 403),
            ("Bearer right-token2", 403),
            ("Bearer \u00e9", 403),
        ),
        *(("Basic right-token", 403), ("", 403), ("Bearer", 403)),
    ],
)
def test_a_token_opens_metrics_from_anywhere(database, settings, authorization, status):
    settings.METRICS_TOKEN = "right-token"
    client = Client(REMOTE_ADDR="203.0.113.9")
    assert client.get("/metrics", headers={"Authorization": authorization}).status_code == status


def test_a_token_in_the_address_opens_nothing(database, settings):
    settings.METRICS_TOKEN = "right-token"
    client = Client(REMOTE_ADDR="203.0.113.9")
    for name in ("token", "access_token", "Authorization"):
        assert client.get("/metrics", {name: "right-token"}).status_code == 403


def test_counters_that_cannot_be_added_are_logged_not_raised(without_broker, caplog):
    counters.add({"archipelago_poll_batches_total": 1})
    assert "counters lost" in caplog.text
    with pytest.raises(redis.RedisError):
        counters.read()
