"""Rollouts over the API: who may say what, what each viewer is told, filters and pages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick
from tests.fleet.rollouts.calls import contents, get, post, put, recipe_for, say
from tests.fleet.rollouts.played import Played
from tests.openapi import assert_error

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


# Who may ----------------------------------------------------------------------------------------------------
COMMANDS = {
    "submit": {},
    "approve": {},
    "reject": {"reason": "no"},
    "start": {},
    "pause": {"reason": "wait"},
    "freeze": {"reason": "wait"},
    "resume": {},
    "answer": {"wave": 0, "yes": True},
    "abort": {"reason": "no"},
    "roll-back": {"reason": "no"},
    "reopen-lane": {"reason": "no"},
}
MAY = {"operator": set(COMMANDS) - {"approve", "reject"}, "manager": {"approve", "reject"}}


@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "provider_viewer", "provider_operator", "region"])
def test_what_a_role_may_not_is_refused_and_changes_nothing(play, api_client, make_provider, role):
    own = make_provider("own")
    it = play(1, provider=own)
    membership: dict[str, Any] = {"provider": own} if role.startswith("provider") else {}
    client = api_client("admin", regions=["DACH"]) if role == "region" else api_client(role, **membership)
    before = contents()
    for verb, body in COMMANDS.items():
        if verb not in MAY.get(role, ()):
            assert say(client, it, verb, **body).status_code in {403, 404}, verb
    if role != "operator":
        planning = put(client, f"/rollouts/{it.rollout.pk}/plan", {"expect": it.rollout.plan_hash, "recipe": {}})
        assert planning.status_code in {403, 404}
        for path in ("/rollouts", "/rollouts/preview"):
            assert_error(post(client, path, recipe_for(it)), 403, "not_allowed")
    if role.startswith("provider") or role == "region":
        assert client.get(f"/api/v1/rollouts/{it.rollout.pk}/plan").status_code in {403, 404}
    assert contents() == before


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_rollout_that_is_not_theirs_is_404_like_one_that_is_not(play, api_client, make_provider, verb):
    it = play(1)
    client = api_client("provider_operator", provider=make_provider())
    before = contents()
    foreign = say(client, it, verb, **COMMANDS[verb])
    it.rollout.pk += 1000
    missing = say(client, it, verb, **COMMANDS[verb])
    assert_error(foreign, 404, "not_found")
    assert foreign.content == missing.content
    assert contents() == before


def test_numbers_of_rollouts_that_cannot_be_are_404(play, api_client):
    client = api_client("admin")
    for number in (0, -1, 2**31, 2**63, 10**30):
        assert_error(client.get(f"/api/v1/rollouts/{number}"), 404, "not_found")
        assert_error(post(client, f"/holds/{number}/lift", {}), 404, "not_found")


def test_effects_are_those_that_the_caller_may_have(play, api_client, make_provider):
    own = make_provider("own")
    it = play(2, provider=own, approvals={"needed": 2, "providers": [own.pk]})
    it.do(control.submit)
    path = f"/rollouts/{it.rollout.pk}"
    assert [one["verb"] for one in get(api_client("operator"), path)["effects"]] == []
    assert [one["verb"] for one in get(api_client("viewer"), path)["effects"]] == []
    manager = get(api_client("manager"), path)
    assert [one["verb"] for one in manager["effects"]] == ["approve", "reject"]
    assert "provider Own must approve" in manager["effects"][0]["words"][0].replace(own.name, "Own")
    theirs = get(api_client("provider_operator", provider=own), path)
    assert [one["verb"] for one in theirs["effects"]] == ["approve", "reject"]
    assert theirs["effects"][0]["words"] == [
        "You agree that 2 sites of yours are changed by this very plan. Others may have to agree too."
    ]
    assert get(api_client("provider_viewer", provider=own), path)["effects"] == []


# What a provider is told ------------------------------------------------------------------------------------
@pytest.fixture
def shared(play, make_provider, make_site):
    """A running rollout of two own sites and a foreign one of which every word is telling."""
    own, foreign = make_provider("own"), make_provider("quagga", name="Quagga")
    it = play(2, provider=own)
    theirs = make_site("site-q", foreign, name="Quagga Site", region="Islands-Q")
    it.values["waves"].append({"name": "wave-q", "sites": [theirs.pk], "why": "quagga"})
    it.rollout = it.plan(it.rollout)
    return it.run(), own


def test_a_provider_reads_of_its_own_sites_alone(shared, api_client):
    it, own = shared
    for role, membership in (("provider_operator", {"provider": own}), ("viewer", {"provider": own})):
        client = api_client(role, **membership)
        path = f"/rollouts/{it.rollout.pk}"
        slug = it.sites[0].slug
        for place in (
            *("/rollouts", "/rollouts?active=true", path, f"{path}/steps", f"{path}/steps?wave=1", f"{path}/events"),
            *(f"{path}/events?site=site-q", f"{path}/steps?site=site-q", f"{path}/approvals", f"{path}/evaluations"),
            *(f"{path}/steps/{slug}", "/holds", "/providers/own/rollout-calendar"),
        ):
            answer = client.get(f"/api/v1{place}")
            assert answer.status_code == 200, (place, answer.content)
            words = [word for word in (b"site-q", b"wave-q", b"uagga", b"-Q") if word in answer.content]
            assert words == [], place
        seen = get(client, path)
        assert (seen["sites"], seen["author"], seen["reason"], seen["plan"]) == (2, "", "", None)
        assert (seen["asked"]["people"], [wave["sites"] for wave in seen["waves"]]) == (None, [2])
        assert len(get(client, f"{path}/steps")["items"]) == 2
        assert {one["actor"] for one in get(client, f"{path}/events")["items"]} <= {""}
        for place in (f"{path}/steps/site-q", "/providers/quagga/rollout-calendar"):
            assert_error(client.get(f"/api/v1{place}"), 404, "not_found")
        assert_error(client.get(f"/api/v1{path}/plan"), 403, "not_allowed")


def test_a_viewer_of_a_region_reads_of_it_alone(shared, api_client):
    it, _ = shared
    client = api_client("viewer", regions=["Islands-Q"])
    path = f"/rollouts/{it.rollout.pk}"
    assert [one["site"] for one in get(client, f"{path}/steps")["items"]] == ["site-q"]
    seen = get(client, path)
    assert (seen["sites"], [wave["index"] for wave in seen["waves"]], seen["plan"]) == (1, [1], None)
    assert get(client, f"{path}/events")["items"] == []
    assert_error(client.get(f"/api/v1{path}/plan"), 403, "not_allowed")


# Lists ------------------------------------------------------------------------------------------------------
def test_steps_are_filtered_and_paged(play, api_client):
    it = play(3, 2).run()
    it.fails(1)
    tick()
    client, path = api_client("viewer"), f"/rollouts/{it.rollout.pk}/steps"
    slugs = [site.slug for site in it.sites]

    def found(**query: Any) -> list[str]:
        return [one["site"] for one in get(client, path, **query)["items"]]

    assert found(wave=1) == slugs[3:]
    assert found(state="failed") == [slugs[1]]
    assert found(failure="unhealthy") == [slugs[1]]
    assert found(failure="lost") == []
    assert found(lane="true") == []
    assert found(site=slugs[2]) == [slugs[2]]
    assert_error(client.get(f"/api/v1{path}?state=nonsense"), 422, "invalid")
    all_of_them, cursor = [], None
    while True:
        page = get(client, path, limit=2, **({"cursor": cursor} if cursor else {}))
        all_of_them += [one["site"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert all_of_them == slugs
    step = get(client, f"{path}/{slugs[1]}")
    assert (step["failure"], [one["state"] for one in step["attempts"]]) == ("unhealthy", ["failed"])
    assert get(client, f"/rollouts/{it.rollout.pk}")["failures"] == {"unhealthy": 1}
    (event, *_) = get(client, f"/rollouts/{it.rollout.pk}/events", site=slugs[1])["items"]
    assert (event["site"], event["thing"], event["state"]) == (slugs[1], "step", "failed")


def test_rollouts_are_filtered_and_paged(play, api_client):
    it = play(1)
    client = api_client("viewer")
    for name in ("two", "three"):
        it.values["name"] = name
        it.plan()
    first = get(client, "/rollouts", limit=2)
    assert [one["name"] for one in first["items"]] == ["three", "two"]
    assert [one["name"] for one in get(client, "/rollouts", cursor=first["next"])["items"]] == ["spring"]
    assert get(client, "/rollouts", state="running")["items"] == []
    assert get(client, "/rollouts", active="true")["items"] == []
    assert len(get(client, "/rollouts", active="false", standard=it.standard.name)["items"]) == 3
    assert get(client, "/rollouts", standard="none")["items"] == []
    assert_error(client.get("/api/v1/rollouts?cursor=x"), 422, "invalid")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("path", "queries"), [("", 2), ("/{}/steps", 2), ("/{}/events", 2), ("/{}", 14)])
def test_the_number_of_queries_does_not_grow_with_the_rows(play, api_client, make_site, path, queries, count):
    it, client = play(*[count] * count).run(), api_client("viewer")
    for number in range(count - 1):
        it.values |= {"name": f"spring {number}", "waves": [{"name": "all", "sites": [make_site().pk]}]}
        it.plan()
    with CaptureQueriesContext(connections["default"]) as seen:
        get(client, f"/rollouts{path.format(it.rollout.pk)}")
    own = [row["sql"] for row in seen if "rollouts_" in row["sql"]]
    assert len(own) == queries, own
