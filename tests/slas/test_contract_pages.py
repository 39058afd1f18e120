"""Pages and API of contracts: written in the form or as JSON, every fault at its field, seen by whom it is for."""

import json
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from slas.models import Contract, ContractVersion, Segment
from slas.present.contracts import promises_of
from slas.present.editor import Editor, capped_words, editor_of
from slas.present.editor_reading import agreement_in
from slas.selectors.contracts import version_as_of, written
from slas.services.scorecards import keep_scorecards
from tests.slas.factories import TEST, agreement, make_contract, objective, segment, states, tenures
from tests.slas.test_scorecards import BEGIN, END

pytestmark = pytest.mark.usefixtures("plain_static", "database")
JSON = {"content_type": "application/json"}
FULL = segment(
    "north",
    begins="2026-01-01T00:00",
    objectives=[
        objective(credits={"tiers": [{"below": "99.5", "credit": "5"}, {"below": "98", "credit": "25"}], "cap": "20"}),
        {"measure": "restoration", "figure": "mttr_h", "limit": "4", "burden": "open"},
        objective(measure="reachability", target="95", scope="share_of_sites", share="90", burn=["10", "6", "3", "1"]),
        objective(measure="version_sync", target="99", limit="48"),
    ],
    maintenance={"counts": "counts_as_up", "notice_h": "72", "cap_h": "8", "cap_per": "quarter"},
    excluded_causes=["workload"],
    includes_link=True,
    freezes=[{"first": "2026-12-20", "last": "2027-01-06", "name": "Christmas to Epiphany"}],
    calendar={
        "timezone": "site",
        "weekly": {"mon": [["09:00", "12:00"], ["13:00", "17:00"]], "sun": [["00:00", "24:00"]]},
        "holidays": {"country": "DE", "subdivision": "BY"},
        "closed": ["2026-12-24"],
    },
)

# The form writes down what holds anyway.
WHOLE = [{"scope": "each_site", "degraded": "up"} | one for one in FULL["objectives"]]


def posted(editor: Editor) -> dict[str, str]:
    """The form as a browser would send it."""
    return {box.name: box.value for box in editor.boxes() if box.kind != "check" or box.value}


def form(value: dict[str, Any], **values: Any) -> dict[str, Any]:
    about = {"name": "Shops", "slug": "shops", "reason": "agreed in June", "mode": "form", "do": "save"}
    return about | posted(editor_of(value, [])) | values


def _typing(body: dict[str, Any]) -> dict[str, Any]:
    """As htmx sends it while somebody types: no button was pressed."""
    return {name: value for name, value in body.items() if name != "do"}


@pytest.fixture
def north(make_provider: Any) -> Any:
    """A provider, and another one."""
    make_provider("quagga", name="Quagga Hosting")
    return make_provider("north", name="North Hosting")


def kept() -> list[Any]:
    with scope(TEST):
        return [written(one) for one in ContractVersion.objects.prefetch_related("segments__provider").order_by("id")]


def test_a_contract_goes_through_the_form_and_stays_what_it_was(north, signed_in):
    client = signed_in("manager")
    response = client.post("/slas/contracts/new/", form(agreement(FULL, zone="Europe/Berlin", labels={"kind": "shop"})))
    assert (response.status_code, response["Location"]) == (302, "/slas/contracts/shops/")
    (first,) = kept()
    again = client.get("/slas/contracts/shops/edit/").context["editor"]
    assert agreement_in(posted(again))["segments"][0]["objectives"] == WHOLE
    unchanged = client.post(
        "/slas/contracts/shops/edit/", posted(again) | {"do": "save", "reason": "again", "expect": "1"}
    )
    assert (unchanged.status_code, len(kept())) == (422, 1)
    assert b"Nothing differs" in unchanged.content
    assert first["segments"][0]["calendar"] == FULL["calendar"]
    assert first["segments"][0]["maintenance"] == FULL["maintenance"]


def test_what_was_written_for_another_measure_is_not_meant_any_more(north, signed_in):
    """A promise with credits and alerts becomes one that can have neither: the form says no fault of what it hides."""
    promise = objective(credits={"tiers": [{"below": "99", "credit": "5"}]}, burn=["10", "5", "2", "1"])
    value = agreement(segment("north", begins="2030-01-01T00:00", objectives=[promise]))
    new = {"measure": "latency", "limit": "80", "percentile": "95"}
    changed = {f"segments.0.objectives.0.{name}": text for name, text in new.items()}
    response = signed_in("manager").post("/slas/contracts/new/", form(value, **changed))
    assert response.status_code == 302
    (made,) = kept()[0]["segments"][0]["objectives"]
    assert (made["measure"], made["limit"]) == ("latency", "80")
    assert not {"target", "credits", "burn"} & made.keys()


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"segments.0.objectives.0.target": "100"}, "segments.0.objectives.0.target", "allows no failure at all"),
        ({"segments.0.provider": "nobody"}, "segments.0.provider", "There is no such provider."),
        ({"segments.0.begins": ""}, "segments.0.begins", "Say when it begins."),
        ({"segments.0.currency": "XXQ"}, "segments.0.currency", "is no currency"),
        ({"segments.0.fee": "lots"}, "segments.0.fee", "Write a number"),
        ({"zone": "Mars/Base"}, "zone", "zone"),
        ({"segments.0.calendar.weekly.mon": "22:00-04:00"}, "segments.0.calendar.weekly.mon", "24:00"),
        (
            {"segments.0.objectives.0.credits.tiers": "99.9: 5"},
            "segments.0.objectives.0.credits.tiers",
            "above the target",
        ),
        ({"segments.0.maintenance.cap_h": "-1"}, "segments.0.maintenance.cap_h", "Write a number"),
        ({"segments.0.objectives.2.burn": "30, 6, 3, 1"}, "segments.0.objectives.2.burn", "can never fire"),
    ],
)
def test_every_fault_stands_at_its_field_and_nothing_is_kept(north, signed_in, change, field, words):
    client = signed_in("manager")
    response = client.post("/slas/contracts/new/", form(agreement(FULL), **change))
    assert response.status_code == 422
    assert {box.name for box in response.context["editor"].boxes() if box.error} == {field}
    assert words in next(box.error for box in response.context["editor"].boxes() if box.error)
    live = client.post("/slas/contracts/new/", _typing(form(agreement(FULL), **change)), headers={"HX-Request": "true"})
    assert f'id="fault-{field.replace(".", "-")}" hx-swap-oob="true"' in live.content.decode()
    assert kept() == []


def test_overlaps_and_gaps_are_said_at_the_later_segment(north, signed_in):
    first = segment("north", begins="2026-01-01T00:00", ends="2026-02-01T00:00")
    value = agreement(first, segment("north", begins="2026-03-01T00:00"))
    response = signed_in("manager").post("/slas/contracts/new/", form(value))
    assert [box.name for box in response.context["editor"].boxes() if box.error] == ["segments.1.gap_reason"]


def test_segments_and_promises_come_and_go_without_a_script(north, signed_in):
    client = signed_in("manager")
    value = agreement(FULL)

    def shape(do: str) -> list[int]:
        response = client.post("/slas/contracts/new/", form(value, do=do))
        assert response.status_code == 200
        return [len(part.parts) for part in response.context["editor"].segments]

    assert shape("add:segments") == [4, 1]
    assert shape("add:segments.0.objectives") == [5]
    assert shape("drop:segments.0.objectives.1") == [3]
    assert shape("drop:segments.0") == []
    for odd in ("drop:segments.9", "drop:segments.0.objectives.9", "add:segments.9.objectives", "drop:x", "odd", ""):
        assert client.post("/slas/contracts/new/", form(value, do=odd)).status_code == 200


def test_json_is_another_way_to_write_the_same(north, signed_in):
    client = signed_in("manager")
    shown = client.post("/slas/contracts/new/", form(agreement(FULL), do="json"))
    text = shown.context["text"]
    assert json.loads(text)["segments"][0]["objectives"] == WHOLE
    body = {"name": "Shops", "slug": "shops", "reason": "agreed", "mode": "json", "text": text}
    assert client.post("/slas/contracts/new/", body | {"do": "form"}).context["editor"].segments[0].parts
    for odd in ("{", "[]", "1", '{"segments": 1, "zone": []}', "[" * 5000, '{"segments": [1, {"objectives": 3}]}'):
        assert client.post("/slas/contracts/new/", body | {"do": "save", "text": odd}).status_code == 422, odd[:20]
    assert kept() == []
    assert client.post("/slas/contracts/new/", body | {"do": "save"}).status_code == 302


def test_what_it_would_have_meant_last_month_and_nothing_is_kept_of_it(north, make_site, signed_in):
    site = make_site("north-1", north)
    tenures(site, (north, BEGIN, None))
    third = BEGIN + (END - BEGIN) / 50
    states(site, "availability", (BEGIN, "down"), (third, "up"))
    states(site, "reachability", (BEGIN, "reachable"))
    promise = objective(credits={"tiers": [{"below": "99.5", "credit": "5"}]}, scope="pooled")
    value = agreement(segment("north", begins="2030-01-01T00:00", objectives=[promise]))
    response = signed_in("manager").post("/slas/contracts/new/", form(value, do="preview"))
    (line,) = response.context["lines"]
    assert [line[name] for name in ("measured", "verdict", "credit", "provider")] == [
        "98.00",
        "MISSED",
        "60.00",
        "North Hosting",
    ]
    with scope(TEST):
        assert (Contract.objects.count(), Segment.objects.count()) == (0, 0)
    assert keep_scorecards() == 0


def test_alerts_that_could_never_fire_are_said_to_be_capped():
    assert "capped to 10" in capped_words("90")
    assert capped_words("99.5") == capped_words("") == capped_words("x") == capped_words("100") == ""


def test_the_page_says_what_was_promised_and_what_a_version_changed(north, signed_in):
    make_contract(FULL)
    client = signed_in("manager")
    easier = agreement(FULL | {"fee": "900"})
    body = posted(editor_of(easier, [])) | {"do": "save", "reason": "cheaper", "expect": "1"}
    assert client.post("/slas/contracts/shops/edit/", body).status_code == 302
    text = client.get("/slas/contracts/shops/").content.decode()
    for words in ("at least 99.5 %", "cheaper", "up to 8 h a quarter with 72 h of notice", "public holidays of DE-BY"):
        assert words in text, words
    assert "09:00 to 12:00" in text
    response = client.get("/slas/contracts/shops/?version=2&before=1")
    assert response.context["changes"] == [("segments.1.fee", "1200", "900")]
    for query in ("?version=9", "?before=x"):
        assert client.get(f"/slas/contracts/shops/{query}").status_code == 404
    stale = client.post("/slas/contracts/shops/edit/", body)
    assert (stale.status_code, b"Somebody else changed it" in stale.content) == (422, True)


@pytest.mark.parametrize("role", ["viewer", "operator", "provider_operator", "provider_viewer"])
def test_who_may_not_change_contracts_changes_none(north, signed_in, api_client, role):
    make_contract(segment("north"), segment("quagga"))
    membership = {"provider": north} if role.startswith("provider") else {}
    client, api = signed_in(role, **membership), api_client(role, **membership)
    for path in ("new/", "shops/edit/"):
        assert client.get(f"/slas/contracts/{path}").status_code == 403
        for do in ("save", "check", "preview"):
            assert client.post(f"/slas/contracts/{path}", form(agreement(FULL), do=do)).status_code == 403
    said = {"agreement": agreement(segment("north")), "reason": "because", "expect": 1, "slug": "x", "name": "X"}
    for path in ("", "/validate", "/preview", "/shops/versions"):
        assert api.post(f"/api/v1/contracts{path}", said, **JSON).status_code == 403
    page = client.get("/slas/contracts/shops/")
    assert page.status_code == 200
    if membership:
        assert b"Quagga" not in page.content
        assert b"quagga" not in api.get("/api/v1/contracts/shops").content
    assert len(kept()) == 1


def test_a_contract_of_others_is_not_there(north, signed_in, api_client):
    make_contract(segment("quagga"))
    client, api = signed_in("provider_viewer", provider=north), api_client("provider_viewer", provider=north)
    assert client.get("/slas/contracts/shops/").content == client.get("/slas/contracts/nobody/").content
    assert client.get("/slas/contracts/shops/").status_code == 404
    assert b"Shops" not in client.get("/slas/contracts/").content
    assert api.get("/api/v1/contracts").json()["items"] == []
    assert api.get("/api/v1/contracts/shops/versions/1").status_code == 404


def test_the_api_makes_checks_and_changes_a_contract(north, api_client):
    api = api_client("manager")
    body = {"slug": "shops", "name": "Shops", "reason": "agreed", "agreement": agreement(FULL)}
    sent: dict[str, Any] = JSON | {"headers": {"Idempotency-Key": "k"}}
    first, again = (api.post("/api/v1/contracts", body, **sent) for _ in range(2))
    assert (first.status_code, first.json()) == (201, again.json())
    wrong = agreement(FULL | {"fee": "lots"})
    assert (
        api.post("/api/v1/contracts/validate", {"agreement": wrong}, **JSON).json()["items"][0]["path"]
        == "segments.0.fee"
    )
    assert (
        "segments.0.fee"
        in api.post("/api/v1/contracts", body | {"agreement": wrong}, **JSON).json()["error"]["details"]
    )
    next_one = {"agreement": agreement(FULL | {"fee": "7"}), "reason": "cheaper", "expect": 1}
    assert api.post("/api/v1/contracts/shops/versions", next_one, **JSON).json()["number"] == 2
    assert api.post("/api/v1/contracts/shops/versions", next_one, **JSON).status_code == 409
    assert [one["number"] for one in api.get("/api/v1/contracts/shops/versions").json()["items"]] == [2, 1]
    assert api.get("/api/v1/contracts/shops/versions/1").json()["agreement"]["segments"][0]["fee"] == "1200"
    assert api.get("/api/v1/contracts/shops").json()["version"]["number"] == 2
    with scope(TEST):
        assert version_as_of(Contract.objects.get()).number == 2


def test_version_synchronisation_has_its_own_deadline_or_the_standards(north):
    sync = objective(measure="version_sync", target="99")
    shown = editor_of(agreement(segment("north", objectives=[sync | {"limit": "48"}])), []).segments[0].parts[0]
    assert ("Deadline, hours", "48") in [(box.label, box.value) for box in shown.boxes]
    made = (
        make_contract(segment("north", objectives=[sync | {"limit": "48"}])),
        make_contract(segment("north", objectives=[sync]), slug="other"),
    )
    with scope(TEST):
        says = [promises_of(one.segments.get())[0] for one in made]
    assert "at least 99 % of offered standards run on a site within 48 h" in says[0]
    assert "within the standard's own deadline" in says[1]


def test_a_limit_goes_with_its_promise(north):
    value = agreement(segment("north", objectives=[objective(measure="version_sync", limit="48")]))
    again = agreement_in(posted(editor_of(value, [])) | {"segments.0.objectives.0.measure": "availability"})
    assert "limit" not in again["segments"][0]["objectives"][0]
