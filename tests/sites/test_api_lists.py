"""Lists of the API: pages, cursors, filters, what they hold, and how many queries they take."""

import base64
import json
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sites.models import Site
from sites.services.reports import record_reports
from sites.services.sites import create_sites
from tests.conftest import TEST, everything
from tests.database import OWNER
from tests.openapi import assert_error
from tests.sites.builders import polled


def slugs(client: Client, query: str = "", path: str = "/api/v1/sites") -> list[str]:
    response = client.get(f"{path}{query}")
    assert response.status_code == 200, response.content
    assert response.json().keys() == {"items", "next"}
    return [item["slug"] for item in response.json()["items"]]


def pages(client: Client, path: str, limit: int) -> list[list[dict[str, Any]]]:
    """All pages, by following `next`."""
    found, cursor = [], ""
    while cursor is not None:
        body = client.get(path, {"limit": limit, **({"cursor": cursor} if cursor else {})}).json()
        found.append(body["items"])
        assert len(found) < 50, "pages without end"
        cursor = body["next"]
    return found


# Pages ------------------------------------------------------------------------------------------------------
@pytest.fixture
def seven(make_provider: Any, make_site: Any) -> list[str]:
    """Seven sites, made in another order than that of their slugs."""
    provider = make_provider("ours")
    names = ["d", "a", "g", "c", "f-1", "b", "f"]
    for name in names:
        make_site(name, provider)
    return ["a", "b", "c", "d", "f", "f-1", "g"]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (6, [6, 1]), (7, [7]), (8, [7])])
def test_pages_follow_one_another_without_gap_or_duplicate(seven, api_client, limit, sizes):
    found = pages(api_client("viewer"), "/api/v1/sites", limit)
    assert [len(page) for page in found] == sizes
    assert [item["slug"] for page in found for item in page] == seven


@pytest.mark.parametrize(("limit", "shown"), [(0, 1), (-5, 1), (1, 1), (2, 2), (5000, 7), (10**30, 7), (-(10**30), 1)])
def test_the_limit_is_clamped_never_refused(seven, api_client, limit, shown):
    assert slugs(api_client("viewer"), f"?limit={limit}") == seven[:shown]


def test_a_thousand_at_most_come_at_once(make_provider, api_client):
    rows = [
        {
            "slug": f"s-{number:04}",
            "name": "S",
            "lat": 1.0,
            "lon": 2.0,
            "address": "203.0.113.1:9100",
            "provider_id": provider_id,
        }
        for provider_id in [make_provider("ours").pk]
        for number in range(1003)
    ]
    create_sites(actor=TEST, rights=everything(), rows=rows)
    client = api_client("viewer")
    assert [len(page) for page in pages(client, "/api/v1/sites", 5000)] == [1000, 3]
    assert len(slugs(client)) == 100


def test_a_limit_that_is_no_number_is_422(seven, api_client):
    for limit in ("ten", "1.5", "1e3", "%00", "0x10"):
        error = assert_error(api_client("viewer").get(f"/api/v1/sites?limit={limit}"), 422, "invalid")
        assert error["details"].keys() == {"limit"}


def test_rows_that_come_or_go_between_two_pages_move_no_others(seven, api_client, make_site):
    client = api_client("viewer")
    first = client.get("/api/v1/sites?limit=3").json()
    make_site("aa", Site.objects.using(OWNER).get(slug="a").provider)
    Site.objects.using(OWNER).filter(slug="c").update(slug="zz")  # even the row that the cursor names
    rest = client.get("/api/v1/sites", {"limit": 9, "cursor": first["next"]}).json()
    assert [item["slug"] for item in rest["items"]] == ["d", "f", "f-1", "g", "zz"]


def packed(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


FORGED = [
    *("x", "====", "%", "not-base64!", "\u00e9", "AAAA", "a" * 10_000, packed("")[:-1] + "*"),
    *(
        packed(value)
        for value in (None, True, 1.5, [], ["a"], {"a": 1}, float("nan"), "a\u0000", "a\n", "\ud800", "x" * 81)
    ),
    base64.urlsafe_b64encode(b"[" * 50_000).decode(),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
]


@pytest.mark.parametrize("path", ["/api/v1/sites", "/api/v1/providers", "/api/v1/sites/a/intervals"])
def test_forged_cursors_are_422(seven, api_client, path):
    client = api_client("viewer")
    of_another_list = packed("a") if path.endswith("intervals") else packed(7)
    huge = packed(10**70)
    for cursor in [*FORGED, of_another_list, huge]:
        error = assert_error(client.get(path, {"cursor": cursor}), 422, "invalid")
        assert error["details"] == {"cursor": "take it from `next`"}


def test_a_cursor_beyond_the_end_is_an_empty_page(seven, api_client):
    client = api_client("viewer")
    assert client.get("/api/v1/sites", {"cursor": packed("zzz")}).json() == {"items": [], "next": None}
    beyond = client.get("/api/v1/sites/a/intervals", {"cursor": packed(2**63 - 1)})
    assert beyond.json() == {"items": [], "next": None}


# Filters ----------------------------------------------------------------------------------------------------
@pytest.fixture
def mixed(make_provider: Any, make_site: Any) -> None:
    """Sites that differ in everything that can be asked for."""
    alpha, beta = make_provider("alpha"), make_provider("beta")
    up = make_site("up", alpha, name="Harbour North", place="Hamburg", region="DACH", ring="canary")
    down = make_site("down", beta, name="Harbour South", place="Oslo", region="Nordics")
    silent = make_site("silent", beta, name="Hill", place="Oslo", region="Nordics")
    make_site("planned", alpha, name="Next", place="Bern", region="DACH", life="planned")
    for _ in range(4):
        record_reports([polled(up, "up"), polled(down, "down"), polled(silent, None)], poller="test")


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["down", "planned", "silent", "up"]),
        ("?state=up", ["up"]),
        ("?state=down", ["down"]),
        ("?state=unknown", ["silent"]),
        ("?reachability=unreachable", ["silent"]),
        ("?reachability=reachable", ["down", "up"]),
        ("?provider=beta", ["down", "silent"]),
        ("?provider=nobody", []),
        ("?region=DACH", ["planned", "up"]),
        ("?ring=canary", ["up"]),
        ("?life=planned", ["planned"]),
        ("?life=active", ["down", "silent", "up"]),
        ("?q=harbour", ["down", "up"]),
        ("?q=HARBOUR%20oslo", ["down"]),
        ("?q=silent", ["silent"]),
        ("?q=ham", ["up"]),
        ("?q=%25", []),
        ("?q=_", []),
        ("?q=harbour&provider=alpha&state=up&region=DACH&ring=canary&life=active&reachability=reachable", ["up"]),
        ("?q=harbour&state=unknown", []),
        ("?state=nonsense", []),
        ("?unknown_filter=1", ["down", "planned", "silent", "up"]),
    ],
)
def test_filters(api_client, query, found):
    assert slugs(api_client("viewer"), query) == found


@pytest.mark.usefixtures("mixed")
def test_filters_go_on_over_pages(api_client):
    client = api_client("viewer")
    first = client.get("/api/v1/sites?region=Nordics&limit=1").json()
    assert [item["slug"] for item in first["items"]] == ["down"]
    second = client.get("/api/v1/sites", {"region": "Nordics", "limit": 1, "cursor": first["next"]}).json()
    assert ([item["slug"] for item in second["items"]], second["next"]) == (["silent"], None)


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize("name", ["q", "state", "reachability", "provider", "region", "ring", "life", "cursor"])
def test_hostile_filters_are_client_errors_or_find_nothing(api_client, name):
    client = api_client("viewer")
    for text in ("%00", "%FF", "x" * 20_000, "'; DROP TABLE kit_cache; --", "%F0%9F%8F%9D", "%ED%A0%80"):
        response = client.get(f"/api/v1/sites?{name}={text}")
        assert response.status_code in {200, 422}
        if response.status_code == 200:
            assert response.json()["items"] == []


@pytest.mark.usefixtures("mixed")
def test_the_summary_counts(api_client):
    assert api_client("viewer").get("/api/v1/summary").json() == {
        "sites": 3,
        "up": 1,
        "degraded": 0,
        "down": 1,
        "unknown": 1,
        "unreachable": 1,
        "planned": 1,
    }


# What they hold ---------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("mixed")
def test_a_site_in_the_list(api_client):
    (item,) = api_client("viewer").get("/api/v1/sites?q=up").json()["items"]
    site = Site.objects.using(OWNER).select_related("state").get(slug="up")
    assert item == {
        "slug": "up",
        "uuid": str(site.uuid),
        "name": "Harbour North",
        "provider": "alpha",
        "place": "Hamburg",
        "country": "DE",
        "time_zone": "Europe/Berlin",
        "lat": 52.5,
        "lon": 13.4,
        "region": "DACH",
        "ring": "canary",
        "labels": {},
        "life": "active",
        "state": "up",
        "reachability": "reachable",
        "compliance": "unknown",
        "since": as_json(site.state.shown_since),
        "last_report_at": as_json(site.state.last_good_at),
        "last_error": "",
        "components_digest": site.state.component_set_id,
    }


def as_json(at: Any) -> str:
    """A time as the API writes it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # type: ignore[no-any-return]


@pytest.mark.usefixtures("mixed")
def test_a_planned_site_has_no_state_yet(api_client):
    (item,) = api_client("viewer").get("/api/v1/sites?life=planned").json()["items"]
    names = ("state", "reachability", "compliance", "since", "last_report_at", "components_digest")
    assert [item[name] for name in names] == ["unknown", "", "unknown", None, None, None]


def test_providers_are_paged_and_hold_slug_and_name(make_provider, api_client):
    for slug in ("c", "a", "b"):
        make_provider(slug, name=f"Provider {slug}", contact="secret number", allowed_networks=["10.0.0.0/8"])
    found = pages(api_client("viewer"), "/api/v1/providers", 2)
    assert found == [
        [{"slug": "a", "name": "Provider a"}, {"slug": "b", "name": "Provider b"}],
        [{"slug": "c", "name": "Provider c"}],
    ]


# Queries ----------------------------------------------------------------------------------------------------
# The token, the memberships of its holder, begin, scope, commit.
EACH_REQUEST = 5


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("/api/v1/sites", 1),
        ("/api/v1/sites?q=site&state=up&provider=ours&limit=2", 1),
        ("/api/v1/providers", 1),
        ("/api/v1/summary", 1),
        ("/api/v1/sites/site-a", 1),
        ("/api/v1/sites/site-a/intervals", 2),
        ("/api/v1/sites/site-a/samples", 3),
    ],
)
@pytest.mark.parametrize("role", ["viewer", "provider_viewer"])
def test_the_number_of_queries_does_not_grow_with_the_rows(make_provider, make_site, api_client, role, path, queries):
    provider = make_provider("ours")
    sites = [make_site("site-a", provider)]
    client = api_client(role, provider=provider if role.startswith("provider") else None)

    def count() -> int:
        record_reports([polled(site) for site in sites], poller="test")
        connections["default"].ensure_connection()
        with CaptureQueriesContext(connections["default"]) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    client.get(path)  # notes the token's use, once a minute
    assert count() == EACH_REQUEST + queries
    sites += [make_site("site-b", provider), make_site("site-c", provider)]
    assert count() == EACH_REQUEST + queries
