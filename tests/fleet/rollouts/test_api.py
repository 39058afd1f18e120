"""Rollouts over the API: from a recipe to its end, and what is refused on the way."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick
from tests.fleet.rollouts.calls import contents, forget, get, post, put, recipe_for, say
from tests.fleet.rollouts.played import NEW_POS, Played
from tests.fleet.standards.factories import report
from tests.openapi import assert_error
from tests.sites.builders import KERNEL

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


# From a recipe to a rollout ---------------------------------------------------------------------------------
def test_a_recipe_is_previewed_and_nothing_is_written(play, api_client):
    it = play(4)
    forget()
    report(it.sites[3], KERNEL, NEW_POS)
    client = api_client("operator")
    before = contents()
    seen = post(client, "/rollouts/preview", recipe_for(it)).json()
    assert (seen["may_start"], seen["selected"], seen["sites"], seen["people"]) == (True, 4, 3, 1)
    assert [(wave["name"], wave["sites"]) for wave in seen["waves"]] == [("one", 1), ("rest", 2)]
    assert seen["left_out"] == [{"reason": "runs the standard already", "sites": 1}]
    assert seen["ends"]["earliest"] < seen["ends"]["latest"]
    assert sum(sum(wave["by_provider"].values()) for wave in seen["waves"]) == 3
    assert contents() == before


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"waves": [{"name": "a", "share": 2}]}, "waves[0].share"),
        ({"select": {"colour": "red"}}, "select"),
        ({"select": {}}, "select"),
        ({"caps": {"in_flight": 0}}, "caps.in_flight"),
        ({"start_at": "2026-12-01T08:00:00"}, "start_at"),
        ({"start_at": "9999-12-31T23:59:59Z"}, "start_at"),
        ({"approvals": {"needed": 1, "providers": ["nobody"]}}, "approvals.providers"),
        ({"approvals": {"needed": 1, "providers": [[]]}}, "approvals.providers"),
        ({"standard": 5}, "standard"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_place(play, api_client, changes, place):
    it = play(1)
    forget()
    client, before = api_client("operator"), contents()
    for path in ("/rollouts/preview", "/rollouts"):
        error = assert_error(post(client, path, recipe_for(it, **changes)), 422, "invalid")
        assert list(error["details"]) == [place]
        assert error["message"]
    assert contents() == before


def test_numbers_that_are_none_are_refused(play, api_client):
    it = play(1)
    body = f'{{"name": "x", "standard": "{it.standard.name}", "select": {{"everything": true}}, "caps": NaN}}'
    answer = api_client("operator").post("/api/v1/rollouts/preview", body, content_type="application/json")
    assert assert_error(answer, 422, "invalid")["message"] == "it holds a number that is none, or is nested too deeply"


def test_a_preview_says_what_forbids_a_plan_and_no_rollout_is_made_of_it(play, api_client, make_provider):
    it = play(1)
    forget()
    make_provider("absent")
    client = api_client("operator")
    asked = recipe_for(it, waves=[{"name": "all"}], approvals={"needed": 1, "providers": ["absent"]})
    nobody = recipe_for(it, select={"text": "no-such-site"})
    at_once = recipe_for(it, waves=[{"name": "all"}], expiries={"pause_s": 0})
    never = {"begin": "2026-01-01T00:00:00", "end": None}
    closed = recipe_for(it, waves=[{"name": "all"}], calendar={"freezes": [never]})
    unheard = "Provider 'absent' must approve, but none of its sites is in the plan: it will not see it."
    faults = [
        ("approvals.providers", unheard, asked),
        ("select", "No active site fits this selection.", nobody),
        ("expiries", "A pause or an approval that expires at once lets nobody act.", at_once),
        ("waves[0]", f"Wave 'all': the windows of 1 site ({it.sites[0].name}) never open.", closed),
    ]
    for place, sentence, recipe in faults:
        seen = post(client, "/rollouts/preview", recipe).json()
        fault = {"level": "fault", "place": place, "sentence": sentence}
        faults_seen = [note for note in seen["notes"] if note["level"] == "fault"]
        assert (seen["may_start"], faults_seen) == (False, [fault])
        error = assert_error(post(client, "/rollouts", recipe), 422, "invalid")
        assert (error["message"], error["details"]) == (sentence, {place: [sentence]})
    report(it.sites[0], KERNEL, NEW_POS)
    (note,) = post(client, "/rollouts/preview", recipe_for(it)).json()["notes"]
    assert note["sentence"] == ("None of the 1 selected sites is left to change: 1 because runs the standard already.")
    assert get(client, "/rollouts")["items"] == []


def test_the_usual_waves_fit_few_sites_too(play, api_client):
    it = play(1)
    forget()
    recipe = recipe_for(it)
    del recipe["waves"]
    seen = post(api_client("operator"), "/rollouts/preview", recipe).json()
    assert [(wave["name"], wave["sites"]) for wave in seen["waves"]] == [("canary", 1)]


def test_from_a_recipe_to_a_rollback(play, api_client):
    it = play(3)
    forget()
    author, manager = api_client("operator"), api_client("manager")
    made = post(author, "/rollouts", recipe_for(it, times={"soak_s": 0}))
    assert made.status_code == 201, made.content
    body = made.json()
    path = f"/rollouts/{body['id']}"
    assert (body["state"], body["sites"], [one["verb"] for one in body["effects"]]) == ("planned", 3, ["submit"])
    assert body["plan"]["waves"][1]["sites"] == 2
    assert body["effects"][0]["path"] == f"/api/v1{path}/submit"

    def said(client: Any, verb: str, **more: Any) -> Any:
        answer = post(client, f"{path}/{verb}", {"expect": body["plan_hash"]} | more)
        assert answer.status_code == 200, answer.content
        return answer.json()

    assert said(author, "submit")["state"] == "awaiting_approval"
    assert_error(post(author, f"{path}/approve", {"expect": body["plan_hash"]}), 403, "not_allowed")
    approved = said(manager, "approve", reason="looks good")
    assert approved["asked"] == {"people": 1, "providers": [], "missing": ""}
    tick()
    seen = get(author, path)
    assert (seen["state"], seen["counts"], seen["waves"][0]["state"]) == (
        "running",
        {"claimed": 1, "queued": 2},
        "open",
    )
    assert said(author, "pause", reason="wait")["pause"] == "stopped"
    assert said(author, "freeze", reason="wait more", seconds=60)["pause"] == "frozen"
    assert said(author, "resume")["state"] == "running"
    assert said(author, "abort", reason="enough")["state"] == "aborting"
    assert said(author, "roll-back", reason="all of it")["state"] == "rolling_back"
    events = get(author, f"{path}/events")["items"]
    told = [one["event"] for one in reversed(events) if one["thing"] == "rollout"]
    assert told == ["plan", "submit", "approve", "start", "pause", "pause", "resume", "abort", "roll_back"]
    (word,) = get(author, f"{path}/approvals")["items"]
    assert (word["yes"], word["reason"], word["counts"], word["provider"]) == (True, "looks good", True, None)
    exact = get(author, f"{path}/plan")
    assert exact["plan_hash"] == "sha256:" + hashlib.sha256(exact["text"].encode()).hexdigest()
    assert exact["recipe"]["name"] == "summer"


def test_a_create_that_is_sent_twice_is_done_once(play, api_client):
    it = play(1)
    forget()
    client = api_client("operator")
    recipe = recipe_for(it, waves=[{"name": "all"}])
    first, again = (post(client, "/rollouts", recipe, **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(get(client, "/rollouts")["items"]) == 1


def test_a_command_that_is_sent_twice_is_said_once(play, api_client):
    it = play(1)
    client = api_client("operator")
    body = {"expect": it.rollout.plan_hash}
    path = f"/rollouts/{it.rollout.pk}/submit"
    first, again = (post(client, path, body, **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert_error(post(client, path, body), 409, "conflict")


def test_another_plan_voids_what_was_approved_and_needs_the_plan_that_was_seen(play, api_client):
    it = play(2)
    client = api_client("operator")
    it.do(control.submit)
    it.do(control.approve, it.approver)
    path = f"/rollouts/{it.rollout.pk}/plan"
    changed = put(client, path, {"expect": it.rollout.plan_hash, "recipe": recipe_for(it)})
    assert changed.status_code == 200, changed.content
    body = changed.json()
    assert (body["name"], body["state"], body["plan_hash"] != it.rollout.plan_hash) == ("summer", "planned", True)
    assert [one["counts"] for one in body["approvals"]] == [False]
    late = put(client, path, {"expect": it.rollout.plan_hash, "recipe": recipe_for(it, name="late")})
    assert_error(late, 409, "conflict")
    assert get(client, f"/rollouts/{it.rollout.pk}")["name"] == "summer"


# Two at once, and large numbers -----------------------------------------------------------------------------
def test_of_two_who_press_at_once_the_later_reads_why_not(play, api_client):
    it = play(2).run()
    one, other = api_client("operator"), api_client("operator")
    it.do(control.pause, reason="wait")
    since = get(one, f"/rollouts/{it.rollout.pk}")["since"]
    assert say(one, it, "resume", since=since).status_code == 200
    it.do(control.pause, reason="something new")
    error = assert_error(say(other, it, "resume", since=since), 409, "conflict")
    assert error["message"].startswith("It has moved meanwhile: it is paused since ")
    assert it.now().state == "paused"
    assert_error(say(other, it, "resume", expect="sha256:" + "0" * 64), 409, "conflict")
    again = get(other, f"/rollouts/{it.rollout.pk}")["since"]
    assert say(other, it, "resume", since=again).status_code == 200
    assert_error(say(other, it, "resume"), 409, "conflict")


def test_more_than_fifty_sites_are_agreed_to_by_their_number(play, api_client):
    it = play(50, 1, approvals={"needed": 1, "two_above": 1000})
    it.do(control.submit)
    manager, operator = api_client("manager"), api_client("operator")
    error = assert_error(say(manager, it, "approve"), 422, "invalid")
    assert error == {
        "code": "invalid",
        "message": "It touches 51 sites: agree to them by sending their number.",
        "details": {"sites": "51 are touched"},
    }
    assert_error(say(manager, it, "approve", sites=50), 409, "conflict")
    assert get(manager, f"/rollouts/{it.rollout.pk}/approvals")["items"] == []
    assert say(manager, it, "approve", sites=51).status_code == 200
    tick()
    assert_error(say(operator, it, "abort", reason="no"), 422, "invalid")
    assert it.now().state == "running"
    assert say(operator, it, "freeze", reason="no number is asked for at night").status_code == 200
    assert say(operator, it, "abort", reason="no", sites=60).status_code == 200


def test_fifty_sites_need_no_number_but_one_that_is_sent_counts(play, api_client):
    it = play(50)
    it.do(control.submit)
    manager = api_client("manager")
    assert_error(say(manager, it, "approve", sites=49), 409, "conflict")
    assert say(manager, it, "approve").status_code == 200


# Gates that ask people --------------------------------------------------------------------------------------
def test_a_gate_that_asks_is_answered(play, api_client):
    it = play(1, 1)
    it.values["waves"][0]["gates"] = [{"type": "human", "question": "Do the tills work?"}]
    it.rollout = it.plan(it.rollout)
    it.run()
    it.applied(0)
    for _ in range(4):
        tick()
    assert it.waves() == "held pending"
    client, path = api_client("operator"), f"/rollouts/{it.rollout.pk}"
    effects = {one["verb"]: one for one in get(client, path)["effects"] if one["choice"] is None}
    assert effects["answer"]["words"][0] == "Do the tills work?"
    (evaluation,) = get(client, f"{path}/evaluations")["items"]
    assert (evaluation["wave"], evaluation["outcome"]) == (0, "inconclusive")
    assert_error(say(client, it, "answer", wave=1, yes=True), 409, "conflict")
    assert_error(say(client, it, "resume"), 409, "conflict")  # nothing goes on silently
    assert_error(say(client, it, "resume", choice="skip_wave"), 409, "conflict")  # a reason is needed
    assert_error(say(client, it, "resume", choice="nonsense"), 422, "invalid")
    assert say(client, it, "answer", wave=0, yes=True).status_code == 200
    tick()
    tick()
    assert it.waves() == "passed open"
