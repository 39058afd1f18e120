"""Holds and calendars over the API."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.database import OWNER, rows
from tests.fleet.rollouts.calls import contents, get, post, put, tomorrow
from tests.openapi import assert_error

pytestmark = pytest.mark.usefixtures("database")


# Holds ------------------------------------------------------------------------------------------------------
def test_a_provider_holds_its_own_and_lifts_it(api_client, make_provider, make_site):
    own, foreign = make_provider("own"), make_provider("quagga")
    make_site("mine", own)
    make_site("theirs", foreign, region="Islands-Q")
    client, noc = api_client("provider_operator", provider=own), api_client("operator")
    body = {"reason": "stocktaking", "until": tomorrow()}
    made = post(client, "/holds", {**body, "site": "mine"})
    assert made.status_code == 201, made.content
    held = made.json()
    assert (held["site"], held["provider"], held["active"], held["overridden_by"]) == ("mine", "own", True, 0)
    assert post(client, "/holds", {**body, "provider": "own"}).status_code == 201
    before = contents()
    for where, status in (
        ({"site": "theirs"}, 404),
        ({"provider": "quagga"}, 404),
        ({"region": "Islands-Q"}, 422),
        ({}, 403),
        ({"site": "mine", "provider": "own"}, 422),
        ({"site": ""}, 422),
        ({"site": "mine", "until": "2026-12-24T18:00:00"}, 422),
        ({"site": "mine", "until": (datetime.now(UTC) + timedelta(days=40)).isoformat()}, 422),
        ({"site": "mine", "reason": "x"}, 422),
    ):
        assert post(client, "/holds", {**body, **where}).status_code == status, where
    assert contents() == before
    theirs = post(noc, "/holds", {**body, "provider": "quagga"}).json()
    everybody = post(noc, "/holds", body).json()
    assert [one["id"] for one in get(noc, "/holds")["items"]][:2] == [everybody["id"], theirs["id"]]
    assert theirs["id"] not in [one["id"] for one in get(client, "/holds")["items"]]
    assert_error(post(client, f"/holds/{theirs['id']}/lift", {}), 404, "not_found")
    assert post(client, f"/holds/{held['id']}/lift", {}).json()["active"] is False
    assert_error(post(client, f"/holds/{held['id']}/lift", {}), 409, "conflict")
    assert held["id"] in [one["id"] for one in get(client, "/holds", active="false")["items"]]
    assert held["id"] not in [one["id"] for one in get(client, "/holds", active="true")["items"]]


@pytest.mark.parametrize("role", ["viewer", "provider_viewer", "manager of a region"])
def test_who_may_not_hold_is_refused(api_client, make_provider, make_site, role):
    own = make_provider("own")
    make_site("mine", own, region="DACH")
    client = {
        "viewer": lambda: api_client("viewer"),
        "provider_viewer": lambda: api_client("provider_viewer", provider=own),
        "manager of a region": lambda: api_client("manager", regions=["DACH"]),
    }[role]()
    held = post(api_client("admin"), "/holds", {"reason": "stocktaking", "until": tomorrow()}).json()
    before = contents()
    body = {"reason": "stocktaking", "until": tomorrow()}
    places = ({"provider": "own"}, {}) if role == "manager of a region" else ({"site": "mine"}, {"provider": "own"}, {})
    for where in places:
        assert_error(post(client, "/holds", {**body, **where}), 403, "not_allowed")
    assert post(client, f"/holds/{held['id']}/lift", {}).status_code in {403, 404}
    assert post(client, f"/holds/{held['id']}/override", {"reason": "urgent"}).status_code in {403, 404}
    assert contents() == before


def test_two_managers_override_a_hold(api_client):
    held = post(api_client("operator"), "/holds", {"reason": "stocktaking", "until": tomorrow()}).json()
    one, other = api_client("manager"), api_client("manager")
    path = f"/holds/{held['id']}/override"
    assert_error(post(api_client("operator"), path, {"reason": "it is urgent"}), 403, "not_allowed")
    counts = [post(client, path, {"reason": "it is urgent"}).json()["overridden_by"] for client in (one, one, other)]
    assert counts == [1, 1, 2]


# Calendars --------------------------------------------------------------------------------------------------
def test_a_calendar_is_set_and_read(api_client, make_provider, make_site):
    own = make_provider("own")
    make_site("mine", own)
    admin, path = api_client("admin"), "/providers/own/rollout-calendar"
    empty = {"windows": [], "freezes": [], "changed_by": "", "changed_at": None}
    assert get(admin, path) == empty
    value = {
        "windows": [{"days": [5, 6], "begin": "22:00:00", "end": "04:00:00"}],
        "freezes": [{"begin": "2026-12-20T00:00:00", "end": None, "reason": "Christmas"}],
    }
    assert put(admin, path, value).status_code == 200
    seen = get(admin, path)
    assert {name: seen[name] for name in value} == value
    assert seen["changed_by"]
    theirs = get(api_client("provider_operator", provider=own), path)
    assert ({name: theirs[name] for name in value}, theirs["changed_by"]) == (value, "")
    refused = [api_client("operator"), api_client("manager"), api_client("provider_operator", provider=own)]
    stranger = api_client("provider_operator", provider=make_provider("other"))
    before = contents()
    for client in refused:
        assert_error(put(client, path, {}), 403, "not_allowed")
    assert_error(put(stranger, path, {}), 404, "not_found")
    assert contents() == before


@pytest.mark.parametrize(
    ("value", "place", "sentence"),
    [
        ({"windows": [{"days": [9], "begin": "22:00:00", "end": "04:00:00"}]}, "windows[0].days[0]", "<= 6"),
        ({"windows": [{"days": [1], "begin": "10 p.m.", "end": "04:00:00"}]}, "windows[0].begin", "as 22:00:00"),
        ({"windows": [{"days": [1], "begin": "22:00:00Z", "end": "04:00:00"}]}, "windows[0].begin", "without a zone"),
        ({"freezes": [{"begin": "2026-12-20T00:00:00Z", "end": None}]}, "freezes[0].begin", "without a zone"),
        ({"freezes": [{"begin": "Christmas", "end": None}]}, "freezes[0].begin", "2026-12-24T18:00:00"),
        ({"freezes": [{"begin": "2026-12-20T00:00:00", "end": "2026-12-20T00:00:00"}]}, "freezes[0]", "ends after"),
        ({"freezes": [{"begin": "9999-12-31T00:00:00", "end": None}]}, "freezes[0]", "between the years"),
        ({"holidays": []}, "calendar", "there is no such member: holidays"),
    ],
)
def test_what_is_no_calendar_is_refused_with_its_place(api_client, make_provider, value, place, sentence):
    make_provider("own")
    error = assert_error(put(api_client("admin"), "/providers/own/rollout-calendar", value), 422, "invalid")
    assert list(error["details"]) == [place]
    assert sentence in error["details"][place]
    assert rows("SELECT count(*) FROM rollouts_providercalendar", using=OWNER) == [(0,)]
