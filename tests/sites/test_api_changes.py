"""Changes through the API: what is made, what is refused, and that a refusal changes nothing."""

import json
from typing import Any

import pytest

from fleet.kit.models import AuditEntry
from sites.models import PollSchedule, Site
from tests.database import OWNER, rows
from tests.openapi import assert_error

NEW = {
    "slug": "harbour",
    "name": "Harbour",
    "provider": "ours",
    "lat": 53.55,
    "lon": 9.99,
    "address": "203.0.113.1:9100",
    "place": "Hamburg",
    "country": "DE",
    "time_zone": "Europe/Berlin",
    "region": "DACH",
    "ring": "canary",
    "labels": {"tier": "1"},
    "poll_interval_s": 60,
    "contacts": "Ada\n+49 40 1",
    "notes": "Behind the café.\tRing twice.",
    "life": "planned",
}


@pytest.fixture
def ours(make_provider: Any) -> Any:
    return make_provider("ours", name="Ours")


def contents() -> list[Any]:
    """All that a change could change, the audit included."""
    tables = (
        *("edge_sites_site", "edge_sites_sitetenure", "edge_sites_sitestate", "edge_sites_pollschedule"),
        *("edge_sites_stateinterval", "kit_auditentry"),
    )
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


def post(client: Any, body: Any, path: str = "/api/v1/sites") -> Any:
    return client.post(path, data=body, content_type="application/json")


def patch(client: Any, slug: str, body: Any) -> Any:
    return client.patch(f"/api/v1/sites/{slug}", data=body, content_type="application/json")


def audit() -> list[tuple[Any, ...]]:
    """Audit rows of sites, oldest first: action, object, before, after."""
    found = AuditEntry.objects.using(OWNER).filter(object_type="site").order_by("id")
    return list(found.values_list("action", "object_name", "before", "after"))


# Create -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("life", ["planned", "active"])
def test_a_site_is_made_as_asked(ours, api_client, life):
    response = post(api_client("operator"), {**NEW, "life": life})
    assert response.status_code == 201, response.content
    body = response.json()
    assert {name: body[name] for name in NEW} == {**NEW, "life": life}
    assert (body["state"], body["reachability"], body["compliance"]) == ("unknown", "", "unknown")
    site = Site.objects.using(OWNER).get()
    assert (site.slug, site.life, str(site.uuid)) == ("harbour", life, body["uuid"])
    assert PollSchedule.objects.using(OWNER).filter(site=site).exists() == (life == "active")


def test_making_a_site_is_audited_with_who_and_from_where(ours, api_client):
    client = api_client("operator", username="ada")
    response = post(client, NEW)
    (entry,) = AuditEntry.objects.using(OWNER).filter(object_type="site")
    site = Site.objects.using(OWNER).get()
    assert (entry.action, entry.actor, entry.address) == ("site.create", "ada", "127.0.0.1")
    assert (entry.object_id, entry.object_name, entry.provider_id) == (str(site.pk), "Harbour", ours.pk)
    assert (entry.before, entry.after["slug"], entry.after["labels"]) == (None, "harbour", {"tier": "1"})
    assert entry.request_id == response["X-Request-Id"]


def test_what_is_left_out_has_its_default(ours, api_client):
    needed = {name: NEW[name] for name in ("slug", "name", "provider", "lat", "lon", "address")}
    body = post(api_client("operator"), needed).json()
    assert (body["time_zone"], body["ring"], body["poll_interval_s"], body["life"]) == ("UTC", "stable", 30, "planned")
    assert (body["labels"], body["notes"]) == ({}, "")


@pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
def test_other_roles_make_no_site(ours, api_client, role):
    client = api_client(role, provider=ours if role.startswith("provider") else None)
    before = contents()
    assert_error(post(client, NEW), 403, "not_allowed")
    assert contents() == before


@pytest.mark.parametrize("limits", [{"regions": ["Nordics"]}, {"labels": {"tier": "2"}}])
def test_an_operator_makes_no_site_outside_its_limits(ours, api_client, limits):
    client = api_client("operator", **limits)
    before = contents()
    response = post(client, NEW)
    assert response.status_code in {403, 404}
    assert_error(response, response.status_code, "not_allowed" if response.status_code == 403 else "not_found")
    assert contents() == before


BAD: list[tuple[str, Any]] = [
    *(("lat", value) for value in (90.0001, -90.0001, 1e308, "north", None, [], {}, "91")),
    *(("lon", value) for value in (180.0001, -180.0001, 1e400, "east")),
    *(
        ("slug", value)
        for value in ("", "Upper", "with space", "a_b", "-a", "a-", "a--b", "ä", "a/b", "a\n", "x" * 65, 7)
    ),
    *(("name", value) for value in ("a\nb", "a\u0000b", "\u001b[31m", "x" * 121, "\u007f", None, 5, "")),
    *(("place", value) for value in ("a\u0000", "x" * 121)),
    *(("country", value) for value in ("de", "DEU", "D1")),
    *(("time_zone", value) for value in ("Mars/Base", "", "../../etc/passwd")),
    *(("region", value) for value in ("a\rb", "x" * 65)),
    *(("ring", value) for value in ("Two Words", "", "x" * 33)),
    *(("labels", value) for value in ({"": "x"}, {"a b": "x"}, {"a": 1}, {"a": "x\n"}, [], {"a": "x" * 121}, "a=b")),
    ("labels", {f"k{number}": "v" for number in range(33)}),
    *(("poll_interval_s", value) for value in (0, -1, 3601, 10**12, 1.5, "often")),
    *(
        ("address", value)
        for value in ("", "host", "host:0", "host:65536", "http://host:1", "a b:1", "[::1:9", "x" * 300)
    ),
    *(("contacts", value) for value in ("a\u0000b", "\u001b[2J", "x" * 4001)),
    *(("notes", value) for value in ("a\u0000b", "\u0008", "x" * 20_001)),
    *(("life", value) for value in ("retired", "", "zombie", "ACTIVE")),
]


FIELDS = sorted({field for field, _ in BAD})


@pytest.mark.parametrize("field", FIELDS)
def test_values_that_cannot_be_taken_are_422_and_name_the_field(ours, api_client, field):
    client = api_client("operator")
    before = contents()
    for value in (value for name, value in BAD if name == field):
        error = assert_error(post(client, json.dumps({**NEW, field: value})), 422, "invalid")
        assert {name.split(".")[0] for name in error["details"]} == {field}, value
    assert contents() == before


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(ours, api_client, literal):
    client = api_client("operator")
    before = contents()
    text = json.dumps(NEW).replace("53.55", literal)
    response = post(client, text)
    assert response.status_code in {400, 422}
    assert contents() == before


def test_lone_surrogates_are_refused(ours, api_client):
    client = api_client("operator")
    before = contents()
    for field in ("name", "notes", "slug", "provider", "address"):
        assert_error(post(client, json.dumps({**NEW, field: "a\ud800b"})), 422, "invalid")
    assert contents() == before


def test_a_slug_is_taken_whoever_has_it(ours, make_provider, make_site, api_client):
    make_site("own-site", ours)
    make_site("their-site", make_provider("theirs"))
    client = api_client("operator", provider=ours)
    before = contents()
    answers = []
    for slug in ("own-site", "their-site"):
        error = assert_error(post(client, {**NEW, "slug": slug}), 422, "invalid")
        answers.append(error)
    # One and the same answer: a taken slug says nothing about whose it is.
    assert answers[0] == answers[1]
    assert answers[0]["details"] == {"slug": "This slug is taken."}
    assert contents() == before


@pytest.mark.parametrize("provider", ["nobody", "theirs", "", "OURS", "1"])
def test_a_foreign_provider_is_as_unknown_as_none(ours, make_provider, api_client, provider):
    make_provider("theirs")
    client = api_client("operator", provider=ours)
    before = contents()
    assert_error(post(client, {**NEW, "provider": provider}), 404, "not_found")
    assert contents() == before


# Change -----------------------------------------------------------------------------------------------------
@pytest.fixture
def harbour(ours: Any, make_site: Any) -> Site:
    values = {name: value for name, value in NEW.items() if name not in ("slug", "provider", "life")}
    return make_site("harbour", ours, life="active", **values)


CHANGES = [
    ("name", "Harbour 2"),
    ("slug", "harbour-2"),
    ("lat", -1.5),
    ("lon", 100.25),
    ("address", "203.0.113.2:9101"),
    ("place", "Kiel"),
    ("country", "DK"),
    ("time_zone", "Europe/Copenhagen"),
    ("region", "Nordics"),
    ("ring", "stable"),
    ("labels", {"tier": "2"}),
    ("poll_interval_s", 5),
    ("contacts", "Bob"),
    ("notes", "none"),
]


@pytest.mark.parametrize(("field", "value"), CHANGES, ids=lambda value: str(value)[:20])
def test_one_field_is_changed_and_the_others_stay(harbour, api_client, field, value):
    response = patch(api_client("operator"), "harbour", {field: value})
    assert response.status_code == 200, response.content
    expected = {**NEW, "life": "active", field: value}
    assert {name: response.json()[name] for name in NEW} == expected
    assert audit()[-1] == ("site.change", response.json()["name"], {field: NEW[field]}, {field: value})


def test_nothing_and_nulls_change_nothing(harbour, api_client):
    client = api_client("operator")
    before = contents()
    for body in ({}, {"name": None, "lat": None, "life": None}, {"no_such_field": 1}):
        assert patch(client, "harbour", body).status_code == 200
    assert contents() == before


def test_life_is_changed_along_the_table(harbour, api_client):
    client = api_client("operator")
    assert patch(client, "harbour", {"life": "retired"}).json()["life"] == "retired"
    assert not PollSchedule.objects.using(OWNER).exists()
    assert patch(client, "harbour", {"life": "active"}).json()["life"] == "active"
    assert PollSchedule.objects.using(OWNER).count() == 1
    assert_error(patch(client, "harbour", {"life": "planned"}), 409, "conflict")
    assert [row[0] for row in audit()[1:]] == ["site.retired", "site.active"]


def test_a_change_is_whole_or_not_at_all(harbour, api_client):
    client = api_client("operator")
    before = contents()
    assert_error(patch(client, "harbour", {"name": "Half", "life": "planned"}), 409, "conflict")
    assert contents() == before


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "life"])
def test_changes_that_cannot_be_taken_are_422_and_change_nothing(harbour, api_client, field):
    client = api_client("operator")
    before = contents()
    for value in (value for name, value in BAD if name == field and value is not None):
        error = assert_error(patch(client, "harbour", json.dumps({field: value})), 422, "invalid")
        assert {name.split(".")[0] for name in error["details"]} == {field}, value
    assert contents() == before


def test_a_slug_that_is_taken_cannot_be_changed_to(harbour, make_site, make_provider, api_client):
    make_site("their-site", make_provider("theirs"))
    client = api_client("operator")
    before = contents()
    error = assert_error(patch(client, "harbour", {"slug": "their-site"}), 422, "invalid")
    assert error["details"] == {"slug": "This slug is taken."}
    assert contents() == before


@pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
def test_other_roles_change_nothing(harbour, ours, api_client, role):
    client = api_client(role, provider=ours if role.startswith("provider") else None)
    before = contents()
    assert_error(patch(client, "harbour", {"name": "Mine"}), 403, "not_allowed")
    assert_error(patch(client, "harbour", {"life": "retired"}), 403, "not_allowed")
    assert_error(post(client, {}, "/api/v1/sites/harbour/retire"), 403, "not_allowed")
    if role != "provider_operator":
        assert_error(post(client, {}, "/api/v1/sites/harbour/poll"), 403, "not_allowed")
    assert contents() == before


def test_a_hand_over_to_another_provider(harbour, make_provider, api_client):
    make_provider("theirs")
    body = patch(api_client("operator"), "harbour", {"provider": "theirs"}).json()
    assert body["provider"] == "theirs"
    assert rows("SELECT count(*), count(valid_to) FROM edge_sites_sitetenure", using=OWNER) == [(2, 1)]


def test_an_operator_of_a_provider_hands_nothing_over(harbour, ours, make_provider, api_client):
    make_provider("theirs")
    client = api_client("operator", provider=ours)
    before = contents()
    assert_error(patch(client, "harbour", {"provider": "theirs"}), 404, "not_found")
    assert contents() == before


# Retire, poll -----------------------------------------------------------------------------------------------
def test_a_site_is_retired_once(harbour, api_client):
    client = api_client("operator")
    response = post(client, {}, "/api/v1/sites/harbour/retire")
    assert (response.status_code, response.json()["life"]) == (200, "retired")
    before = contents()
    assert_error(post(client, {}, "/api/v1/sites/harbour/retire"), 409, "conflict")
    assert contents() == before


@pytest.mark.parametrize("role", ["operator", "admin", "provider_operator"])
def test_a_site_is_polled_at_once(harbour, ours, api_client, role):
    client = api_client(role, provider=ours if role.startswith("provider") else None)
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now() + interval '1 hour'", using=OWNER)
    response = post(client, {}, "/api/v1/sites/harbour/poll")
    assert (response.status_code, response.content) == (202, b"")
    assert rows("SELECT next_poll_at <= now() FROM edge_sites_pollschedule", using=OWNER) == [(True,)]
    assert audit()[-1][:2] == ("site.poll_now", "Harbour")


def test_only_active_sites_are_polled(harbour, api_client):
    client = api_client("operator")
    post(client, {}, "/api/v1/sites/harbour/retire")
    before = contents()
    assert_error(post(client, {}, "/api/v1/sites/harbour/poll"), 409, "conflict")
    assert contents() == before


@pytest.mark.parametrize("call", ["get", "patch", "retire", "poll"])
def test_a_site_that_does_not_exist_is_404(ours, api_client, call):
    client = api_client("admin")
    path = "/api/v1/sites/nothing"
    calls = {
        "get": lambda: client.get(path),
        "patch": lambda: patch(client, "nothing", {"name": "x"}),
        "retire": lambda: post(client, {}, f"{path}/retire"),
        "poll": lambda: post(client, {}, f"{path}/poll"),
    }
    assert_error(calls[call](), 404, "not_found")
