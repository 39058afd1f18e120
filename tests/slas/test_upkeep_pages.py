"""Pages of maintenance: what is said before it is sent, who answers, and who sees what."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from slas.models import Window
from slas.services.upkeep import decide_window, request_window
from tests.slas.factories import TEST, make_contract, segment

pytestmark = pytest.mark.usefixtures("plain_static", "database")
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=10)
RULES = {"counts": "excluded", "notice_h": "72", "cap_h": "3", "cap_per": "year"}


def typed(**values: Any) -> dict[str, Any]:
    begins, ends = DAY.replace(hour=22), DAY.replace(hour=22) + timedelta(hours=2)
    fixed = {"title": "UPS batteries", "sites": "north-1 north-2", "zone": "UTC", "do": "send"}
    return fixed | {"begins": f"{begins:%Y-%m-%dT%H:%M}", "ends": f"{ends:%Y-%m-%dT%H:%M}"} | values


@pytest.fixture
def north(make_provider: Any, make_site: Any) -> Any:
    """A provider with two sites under a contract that wants 72 h of notice, and 3 h a year at most; another's site."""
    provider = make_provider("north", name="North Hosting")
    for number in (1, 2):
        make_site(f"north-{number}", provider, time_zone="Europe/Madrid")
    make_site("quagga-site", make_provider("quagga", name="Quagga Hosting"), name="Quagga site")
    make_contract(segment(provider, maintenance=RULES))
    return provider


def windows() -> list[Window]:
    with scope(TEST):
        return list(Window.objects.order_by("id"))


def asked(person: Any, sites: list[str], *, hours: float = 2, begins: datetime = DAY) -> Window:
    actor, rights = access_of(person)
    return request_window(
        actor=actor, rights=rights, sites=sites, title="Cable", begins=begins, ends=begins + timedelta(hours=hours)
    )


def test_a_provider_asks_and_a_manager_approves(north, signed_in):
    provider, manager = signed_in("provider_operator", provider=north), signed_in("manager")
    response = provider.post("/slas/maintenance/new/", typed())
    (row,) = windows()
    assert (response.status_code, response["Location"]) == (302, f"/slas/maintenance/{row.pk}/")
    assert (row.side, row.state, row.begins.hour) == ("provider", "requested", 22)
    page = manager.get(f"/slas/maintenance/{row.pk}/").content.decode()
    assert "It waits for your answer" in page
    assert "0 s of 3 h" not in page  # nothing is used yet, and said so
    assert "none of 3 h a year are used" in page
    assert b"It waits for your answer" not in provider.get(f"/slas/maintenance/{row.pk}/").content
    assert provider.post(f"/slas/maintenance/{row.pk}/approve/").status_code == 403
    assert manager.post(f"/slas/maintenance/{row.pk}/approve/").status_code == 302
    assert windows()[0].state == "approved"


def test_what_it_would_mean_is_said_before_it_is_sent(north, signed_in, make_person):
    actor, rights = access_of(make_person("manager"))
    first = asked(make_person("provider_operator", provider=north), ["north-1"])
    decide_window(actor=actor, rights=rights, window=first, approve=True)
    client = signed_in("operator")
    response = client.post("/slas/maintenance/new/", typed(do="look", title=""), headers={"HX-Request": "true"})
    text = response.content.decode()
    assert "2 h 00 min of 3 h a year are used" in text
    assert "1 h 00 min over the cap" in text
    assert "It counts only if" not in text
    soon = datetime.now(UTC) + timedelta(hours=5)
    short = typed(do="look", begins=f"{soon:%Y-%m-%dT%H:%M}", ends=f"{soon + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    assert (
        "It counts only if whoever approves it says why."
        in client.post("/slas/maintenance/new/", short).content.decode()
    )
    assert len(windows()) == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"begins": "2020-01-01T00:00"}, "begins"),
        ({"ends": "2020-01-01T00:00"}, "ends"),
        ({"begins": "soon"}, "begins"),
        ({"title": ""}, "title"),
        ({"sites": ""}, "sites"),
        ({"sites": "north-1", "provider": "north"}, "sites"),
        ({"sites": "no-such"}, "sites"),
        ({"sites": "north-1 quagga-site"}, "sites"),
        ({"zone": "Mars/Base"}, "zone"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_kept(north, signed_in, values, field):
    response = signed_in("operator").post("/slas/maintenance/new/", typed(**values))
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert windows() == []


def test_a_late_approval_and_a_refusal_want_a_reason(north, signed_in, make_person):
    row = asked(
        make_person("provider_operator", provider=north), ["north-1"], begins=datetime.now(UTC) + timedelta(hours=5)
    )
    client = signed_in("manager")
    for verb in ("approve", "refuse"):
        response = client.post(f"/slas/maintenance/{row.pk}/{verb}/")
        assert (response.status_code, b"Say why." in response.content) == (422, True), verb
    assert windows()[0].state == "requested"
    assert client.post(f"/slas/maintenance/{row.pk}/approve/", {"reason": "the UPS burns"}).status_code == 302
    assert windows()[0].decided_reason == "the UPS burns"


def test_only_the_side_that_asked_cancels(north, signed_in, make_person):
    row = asked(make_person("operator"), ["north-1"])
    for who in (signed_in("provider_operator", provider=north), signed_in("viewer")):
        assert who.post(f"/slas/maintenance/{row.pk}/cancel/", {"reason": "not now"}).status_code == 403
    client = signed_in("operator")
    assert client.post(f"/slas/maintenance/{row.pk}/cancel/", {"reason": ""}).status_code == 422
    assert client.post(f"/slas/maintenance/{row.pk}/cancel/", {"reason": "not now"}).status_code == 302
    assert windows()[0].state == "cancelled"


@pytest.mark.parametrize("role", ["viewer", "provider_viewer"])
def test_who_only_looks_asks_for_nothing_and_answers_nothing(north, signed_in, make_person, role):
    row = asked(make_person("operator"), ["north-1"])
    client = signed_in(role, **({"provider": north} if role.startswith("provider") else {}))
    assert client.get("/slas/maintenance/new/").status_code == 403
    assert client.post("/slas/maintenance/new/", typed()).status_code == 403
    for verb in ("approve", "refuse", "cancel"):
        assert client.post(f"/slas/maintenance/{row.pk}/{verb}/", {"reason": "because"}).status_code == 403
    assert client.get(f"/slas/maintenance/{row.pk}/").status_code == 200
    assert [one.state for one in windows()] == ["requested"]


def test_another_providers_window_is_not_there(north, signed_in, make_person):
    row = asked(make_person("operator"), ["quagga-site"])
    for client in (signed_in("provider_operator", provider=north), signed_in("operator", regions=["Elsewhere"])):
        for path in ("", "approve/", "refuse/", "cancel/"):
            send = client.post if path else client.get
            found = [send(f"/slas/maintenance/{number}/{path}") for number in (row.pk, 999)]
            assert [one.status_code for one in found] == [404, 404]
            assert found[0].content == found[1].content
        assert b"Cable" not in client.get("/slas/maintenance/", {"month": f"{DAY:%Y-%m}"}).content


def test_the_month_shows_each_day_and_the_sites_own_clocks(north, signed_in, make_person):
    row = asked(make_person("operator"), ["north-1", "north-2"], hours=30)
    client = signed_in("viewer")
    response = client.get("/slas/maintenance/", {"month": f"{DAY:%Y-%m}"})
    days = [day for week in response.context["weeks"] for day in week if day.rows and not day.is_other]
    assert {day.date for day in days} <= {DAY.date(), (DAY + timedelta(days=1)).date()}
    assert days[0].rows[0][1] == "00:00"
    assert "Europe/Madrid" in response.content.decode()
    assert [one.window.pk for one in response.context["waiting"]] == [row.pk]
    for query in ({"month": "2026-13"}, {"month": "0000-01"}, {"month": "9999-12"}, {"state": "odd", "provider": "x"}):
        assert client.get("/slas/maintenance/", query).status_code == 200


def test_sites_come_along_from_the_list_the_map_and_a_site(north, signed_in):
    client: Client = signed_in("operator")
    from sites.models import Site

    with scope(TEST):
        numbers = list(Site.objects.filter(provider=north).values_list("pk", flat=True))
    for sent in (
        {"pick": numbers, "do": "begin"},
        {"from": "sites", "query": f"provider={north.pk}", "do": "begin"},
        {"from": "map", "query": f"provider={north.pk}&q=north", "do": "begin"},
    ):
        form = client.post("/slas/maintenance/new/", sent).context["form"]
        assert (form.initial["sites"], form.initial["zone"]) == ("north-1 north-2", "Europe/Madrid")
    assert client.get("/slas/maintenance/new/?sites=north-2").context["form"].initial["sites"] == "north-2"


# The API ----------------------------------------------------------------------------------------------------
def test_the_api_asks_once_and_answers(north, api_client):
    body = {
        "sites": ["north-1"],
        "title": "UPS",
        "begins": DAY.isoformat(),
        "ends": (DAY + timedelta(hours=4)).isoformat(),
    }
    provider, manager = api_client("provider_operator", provider=north), api_client("manager")
    sent: dict[str, Any] = {"content_type": "application/json", "headers": {"Idempotency-Key": "k"}}
    first, again = (provider.post("/api/v1/maintenance", body, **sent) for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    made = first.json()
    assert (made["state"], made["side"], made["sites"], made["provider"]) == (
        "requested",
        "provider",
        ["north-1"],
        "north",
    )
    assert [(one["cap_h"], one["used_ms"], one["excess_ms"]) for one in made["effects"]] == [(3.0, 0, 3_600_000)]
    path = f"/api/v1/maintenance/{made['id']}"
    kind = {"content_type": "application/json"}
    assert provider.post(f"{path}/approve", {}, **kind).status_code == 403
    assert manager.post(f"{path}/approve", {}, **kind).json()["state"] == "approved"
    assert manager.post(f"{path}/refuse", {"reason": "no"}, **kind).status_code in {409, 422}
    assert provider.post(f"{path}/cancel", {"reason": "not now"}, **kind).json()["state"] == "cancelled"
    assert [one["id"] for one in manager.get("/api/v1/maintenance?state=cancelled").json()["items"]] == [made["id"]]
    assert api_client("viewer").post("/api/v1/maintenance", body, **kind).status_code == 403


def test_another_providers_window_is_not_there_for_the_api_either(north, api_client, make_person):
    row = asked(make_person("operator"), ["quagga-site"])
    client = api_client("provider_operator", provider=north)
    assert client.get("/api/v1/maintenance").json() == {"items": [], "next": None}
    for path in ("", "/approve", "/refuse", "/cancel"):
        send = client.post if path else client.get
        body: dict[str, Any] = {"data": {"reason": "because"}, "content_type": "application/json"} if path else {}
        found = [send(f"/api/v1/maintenance/{number}{path}", **body) for number in (row.pk, 999)]
        assert [one.status_code for one in found] == [404, 404]
        assert found[0].content == found[1].content
