"""Buttons of rollouts: what a page says before it does it, the typed number, reasons, two people at once, denials."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from fleet.people.models import User
from fleet.rollouts import effects
from fleet.rollouts.models import Approval, Hold, RolloutEvent, SiteStep
from fleet.rollouts.services import control, holds
from fleet.rollouts.services.ticking import tick
from fleet.rollouts.views.commands import COMMANDS
from tests.conftest import TEST
from tests.fleet.rollouts.played import Played

pytestmark = pytest.mark.usefixtures("database", "plain_static")
Play = Callable[..., Played]
HUMAN = {"type": "human", "question": "Do the tills work?"}


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def press(client: Any, it: Played, verb: str, choice: str = "", **values: Any) -> Any:
    """Open the page of a button, and send its form with these values changed."""
    address = f"/rollouts/{it.rollout.pk}/do/{verb}/"
    page = client.get(address, {"choice": choice} if choice else {})
    if page.status_code != 200:
        return page
    return client.post(address, {**sent_by(page), **values})


def sent_by(page: Any) -> dict[str, Any]:
    form, effect = page.context["form"], page.context["effect"]
    hidden = {name: form[name].value() for name in ("expect", "mark")}
    return {**hidden, "shown": effect.sites, **({"choice": str(effect.choice)} if effect.choice else {})}


def said(response: Any) -> list[str]:
    return [str(message) for message in response.wsgi_request._messages] if response.status_code == 302 else []


def is_held(it: Played) -> None:
    it.rollout = it.plan(it.rollout, waves=[{**wave, "gates": []} for wave in it.values["waves"]])
    it.run()
    it.fails(0)
    tick()
    assert it.now().pause == "held"


# What they do -----------------------------------------------------------------------------------------------
def test_from_the_plan_to_the_rollback_by_pressing_buttons(play: Play, signed_in: Any):
    it = play(1, 1, start_at=(timezone.now() + timedelta(days=1)).isoformat())
    noc, boss = signed_in("operator"), signed_in("manager")
    page = noc.get(f"/rollouts/{it.rollout.pk}/do/submit/")
    assert page.context["effect"].words[0] == "1 person must approve it; who planned it does not count."
    assert said(press(noc, it, "submit")) == ["spring: It waits for approval now."]
    assert press(boss, it, "approve", reason="fine").status_code == 302
    tick()
    assert press(noc, it, "start").status_code == 302
    tick()
    assert (it.now().state, it.states()) == ("running", "claimed queued")
    page = noc.get(f"/rollouts/{it.rollout.pk}/do/freeze/")
    assert "1 site at work hold" in page.context["effect"].words[0]
    assert press(noc, it, "freeze", reason="the tills ring", hours="2").status_code == 302
    assert (it.now().pause, it.now().reason) == ("frozen", "the tills ring")
    assert it.now().until < timezone.now() + timedelta(hours=3)
    assert press(noc, it, "resume").status_code == 302
    assert it.now().state == "running"
    assert press(noc, it, "abort", reason="never mind").status_code == 302
    tick()
    with scope(TEST):
        SiteStep.objects.filter(rollout=it.rollout, wave=0).update(origin="none")
    page = noc.get(f"/rollouts/{it.rollout.pk}/do/roll_back/")
    assert "Of 1 site it is not known what it had proven before: it stays as it is." in page.content.decode()
    assert press(noc, it, "roll_back", reason="as it was").status_code == 302
    assert it.now().state == "rolling_back"


def test_a_wave_that_is_held_offers_its_ways_on(play: Play, signed_in: Any):
    it = play(2)
    is_held(it)
    noc = signed_in("operator")
    content = noc.get(f"/rollouts/{it.rollout.pk}/").content.decode()
    for key in ("resume-retry", "resume-skip_failed", "resume-skip_wave", "resume-recheck", "abort", "roll_back"):
        assert f'id="do-{key}"' in content
    response = press(noc, it, "resume", "skip_failed", reason=" ")
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["reason"])
    assert it.now().state == "paused"
    assert press(noc, it, "resume", "skip_failed", reason="the shop is closed").status_code == 302
    assert (it.now().state, it.states().split()[0]) == ("running", "skipped")


def test_a_wave_is_sent_back_by_its_own_button(play: Play, signed_in: Any):
    it = play(2, 2).run()
    noc = signed_in("operator")
    with scope(TEST):  # one of it caught up, one has nothing to go back to, as have those of the other wave
        steps = SiteStep.objects.filter(rollout=it.rollout)
        steps.filter(pk=steps.filter(wave=0).order_by("pk")[0].pk).update(lane=True)
        steps.filter(pk=steps.filter(wave=0).order_by("pk")[1].pk).update(origin="none")
        steps.filter(wave=1).update(origin="none")
    page = noc.get(f"/rollouts/{it.rollout.pk}/do/roll_back_wave/")
    assert page.context["effect"].words[0].startswith("2 sites of wave")
    assert "Of 1 site it is not known what it had proven before: it stays as it is." in page.content.decode()
    assert press(noc, it, "roll_back_wave", reason="the tills are slow").status_code == 302
    assert (it.now().state, it.now().pause, it.waves()) == ("paused", "held", "held pending")
    assert press(noc, it, "roll_back_wave", reason="again").status_code == 302
    assert 'id="do-roll_back_wave"' not in noc.get(f"/rollouts/{it.rollout.pk}/").content.decode()


def test_a_person_answers_the_question_of_a_gate(play: Play, signed_in: Any):
    it = play(1, 1)
    first, second = it.values["waves"]
    it.rollout = it.plan(it.rollout, waves=[{**first, "gates": [HUMAN]}, second])
    it.run()
    it.applied(0)
    for _ in range(4):
        tick()
    assert it.waves() == "held pending"
    noc = signed_in("operator")
    page = noc.get(f"/rollouts/{it.rollout.pk}/do/answer/")
    assert page.context["effect"].words[0] == "Do the tills work?"
    response = press(noc, it, "answer")
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["answer"])
    assert press(noc, it, "answer", answer="yes").status_code == 302
    tick()
    assert it.waves() == "passed open"


# Before they do it ------------------------------------------------------------------------------------------
def test_above_a_number_of_sites_it_is_typed(play: Play, signed_in: Any, monkeypatch: Any):
    monkeypatch.setattr(effects, "TYPED_ABOVE", 1)
    it = play(3).run()
    noc = signed_in("operator")
    for typed in ({}, {"typed": "2"}, {"typed": "three"}):
        response = press(noc, it, "abort", reason="no", **typed)
        assert (response.status_code, list(response.context["form"].errors)) == (422, ["typed"])
        assert it.now().state == "running"
    response = press(noc, it, "abort", reason="no", typed="2", shown="2")
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["__all__"])
    assert "It would touch 3 sites by now" in response.content.decode()
    assert it.now().state == "running"
    assert press(noc, it, "pause", reason="no").status_code == 302
    assert press(noc, it, "abort", reason="no", typed=" 3 ").status_code == 302
    assert it.now().state == "aborting"


@pytest.mark.parametrize("verb", ["pause", "freeze", "roll_back_wave", "abort", "roll_back"])
def test_others_read_why(play: Play, signed_in: Any, verb: str):
    it = play(1).run()
    response = press(signed_in("operator"), it, verb)
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["reason"])
    assert it.now().state == "running"
    assert press(signed_in("operator"), it, verb, reason="the tills ring").status_code == 302
    with scope(TEST):
        assert AuditEntry.objects.filter(action=f"rollout.{verb}").get().note == "the tills ring"


# Two people at once -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["pause", "freeze", "roll_back_wave", "abort", "roll_back"])
def test_of_two_who_press_at_once_the_second_reads_a_sentence(play: Play, signed_in: Any, verb: str):
    it = play(1).run()
    first, second = signed_in("operator"), signed_in("admin")
    address = f"/rollouts/{it.rollout.pk}/do/{verb}/"
    bodies = [{**sent_by(client.get(address)), "reason": "now"} for client in (first, second)]
    assert first.post(address, bodies[0]).status_code == 302
    before = it.now().state, it.now().since, it.events()
    response = second.post(address, bodies[1], follow=True)
    assert "Nothing was done" in response.content.decode()
    assert (it.now().state, it.now().since, it.events()) == before


def test_what_was_meant_for_one_hold_does_nothing_to_the_next(play: Play, signed_in: Any):
    it = play(2)
    is_held(it)
    noc = signed_in("operator")
    address = f"/rollouts/{it.rollout.pk}/do/resume/"
    body = {**sent_by(noc.get(address, {"choice": "skip_wave"})), "reason": "the shop is closed"}
    it.do(control.resume, choice="retry")
    tick()
    it.fails(0)
    tick()
    assert it.now().pause == "held"
    assert "maybe somebody was faster" in noc.post(address, body, follow=True).content.decode()
    assert it.waves() == "held"


def test_what_was_seen_of_another_plan_is_refused(play: Play, signed_in: Any):
    it = play(1)
    it.do(control.submit)
    boss = signed_in("manager")
    address = f"/rollouts/{it.rollout.pk}/do/approve/"
    body = sent_by(boss.get(address))
    it.rollout = it.plan(it.rollout, name="autumn")
    it.do(control.submit)
    assert "Somebody changed the plan" in boss.post(address, body, follow=True).content.decode()
    with scope(TEST):
        assert Approval.objects.count() == 0


# Denials ----------------------------------------------------------------------------------------------------
RUNS = [verb for verb in COMMANDS if verb not in ("submit", "approve", "reject")]


@pytest.mark.parametrize("verb", [*RUNS, "submit"])
@pytest.mark.parametrize("role", ["viewer", "manager", "provider_operator", "provider_viewer"])
def test_who_may_not_run_rollouts_presses_nothing(play: Play, signed_in: Any, make_provider: Any, role: str, verb: str):
    own = make_provider()
    it = play(1, provider=own)
    if verb != "submit":
        it.run()
    client = signed_in(role, **({"provider": own} if role.startswith("provider") else {}))
    body = {"expect": it.rollout.plan_hash, "shown": "1", "reason": "no", "answer": "yes", "choice": "retry"}
    before = it.now().state
    for choice in ("", "retry"):
        assert client.get(f"/rollouts/{it.rollout.pk}/do/{verb}/", {"choice": choice}).status_code == 403
    assert client.post(f"/rollouts/{it.rollout.pk}/do/{verb}/", body).status_code == 403
    assert it.now().state == before
    assert 'id="do-' not in client.get(f"/rollouts/{it.rollout.pk}/").content.decode()


@pytest.mark.parametrize("verb", ["approve", "reject"])
@pytest.mark.parametrize("role", ["viewer", "operator", "provider_viewer", "provider_operator"])
def test_who_may_not_approve_does_not(play: Play, signed_in: Any, make_provider: Any, role: str, verb: str):
    own = make_provider()
    it = play(1, provider=own)
    it.do(control.submit)
    client = signed_in(role, **({"provider": own} if role.startswith("provider") else {}))
    body = {"expect": it.rollout.plan_hash, "shown": "1", "reason": "no"}
    for response in (
        client.get(f"/rollouts/{it.rollout.pk}/do/{verb}/"),
        client.post(f"/rollouts/{it.rollout.pk}/do/{verb}/", body),
    ):
        assert response.status_code == 403
    with scope(TEST):
        assert Approval.objects.count() == 0


def test_the_author_does_not_approve_even_as_an_administrator(play: Play, make_person: Any, client: Any):
    it = play(1)
    with scope(TEST):
        author = User.objects.get(pk=it.author[0].user_id)
        author.memberships.update(role="admin")
    it.do(control.submit)
    client.force_login(author)
    assert client.get(f"/rollouts/{it.rollout.pk}/do/approve/").status_code == 403
    assert 'id="do-approve"' not in client.get(f"/rollouts/{it.rollout.pk}/").content.decode()


def test_a_provider_that_is_asked_approves_its_own_and_reads_of_nobody_else(
    play: Play, signed_in: Any, make_provider: Any
):
    own = make_provider()
    it = play(1, provider=own, approvals={"needed": 1, "providers": [own.pk]})
    it.do(control.submit)
    client = signed_in("provider_operator", provider=own)
    assert 'id="do-approve"' in client.get(f"/rollouts/{it.rollout.pk}/").content.decode()
    page = client.get(f"/rollouts/{it.rollout.pk}/do/approve/")
    assert page.context["effect"].words == (
        "You agree that 1 site of yours are changed by this very plan. Others may have to agree too.",
    )
    assert press(client, it, "approve").status_code == 302
    with scope(TEST):
        assert list(Approval.objects.values_list("provider_id", "yes")) == [(own.pk, True)]


# Holds ------------------------------------------------------------------------------------------------------
def test_a_provider_holds_its_site_and_lifts_it_again(play: Play, signed_in: Any, make_provider: Any):
    own = make_provider()
    it = play(2, provider=own)
    client, slug = signed_in("provider_operator", provider=own), it.sites[0].slug
    assert client.get(f"/sites/{slug}/hold/").status_code == 200
    response = client.post(f"/sites/{slug}/hold/", {"reason": "", "hours": "9999"})
    assert (response.status_code, sorted(response.context["form"].errors)) == (422, ["hours", "reason"])
    assert client.post(f"/sites/{slug}/hold/", {"reason": "stocktaking", "hours": "2"}).status_code == 302
    it.run()
    assert it.states() == "deferred claimed"
    with scope(TEST):
        held = Hold.objects.get()
    assert f'id="lift-{held.pk}"' in client.get(f"/rollouts/{it.rollout.pk}/").content.decode()
    assert f'id="lift-{held.pk}"' in client.get(f"/sites/{slug}/rollouts/").content.decode()
    assert client.post(f"/rollouts/{it.rollout.pk}/lift/", {"hold": held.pk}).status_code == 302
    with scope(TEST):
        assert Hold.objects.get().lifted_at is not None
    response = client.post(f"/sites/{slug}/lift/", {"hold": held.pk}, follow=True)
    assert "It has ended already" in response.content.decode()


def test_who_may_not_hold_neither_holds_nor_lifts(play: Play, signed_in: Any, access: Any):
    it = play(1)
    actor, rights = access("admin")
    until = timezone.now() + timedelta(hours=1)
    held = holds.hold(actor=actor, rights=rights, site=it.sites[0], reason="stocktaking", until=until)
    client, slug = signed_in("viewer"), it.sites[0].slug
    for response in (
        client.get(f"/sites/{slug}/hold/"),
        client.post(f"/sites/{slug}/hold/", {"reason": "stocktaking", "hours": "2"}),
        client.post(f"/sites/{slug}/lift/", {"hold": held.pk}),
        client.post(f"/rollouts/{it.rollout.pk}/lift/", {"hold": held.pk}),
    ):
        assert response.status_code == 403
    assert client.post(f"/rollouts/{it.rollout.pk}/lift/", {"hold": "x"}).status_code == 404
    assert 'id="lift-' not in client.get(f"/rollouts/{it.rollout.pk}/").content.decode()
    with scope(TEST):
        assert list(Hold.objects.values_list("lifted_at", flat=True)) == [None]
        assert RolloutEvent.objects.filter(thing="step").count() == 0
