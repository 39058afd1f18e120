"""The guided plan without a browser: what it says before anything is kept, where faults stand, saving, rights."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from fleet.kit.tenancy import scope
from fleet.rollouts.models import Rollout
from fleet.rollouts.recipe import USUAL_WAVES, read_recipe
from fleet.rollouts.services import control, holds
from fleet.rollouts.services.ticking import tick
from tests.conftest import TEST, everything
from tests.fleet.rollouts.played import NEW, Played
from tests.fleet.standards.factories import OTHER_IMAGE, make_standard, report
from tests.sites.builders import KERNEL, POS

pytestmark = pytest.mark.usefixtures("plain_static", "database")
HTMX = {"HX-Request": "true"}
EMPTY = {f"{prefix}-{what}": "0" for prefix in "wof" for what in ("TOTAL_FORMS", "INITIAL_FORMS")}


@pytest.fixture
def sites(make_site: Any, make_provider: Any) -> list[Any]:
    """Six sites of two providers, each of which reports; and a standard that none of them runs."""
    own, other = make_provider("own"), make_provider("other")
    made = [make_site(f"shop-{number}", other if number == 5 else own) for number in range(6)]
    for site in made:
        report(site, KERNEL, POS)
    make_standard("r2", NEW)
    return made


def body(*waves: dict[str, str], do: str = "save", **values: Any) -> dict[str, Any]:
    """What the form sends."""
    sent = {**EMPTY, "do": do, "standard": "r2", "everything": "on", "name": "spring"}
    listed = waves or ({"name": "canary", "takes": "count", "amount": "1", "canary": "on"}, {"name": "rest"})
    sent["w-TOTAL_FORMS"] = str(len(listed))
    for number, wave in enumerate(listed):
        sent |= {f"w-{number}-{name}": value for name, value in ({"takes": "rest"} | wave).items()}
    return {name: value for name, value in (sent | values).items() if value is not None}


def rollouts() -> list[Rollout]:
    with scope(TEST):
        return list(Rollout.objects.order_by("pk"))


def faults(response: Any) -> dict[str, str]:
    """What is wrong, by the id of the field that it stands at."""
    return {fault["field"]: fault["text"] for fault in response.context["page"].faults}


# What it says ------------------------------------------------------------------------------------------------
def test_it_begins_with_what_is_to_be_chosen_and_the_usual_waves(signed_in: Any, sites: Any):
    response = signed_in("operator").get("/rollouts/new/")
    page = response.context["page"]
    assert [anchor for anchor, _ in page.needs] == ["id_standard", "id_select"]
    assert [form["name"].value() for form in page.waves] == [wave.name for wave in USUAL_WAVES]
    assert b"What it would do" in response.content
    assert rollouts() == []


def test_the_preview_says_in_numbers_what_would_happen(signed_in: Any, sites: Any):
    report(sites[0], KERNEL, POS)
    response = signed_in("operator").post("/rollouts/new/", body(do="preview"), headers=HTMX)
    text = response.content.decode()
    assert [wave["seen"].sites for wave in response.context["waves_seen"]] == [1, 5]
    assert "It would change <strong>6</strong> of the 6 sites that are chosen" in text
    assert "<html" not in text
    assert response["Vary"].count("HX-Request") == 1
    assert rollouts() == []


def test_without_javascript_the_button_shows_the_same_on_a_page(signed_in: Any, sites: Any):
    response = signed_in("operator").post("/rollouts/new/", body(do="preview"))
    assert response.status_code == 200
    assert b"<html" in response.content
    assert b"It would change <strong>6</strong>" in response.content
    assert b'value="preview">Look at it</button>' in response.content


def test_what_is_offline_held_at_work_or_conforming_is_said(
    signed_in: Any, sites: Any, make_site: Any, make_person: Any
):
    busy = Played(make_site, make_person, (1,), name="autumn")
    response = signed_in("operator").post("/rollouts/new/", body(do="preview", standard=busy.standard.name))
    assert response.context["page"].faults == []
    busy.do(control.submit)
    busy.do(control.approve, busy.approver)
    tick()
    response = signed_in("operator").post("/rollouts/new/", body(do="preview"))
    assert any("autumn" in group["reason"] or "another rollout" in str(group) for group in response.context["left_out"])


@pytest.mark.parametrize(
    ("query", "count", "waves"),
    [
        ("sites=shop-1&to=r2", 1, ["canary"]),
        ("sites=shop-1,shop-2&to=r2", 2, ["canary", "the rest"]),
        ("providers=own&to=r2", 5, ["canary", "first tenth", "the rest"]),
        ("from=sites&query=region%3DDACH&to=r2", 6, ["canary", "first tenth", "the rest"]),
        ("from=sites&query=q%3Dshop-5&to=r2", 1, ["canary"]),
        ("from=map&q=shop-5&to=r2", 1, ["canary"]),
        ("from=map&region=DACH,NORDICS&state=up&to=r2", 6, ["canary", "first tenth", "the rest"]),
        ("everything=1&to=r2", 6, ["canary", "first tenth", "the rest"]),
    ],
)
def test_it_begins_with_what_was_picked_elsewhere(signed_in: Any, sites: Any, query: str, count: int, waves: Any):
    response = signed_in("operator").get(f"/rollouts/new/?{query}")
    page = response.context["page"]
    assert (page.selected, names(response), page.faults) == (count, waves, [])


def test_boxes_of_the_list_are_a_selection_and_foreign_numbers_are_none(signed_in: Any, sites: Any):
    picked = {"do": "begin", "pick": [str(sites[1].pk), str(sites[2].pk), "999999", "x"]}
    page = signed_in("operator").post("/rollouts/new/", picked).context["page"]
    assert page.plan["picked"].value() == "shop-1 shop-2"


def test_another_one_begins_from_an_old_one(signed_in: Any, sites: Any):
    client = signed_in("operator")
    row = saved(client)
    response = client.get(f"/rollouts/new/?again={row.pk}")
    assert (response.context["form"]["standard"].value(), names(response)) == ("r2", ["canary", "rest"])
    assert client.get("/rollouts/new/?again=999").status_code == 404


def test_what_is_held_now_is_said_of_its_wave(signed_in: Any, sites: Any):
    until = timezone.now() + timedelta(hours=4)
    for what in ({"site": sites[1]}, {"provider": sites[5].provider}, {"region": "NORDICS"}):
        holds.hold(actor=TEST, rights=everything(), reason="stocktaking", until=until, **what)
    response = signed_in("operator").post("/rollouts/new/", body({"name": "all"}, do="preview"))
    assert "Wave 'all': 2 of its 6 sites are held now and wait (Shop 1, Shop 5)." in response.context["warnings"]


def test_a_wave_that_opens_after_its_patience_is_told_and_its_end_is_a_range(signed_in: Any, sites: Any):
    # A window of an hour a week that does not begin within a minute: whatever day it is.
    day = str((timezone.now().weekday() + 3) % 7)
    window = {"o-TOTAL_FORMS": "1", "o-0-days": [day], "o-0-begin": "03:00", "o-0-end": "04:00"}
    response = signed_in("operator").post("/rollouts/new/", body({"name": "all"}, do="preview", **window))
    assert any("none of its sites is open before its patience is over" in one for one in response.context["warnings"])
    assert all(wave["seen"].ends[0] <= wave["seen"].ends[1] for wave in response.context["waves_seen"])


# What is wrong, where it stands ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"in_flight": "0"}, "id_in_flight", "greater than or equal to 1"),
        ({"soak_s": "soon"}, "id_soak_s", "“soon” is no span of time; one is 10 min, 4 h or 2 d"),
        ({"picked": "shop-1 nowhere"}, "id_picked", "1 site is not there, or not active: nowhere."),
        ({"text": "nobody has this name"}, "id_everything", "No active site fits this selection."),
        ({"start_at": "2027-01-01T10:00", "start_zone": "Mars/Base"}, "id_start_zone", "no time zone"),
        ({"component_kind": "workload"}, "id_component_name", "a kind and a name"),
        ({"needed": "1", "approvers": "all"}, "id_needed", "More providers must approve"),
        ({"approval_s": "0"}, "id_pause_s", "lets nobody act"),
        ({"w-0-amount": "many"}, "id_w-0-amount", "How many?"),
        ({"w-0-name": ""}, "id_w-0-name", "required"),
        ({"w-1-name": ""}, "id_w-1-name", "required"),
        ({"w-0-limits": "boom: 3"}, "id_w-0-limits", "no class of failures"),
        ({"w-1-name": "canary"}, "id_w-1-name", "2 waves are called 'canary'"),
        ({"w-0-min_sample": "3"}, "w-0-head", "Wave 'canary'"),
        ({"w-0-deadline": "1 min"}, "w-0-head", "Wave 'canary'"),
        ({"w-TOTAL_FORMS": "0"}, "plan-waves", "A plan has a wave at least."),
        (
            {"o-TOTAL_FORMS": "1", "o-0-begin": "22:00", "o-0-end": "06:00"},
            "id_o-0-days",
            "Say on which days.",
        ),
    ],
)
def test_a_fault_stands_at_its_field(signed_in: Any, sites: Any, changes: dict[str, Any], field: str, words: str):
    if changes.get("approvers") == "all":
        changes = {**changes, "approvers": [str(site.provider_id) for site in (sites[0], sites[5])]}
    client = signed_in("operator")
    live = client.post("/rollouts/new/", body(do="preview", **changes), headers=HTMX)
    assert words in faults(live).get(field, str(faults(live)))
    assert field in faults(live)
    saved = client.post("/rollouts/new/", body(**changes))
    assert (saved.status_code, field in faults(saved)) == (422, True)
    assert f'href="#{field}"' in saved.content.decode()
    assert rollouts() == []


def test_windows_that_never_open_are_told(signed_in: Any, sites: Any):
    freeze = {"f-TOTAL_FORMS": "1", "f-0-begin": "2020-01-01T00:00", "f-0-reason": "for ever"}
    response = signed_in("operator").post("/rollouts/new/", body(**freeze))
    assert response.status_code == 422
    assert any("never open" in words for words in faults(response).values())


def test_a_standard_without_an_image_for_some_sites_is_told_at_the_standard(signed_in: Any, sites: Any, make_site: Any):
    make_standard("by-arch", {"workloads": [{"name": "pos", "images": {"amd64": OTHER_IMAGE}}]})
    response = signed_in("operator").post("/rollouts/new/", body(standard="by-arch"))
    assert response.status_code == 422
    assert "does not suit 6 sites" in faults(response)["id_standard"]


# Rows ---------------------------------------------------------------------------------------------------------
def names(response: Any) -> list[str]:
    return [form["name"].value() for form in response.context["page"].waves]


def test_waves_are_added_moved_and_taken_out_with_or_without_javascript(signed_in: Any, sites: Any):
    client = signed_in("operator")
    assert names(client.post("/rollouts/new/", body(do="waves-add"))) == ["canary", "rest", "wave 3"]
    assert names(client.post("/rollouts/new/", body(do="waves-down:0"), headers=HTMX)) == ["rest", "canary"]
    assert names(client.post("/rollouts/new/", body(do="waves-up:1"), headers=HTMX)) == ["rest", "canary"]
    assert names(client.post("/rollouts/new/", body(do="waves-remove:0"))) == ["rest"]
    assert names(client.post("/rollouts/new/", body(do="waves-remove:7"))) == ["canary", "rest"]
    response = client.post("/rollouts/new/", body(do="windows-add"), headers=HTMX)
    assert len(response.context["page"].windows.forms) == 1


@pytest.mark.parametrize("changes", [{"w-TOTAL_FORMS": "x"}, {"w-TOTAL_FORMS": "99999"}, {"w-TOTAL_FORMS": None}])
def test_a_broken_form_is_refused_and_nothing_breaks(signed_in: Any, sites: Any, changes: dict[str, Any]):
    client = signed_in("operator")
    for do in ("save", "waves-add", "preview"):
        assert client.post("/rollouts/new/", body(do=do, **changes)).status_code in {200, 422}
    assert rollouts() == []


# Saving -------------------------------------------------------------------------------------------------------
def test_saved_it_is_a_plan_that_nobody_approved(signed_in: Any, sites: Any):
    client = signed_in("operator")
    response = client.post("/rollouts/new/", body(in_flight="3", soak_s="5 min", **{"w-0-soak": "1 h"}))
    (row,) = rollouts()
    assert (response.status_code, row.state, row.name, row.sites) == (302, "planned", "spring", 6)
    assert response["Location"].startswith(f"/rollouts/{row.pk}/")
    plan = json.loads(row.plan)
    assert (plan["caps"]["in_flight"], plan["times"]["soak_s"]) == (3, 300)
    assert plan["waves"][0]["gates"] == [{"type": "soak", "seconds": 3600}]
    assert row.recipe["select"] == {"everything": True}
    read_recipe(row.recipe)


def test_without_a_name_it_is_called_by_what_it_does(signed_in: Any, sites: Any):
    signed_in("operator").post("/rollouts/new/", body(name=""))
    assert [row.name for row in rollouts()] == ["r2: all active sites"]


def test_saving_may_lead_on_to_asking_for_approval(signed_in: Any, sites: Any):
    client = signed_in("operator")
    response = client.post("/rollouts/new/", body(do="ask"))
    (row,) = rollouts()
    assert (response["Location"], row.state) == (f"/rollouts/{row.pk}/do/submit/", "planned")
    assert client.get(response["Location"]).status_code == 200


def saved(client: Client) -> Rollout:
    client.post("/rollouts/new/", body())
    return rollouts()[-1]


def test_an_edit_after_approval_warns_and_voids_it(signed_in: Any, sites: Any, access: Any):
    client = signed_in("operator")
    client.post("/rollouts/new/", body(do="ask", start_at="2027-06-01T10:00", start_zone="Europe/Berlin"))
    (row,) = rollouts()
    actor, rights = access("operator")
    control.submit(actor=actor, rights=rights, rollout=row, expect=row.plan_hash)
    actor, rights = access("manager")
    control.approve(actor=actor, rights=rights, rollout=row, expect=row.plan_hash)
    tick()
    (row,) = rollouts()
    assert row.state == "scheduled"
    page = client.get(f"/rollouts/{row.pk}/edit/")
    assert "Saving a change voids the approval of 1 person." in page.content.decode()
    assert page.context["form"]["start_at"].value().isoformat() == "2027-06-01T08:00:00"
    given = body(start_at="2027-06-02T10:00", start_zone="UTC", expect=page.context["form"]["expect"].value())
    assert client.post(f"/rollouts/{row.pk}/edit/", given).status_code == 302
    (row,) = rollouts()
    assert (row.state, row.approved_hash) == ("planned", "")


def test_two_who_edit_at_once_do_not_overwrite_each_other(signed_in: Any, sites: Any):
    client = signed_in("operator")
    row = saved(client)
    given = body(expect=row.plan_hash, name="first")
    assert client.post(f"/rollouts/{row.pk}/edit/", given).status_code == 302
    response = client.post(f"/rollouts/{row.pk}/edit/", given | {"name": "second"})
    assert response.status_code == 409
    assert b"What you typed still stands here" in response.content
    assert [one.name for one in rollouts()] == ["first"]


def test_what_runs_is_not_edited(signed_in: Any, make_site: Any, make_person: Any):
    it = Played(make_site, make_person, (1,)).run()
    client = signed_in("operator")
    path = f"/rollouts/{it.rollout.pk}/"
    assert client.get(f"{path}edit/")["Location"] == path
    assert client.post(f"{path}edit/", body(expect=it.rollout.plan_hash)).status_code == 409
    assert it.now().plan_hash == it.rollout.plan_hash


# As text ------------------------------------------------------------------------------------------------------
def test_between_form_and_json_everything_is_taken_along(signed_in: Any, sites: Any):
    client = signed_in("operator")
    typed = body(
        do="json", in_flight="3", times_no_space="2", after_no_space="5 min", action_lost="roll_back_all", **{
            "w-0-human": "on", "w-0-question": "Go on?", "w-0-rtt_ms": "90", "w-0-limits": "no_space: 2 or 5 %",
            "o-TOTAL_FORMS": "1", "o-0-days": ["0", "1"], "o-0-begin": "22:00", "o-0-end": "06:00",
        },
    )  # fmt: skip
    text = client.post("/rollouts/new/", typed).context["page"].text
    back = client.post("/rollouts/new/", {"do": "form", "recipe": text}).context["page"]
    assert back.mode == "form"
    assert back.plan["in_flight"].value() == 3
    assert back.waves.forms[0]["question"].value() == "Go on?"
    assert back.windows.forms[0]["days"].value() == ["0", "1"]
    client.post("/rollouts/new/", {"do": "save", "recipe": text})
    client.post("/rollouts/new/", typed | {"do": "save"})
    first, second = (json.loads(row.plan) for row in rollouts())
    assert first == second


def test_what_no_field_can_say_stays_text(signed_in: Any, sites: Any):
    wave = {"name": "all", "gates": [{"type": "metric", "name": "queue", "at_most": 3}]}
    text = json.dumps({"name": "x", "standard": "r2", "select": {"everything": True}, "waves": [wave]})
    page = signed_in("operator").post("/rollouts/new/", {"do": "form", "recipe": text}).context["page"]
    assert (page.mode, page.only_text) == ("json", True)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"waves": 3}', '{"standard": 7}', "[" * 9000, '{"select": {"no": 1}}', '{"select": []}']
)
def test_text_that_is_no_plan_is_told(signed_in: Any, sites: Any, text: str):
    response = signed_in("operator").post("/rollouts/new/", {"do": "save", "recipe": text})
    page = response.context["page"]
    assert (response.status_code, bool(page.faults or page.needs)) == (422, True)
    assert rollouts() == []


# Who may ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["viewer", "manager", "provider_operator", "provider_viewer"])
def test_who_may_not_plan_is_refused_and_changes_nothing(signed_in: Any, sites: Any, role: str):
    row = saved(signed_in("operator"))
    membership = {"provider": sites[0].provider} if role.startswith("provider") else {}
    client = signed_in(role, **membership)
    # A provider sees the rollout that touches its sites; nobody tells it of a way to plan it.
    for path in ("/rollouts/new/", f"/rollouts/{row.pk}/edit/"):
        assert client.get(path).status_code == 403
        assert client.post(path, body(expect=row.plan_hash, name="mine")).status_code == 403
    assert [one.name for one in rollouts()] == ["spring"]


def test_an_operator_of_some_regions_plans_nothing(signed_in: Any, sites: Any):
    client = signed_in("operator", regions=["DACH"])
    assert client.get("/rollouts/new/").status_code == 403
    assert client.post("/rollouts/new/", body()).status_code == 403
    assert rollouts() == []


def test_a_rollout_of_others_is_not_there(signed_in: Any, sites: Any, make_provider: Any):
    row = saved(signed_in("operator"))
    client = signed_in("provider_operator", provider=make_provider())
    missing = client.get("/rollouts/999/edit/")
    assert client.get(f"/rollouts/{row.pk}/edit/").status_code == missing.status_code == 404
