"""Pages of rollouts: the list, one that runs, its cells, one site of it; what providers see of them."""

import json
from collections.abc import Callable
from typing import Any

import brotli
import pytest
from django.utils import timezone

from fleet.kit.tenancy import scope
from fleet.rollouts.models import SiteStep
from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick
from fleet.rollouts.views import running
from tests.conftest import TEST
from tests.fleet.rollouts.played import Played

pytestmark = pytest.mark.usefixtures("database", "plain_static")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def page_of(client: Any, it: Played, query: str = "", *, fragment: bool = False) -> Any:
    headers = {"HX-Request": "true"} if fragment else {}
    return client.get(f"/rollouts/{it.rollout.pk}/{query}", headers=headers)


# The list ---------------------------------------------------------------------------------------------------
def test_the_list_begins_with_what_needs_a_person(play: Play, signed_in: Any):
    first = play(1).run()
    waits = play(1, name="summer")
    waits.do(control.submit)
    play(1, name="autumn")
    response = signed_in("viewer").get("/rollouts/")
    assert [row["rollout"].name for row in response.context["rows"]] == ["summer", "spring", "autumn"]
    assert [row["needs"] for row in response.context["rows"]] == [True, False, False]
    assert [(one["label"], one["count"]) for one in response.context["figures"]] == [
        ("Need somebody", 1),
        ("Running", 1),
        ("Not started", 2),
        ("Ended", 0),
    ]
    assert first.standard.name in response.content.decode()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?state=running", ["spring"]),
        ("?state=waiting", ["autumn"]),
        ("?state=ended", []),
        ("?q=AUT", ["autumn"]),
        ("?standard=2026.11-r2", ["spring", "autumn"]),
        ("?standard=none", []),
        ("?state=nonsense&page=99", ["spring", "autumn"]),
    ],
)
def test_filters_of_the_list_lie_in_its_address(play: Play, signed_in: Any, query: str, names: list[str]):
    play(1).run()
    play(1, name="autumn")
    client = signed_in("viewer")
    for fragment in (False, True):
        response = client.get(f"/rollouts/{query}", headers={"HX-Request": "true"} if fragment else {})
        assert [row["rollout"].name for row in response.context["rows"]] == names


@pytest.mark.parametrize("count", [1, 3])
def test_the_list_asks_the_database_the_same_for_one_and_three(
    play: Play, signed_in: Any, count: int, django_assert_num_queries: Any
):
    for number in range(count):
        play(2, name=f"rollout {number}")
    client = signed_in("viewer")
    client.get("/rollouts/")
    with django_assert_num_queries(13):
        assert len(client.get("/rollouts/").context["rows"]) == count


# One rollout ------------------------------------------------------------------------------------------------
def test_a_rollout_says_what_it_does_and_what_it_waits_for(play: Play, signed_in: Any):
    it = play(2, 1)
    client = signed_in("viewer")
    assert page_of(client, it).context["waits"] == "It waits for somebody to ask for approval."
    it.do(control.submit)
    assert "1 more person must approve" in page_of(client, it).context["waits"]
    it.do(control.approve, it.approver)
    assert page_of(client, it).context["waits"] == "All have agreed; the next tick counts them."
    tick()
    context = page_of(client, it).context
    assert context["says"] == "Wave 1 of 2, wave 0, is open: 0 of 2 sites proven, 2 at work."
    assert context["waits"] == "It waits for 2 sites at work; 0 wait their turn."
    it.applied(0)
    tick()
    tick()
    assert page_of(client, it).context["says"] == "Wave 1 of 2, wave 0, is open: 1 of 2 sites proven, 1 at work."
    it.do(control.freeze, reason="the tills ring")
    context = page_of(client, it).context
    assert (context["label"], context["waits"].partition(":")[0]) == ("Frozen", "Somebody froze it")
    assert context["rollout"].reason == "the tills ring"
    assert b"the tills ring" in page_of(client, it, fragment=True).content


def test_gates_show_what_is_measured_against_what_they_ask(play: Play, signed_in: Any):
    it = play(2)
    it.rollout = it.plan(it.rollout, waves=[{**it.values["waves"][0], "gates": [], "canary": True}])
    it.run()
    it.applied(0)
    tick()
    it.fails(1)
    tick()
    context = page_of(signed_in("viewer"), it).context
    column = context["columns"][0]
    assert (column["label"], column["reason"]) == ("Held", it.now().reason)
    assert [(gate["what"], gate["label"], gate["measured"]) for gate in column["gates"]] == [
        ("At least 1 site tried to the end", "Met", "2 sites tried, 1 needed"),
        ("At least 100 % of those proven", "Failed", "1 of 2 proven, 100.0% needed"),
        ("Fewer than 1 failed (of any class)", "Failed", column["gates"][2]["measured"]),
        ("Fewer than 1 failed (fell silent while it was changed)", "Met", column["gates"][3]["measured"]),
    ]
    assert [(one["label"], one["count"]) for one in context["failures"]] == [("Did not come up healthy", 1)]
    assert [step.site_id for step in context["failures"][0]["examples"]] == [it.sites[1].pk]


def test_sites_are_a_table_that_is_filtered_by_its_address(play: Play, signed_in: Any):
    it = play(2, 1).run()
    client = signed_in("viewer")

    def shown(query: str) -> list[int]:
        return [row["step"].site_id for row in page_of(client, it, query).context["steps"]]

    first, second, third = (site.pk for site in it.sites)
    assert shown("") == [first, second, third]
    assert shown("?step=work") == [first, second]
    assert shown("?wave=1") == [third]
    assert shown(f"?q={it.sites[1].name}") == [second]
    assert shown("?wave=1&step=proven") == []
    assert shown("?wave=x&step=nonsense&page=99&events=99") == [first, second, third]


def test_everybody_reads_the_plan_and_who_approved_it(play: Play, signed_in: Any):
    it = play(1).run()
    context = page_of(signed_in("viewer"), it).context
    assert context["agreement"] == {"needed": 1, "have": 1, "missing": ""}
    assert [(row["said"].user_id, row["counts"]) for row in context["approvals"]] == [(it.approver[0].user_id, True)]
    assert [part["what"] for part in context["plan"]] == [
        *("Waves", "At once", "Times", "On failure"),
        *("Approval", "Ends"),
    ]
    assert [row["sites"] for row in context["providers"]] == [1]


@pytest.mark.parametrize("role", ["viewer", "manager", "operator"])
def test_only_buttons_that_may_be_pressed_are_shown(play: Play, signed_in: Any, role: str):
    it = play(1)
    it.do(control.submit)
    content = page_of(signed_in(role), it).content.decode()
    assert ('id="do-approve"' in content) == (role == "manager")
    assert ('id="edit-plan"' in content) == (role == "operator")
    assert ("/rollouts/new/" in signed_in(role).get("/rollouts/").content.decode()) == (role == "operator")
    it.do(control.approve, it.approver)
    tick()
    content = page_of(signed_in(role), it).content.decode()
    assert ('id="do-abort"' in content) == (role == "operator")
    assert ('id="plan-again"' in content) == (role == "operator")
    assert 'id="edit-plan"' not in content


# Cells ------------------------------------------------------------------------------------------------------
def test_cells_are_all_steps_and_then_what_changed(play: Play, signed_in: Any):
    it = play(2, 1).run()
    client = signed_in("viewer")
    address = f"/rollouts/{it.rollout.pk}/cells.json"
    body = client.get(address).json()
    named = {state["name"]: number for number, state in enumerate(body["states"])}
    assert [(row[0], row[1], row[2], row[6]) for row in body["cells"]] == [
        (it.sites[0].pk, 0, named["claimed"], it.sites[0].slug),
        (it.sites[1].pk, 0, named["claimed"], it.sites[1].slug),
        (it.sites[2].pk, 1, named["queued"], it.sites[2].slug),
    ]
    later = int(timezone.now().timestamp() * 1000)
    with scope(TEST):
        SiteStep.objects.filter(site=it.sites[0]).update(slot=False)
    it.applied(1)
    tick()
    delta = client.get(address, {"since": later}).json()
    assert [row[0] for row in delta["cells"]] == [it.sites[1].pk]
    assert (delta["plan"], delta["states"], len(delta["cells"][0])) == (it.rollout.plan_hash, [], 6)
    for nonsense in ("x", "9" * 30, "-1", "\u0663"):
        assert len(client.get(address, {"since": nonsense}).json()["cells"]) == 3


def test_many_cells_are_sent_compressed_to_whom_can_read_them(play: Play, signed_in: Any, monkeypatch: Any):
    monkeypatch.setattr(running, "LARGE", 1)
    it = play(2)
    client = signed_in("viewer")
    plain = client.get(f"/rollouts/{it.rollout.pk}/cells.json")
    small = client.get(f"/rollouts/{it.rollout.pk}/cells.json", headers={"Accept-Encoding": "gzip, br"})
    assert (plain.get("Content-Encoding"), small["Content-Encoding"]) == (None, "br")
    assert "Accept-Encoding" in small["Vary"]
    assert len(json.loads(brotli.decompress(small.content))["cells"]) == len(plain.json()["cells"]) == 2


# What a provider sees ---------------------------------------------------------------------------------------
def test_a_provider_sees_its_own_cells_and_nobody_else(play: Play, signed_in: Any, make_provider: Any):
    own, other = make_provider("own"), make_provider("other", name="Other Hosting")
    it = play(2, 1, provider=other)
    with scope(TEST):
        SiteStep.objects.filter(site=it.sites[0]).update(provider=own)
        it.sites[0].provider = own
        it.sites[0].save(update_fields=["provider"])
    it.run()
    it.do(control.freeze, reason="a secret reason")
    client = signed_in("provider_operator", provider=own)
    response = page_of(client, it)
    content = response.content.decode()
    assert [column["size"] for column in response.context["columns"]] == [1]
    assert response.context["says"].endswith("0 of 1 site proven, 1 at work.")
    names = [it.sites[1].name, it.sites[2].name]
    for word in ("Other Hosting", "a secret reason", "plan-in-words", "do-", *names):
        assert word not in content, word
    cells = client.get(f"/rollouts/{it.rollout.pk}/cells.json").json()["cells"]
    assert [row[0] for row in cells] == [it.sites[0].pk]
    assert client.get(f"/rollouts/{it.rollout.pk}/sites/{it.sites[0].slug}/").status_code == 200
    assert client.get(f"/rollouts/{it.rollout.pk}/sites/{it.sites[1].slug}/").status_code == 404
    assert [row["total"] for row in client.get("/rollouts/").context["rows"]] == [1]
    stranger = signed_in("provider_operator", provider=make_provider("stranger"))
    for path in ("", "cells.json", f"sites/{it.sites[0].slug}/", "do/abort/"):
        assert stranger.get(f"/rollouts/{it.rollout.pk}/{path}").status_code == 404
    assert stranger.get("/rollouts/").context["rows"] == []


# Sites and the overview -------------------------------------------------------------------------------------
def test_a_site_shows_its_rollouts_now_and_before(play: Play, signed_in: Any):
    it = play(1).run()
    client = signed_in("viewer")
    address = f"/sites/{it.sites[0].slug}/rollouts/"
    context = client.get(address, headers={"HX-Request": "true"}).context
    assert ([row["rollout"].name for row in context["now"]], context["before"]) == (["spring"], [])
    it.applied(0)
    for _ in range(3):
        tick()
    assert it.now().state == "succeeded"
    context = client.get(address).context
    assert ([row["what"] for row in context["before"]], context["now"]) == (["proven"], [])
    step = client.get(f"/rollouts/{it.rollout.pk}/sites/{it.sites[0].slug}/")
    assert [(one.kind, one.state) for one in step.context["attempts"]] == [("apply", "proven")]


def test_the_overview_counts_rollouts_and_lists_what_waits(play: Play, signed_in: Any):
    it = play(1)
    it.do(control.submit)
    client = signed_in("manager")
    response = client.get("/")
    assert response.context["rollouts_running"] == 0
    rows = [row for row in response.context["attention"]["rows"] if row.get("matter") == "rollout"]
    assert [(row["rollout"].name, row["why"]) for row in rows] == [("spring", "Waits for approval")]
    it.do(control.approve, it.approver)
    tick()
    response = client.get("/overview/rollouts/")
    assert response.context["rollouts_running"] == 1
    assert [row for row in client.get("/overview/attention/").context["attention"]["rows"] if row.get("matter")] == []
    it.do(control.pause, reason="wait")
    rows = client.get("/overview/attention/").context["attention"]["rows"]
    assert [row["why"] for row in rows if row.get("matter") == "rollout"] == ["Stopped: wait"]
    assert b"Stopped: wait" in client.get("/wall/").content
