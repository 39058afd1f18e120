"""What people may say to rollouts: every right with its denial, every guard, holds, and what a provider sees."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, transaction
from django.utils import timezone

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.models import Hold, Rollout, RolloutEvent, SiteStep, Wave
from fleet.rollouts.services import control, holds
from fleet.rollouts.services.ticking import tick
from sites.services.sites import change_life
from tests.conftest import TEST, everything
from tests.fleet.rollouts.played import Played
from tests.fleet.standards.factories import make_standard

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]
RUN = {
    control.start: {},
    control.pause: {"reason": "wait"},
    control.freeze: {"reason": "wait"},
    control.resume: {},
    control.answer: {"wave": 0, "yes": True},
    control.abort: {"reason": "no"},
    control.roll_back_wave: {"reason": "no"},
    control.roll_back: {"reason": "no"},
    control.reopen_lane: {"reason": "again"},
}


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def in_an_hour() -> Any:
    return timezone.now() + timedelta(hours=1)


# Rights -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", RUN, ids=lambda command: command.__name__)
@pytest.mark.parametrize("role", ["viewer", "manager", "provider_operator", "provider_viewer"])
def test_only_operators_and_administrators_run_rollouts(
    play: Play, access: Any, make_provider: Any, command: Any, role: str
):
    it = play(1)
    who = access(role, provider=make_provider()) if role.startswith("provider") else access(role)
    with pytest.raises(NotAllowed):
        it.do(command, who, **RUN[command])
    assert it.now().state == "planned"


@pytest.mark.parametrize("role", ["viewer", "manager"])
def test_only_operators_and_administrators_plan(play: Play, access: Any, role: str):
    it = play(1)
    it.author = access(role)
    for act in (lambda: it.plan(name="other"), lambda: it.do(control.submit)):
        with pytest.raises(NotAllowed):
            act()
    with scope(TEST):
        assert Rollout.objects.count() == 1


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_managers_and_administrators_approve(play: Play, access: Any, role: str):
    it = play(1)
    it.do(control.submit)
    for command, options in ((control.approve, {}), (control.reject, {"reason": "no"})):
        with pytest.raises(NotAllowed):
            it.do(command, access(role), **options)
    tick()
    assert it.now().state == "awaiting_approval"


def test_the_author_never_approves(play: Play, make_person: Any):
    it = play(1)
    it.author = access_of(make_person("admin"))
    it.rollout = it.plan(it.rollout)
    it.do(control.submit)
    with pytest.raises(NotAllowed, match="Who planned it"):
        it.do(control.approve)


def test_an_operator_of_some_regions_neither_plans_nor_runs(play: Play, access: Any):
    it = play(1)
    who = access("operator", regions=["DACH"])
    for command in (control.submit, control.start):
        with pytest.raises(NotAllowed):
            it.do(command, who)


def test_a_provider_approves_only_where_the_plan_asks_it(play: Play, access: Any, make_provider: Any):
    own, other = make_provider(), make_provider()
    it = play(1, provider=own, approvals={"needed": 2, "providers": [own.pk]})
    it.do(control.submit)
    with pytest.raises(NotFound):
        it.do(control.approve, access("provider_operator", provider=other))
    with pytest.raises(NotAllowed):
        it.do(control.approve, access("provider_viewer", provider=own))
    assert it.do(control.approve, access("provider_operator", provider=own)).provider_id == own.pk
    tick()
    assert it.now().state == "awaiting_approval"
    it.do(control.approve, it.approver)
    tick()
    assert it.now().state == "running"


# Guards -----------------------------------------------------------------------------------------------------
def test_an_edit_voids_approvals_and_what_was_seen_before_it_is_refused(play: Play):
    it = play(1, start_at=(timezone.now() + timedelta(days=1)).isoformat())
    it.do(control.submit)
    it.do(control.approve, it.approver)
    tick()
    assert it.now().state == "scheduled"
    before, it.rollout = it.rollout, it.plan(it.rollout, name="autumn")
    assert (it.now().state, it.now().approved_hash) == ("planned", "")
    with pytest.raises(Conflict, match="changed the plan"):
        it.do(control.submit, expect=before.plan_hash)
    with pytest.raises(Conflict, match="changed the plan"):
        it.plan(before, name="winter")
    it.do(control.submit)
    tick()
    assert it.now().state == "awaiting_approval"
    with pytest.raises(Conflict, match="changed the plan"):
        it.do(control.approve, it.approver, expect=before.plan_hash)


def test_what_the_state_forbids_is_said(play: Play):
    it = play(1)
    for command, options, words in (
        (control.start, {}, "cannot start"),
        (control.pause, {"reason": "wait"}, "is planned cannot pause"),
        (control.resume, {}, "cannot resume"),
        (control.abort, {"reason": "no"}, "cannot abort"),
        (control.roll_back_wave, {"reason": "no"}, "cannot pause"),
        (control.roll_back, {"reason": "no"}, "cannot roll back"),
        (control.reopen_lane, {"reason": "no"}, "not halted"),
    ):
        with pytest.raises(Conflict, match=words):
            it.do(command, **options)
    with pytest.raises(Conflict, match="does not wait for approval"):
        it.do(control.approve, it.approver)


def test_two_people_who_press_at_once_do_one_thing(play: Play, access: Any):
    it = play(1).run()
    it.do(control.abort, reason="the tills ring")
    with pytest.raises(Conflict, match="cannot abort"):
        it.do(control.abort, access("admin"), reason="the tills ring")


def test_a_rollout_that_is_not_approved_is_not_started_by_hand(play: Play):
    it = play(1, start_at=(timezone.now() + timedelta(days=1)).isoformat(), approvals={"needed": 2})
    it.do(control.submit)
    it.do(control.approve, it.approver)
    tick()
    with pytest.raises(Conflict):
        it.do(control.start)
    assert it.now().state == "awaiting_approval"


def test_an_approved_rollout_is_started_before_its_time(play: Play):
    it = play(1, start_at=(timezone.now() + timedelta(days=1)).isoformat())
    it.do(control.submit)
    it.do(control.approve, it.approver)
    tick()
    it.do(control.start)
    tick()
    assert (it.now().state, it.states()) == ("running", "claimed")


def test_one_no_rejects(play: Play):
    it = play(1, approvals={"needed": 2})
    it.do(control.submit)
    it.do(control.approve, it.approver)
    with pytest.raises(Invalid):
        it.do(control.reject, it.approver, reason=" ")
    it.do(control.reject, it.approver, reason="not before Christmas")
    tick()
    assert it.now().state == "rejected"


def test_a_held_wave_needs_a_choice(play: Play):
    it = play(1)
    it.rollout = it.plan(it.rollout, waves=[{**it.values["waves"][0], "gates": []}])
    it.run()
    it.fails(0)
    tick()
    with pytest.raises(Conflict, match="A wave is held: choose"):
        it.do(control.resume)
    with pytest.raises(Conflict, match="A reason is needed"):
        it.do(control.resume, choice=Choice.SKIP_FAILED)
    it.do(control.resume, choice=Choice.SKIP_WAVE, reason="the shop is closed for good")
    tick()
    assert (it.now().state, it.states()) == ("partially_succeeded", "skipped")


def test_what_is_wrong_with_a_plan_is_said(play: Play, make_site: Any):
    it = play(1)
    gone = make_site()
    change_life(actor=TEST, rights=everything(), site=gone, life="retired")
    wave = it.values["waves"][0]
    make_standard("draft", state="draft", published_at=None, published_by="")
    for change, words in (
        ({"standard": "no-such"}, "Name a standard"),
        ({"standard": "draft"}, "draft is not published"),
        ({"waves": []}, "There are no waves"),
        ({"waves": [{**wave, "sites": []}]}, "has no sites"),
        ({"waves": [{**wave, "sites": [gone.pk, 999_999]}]}, "2 sites are not there, or not active"),
        ({"speed": 9}, "speed"),
    ):
        with pytest.raises(Invalid, match=words):
            it.plan(**change)
    it.run()
    with pytest.raises(Invalid, match="1 of these sites are in 'spring', which still runs"):
        it.plan(name="other")


def test_everything_is_audited(play: Play):
    it = play(1).run()
    it.do(control.pause, reason="wait for the boss")
    with scope(TEST):
        rows = AuditEntry.objects.filter(object_type="rollout").order_by("pk")
        assert list(rows.values_list("action", "note")) == [
            ("rollout.plan", ""),
            ("rollout.submit", ""),
            ("rollout.approve", ""),
            ("rollout.pause", "wait for the boss"),
        ]


# Holds ------------------------------------------------------------------------------------------------------
def test_a_provider_holds_its_own_site_and_lifts_it(play: Play, access: Any, make_provider: Any):
    own = make_provider()
    it = play(2, provider=own)
    actor, rights = access("provider_operator", provider=own)
    held = holds.hold(actor=actor, rights=rights, site=it.sites[1], reason="stocktaking", until=in_an_hour())
    it.run()
    assert (it.states(), it.step(1).wait, it.step(1).reason) == ("claimed deferred", "held", "stocktaking")
    holds.lift(actor=actor, rights=rights, held=held)
    with pytest.raises(Conflict, match="ended already"):
        holds.lift(actor=actor, rights=rights, held=held)
    tick()
    tick()
    assert it.states() == "claimed claimed"


def test_a_provider_holds_nothing_of_others(play: Play, access: Any, make_provider: Any):
    own, other = make_provider(), make_provider()
    it = play(1, provider=other)
    actor, rights = access("provider_operator", provider=own)
    for where in ({"site": it.sites[0]}, {"provider": other}, {"region": "DACH"}, {}):
        with pytest.raises(NotAllowed):
            holds.hold(actor=actor, rights=rights, reason="stocktaking", until=in_an_hour(), **where)
    theirs = access("provider_operator", provider=other)
    held = holds.hold(actor=theirs[0], rights=theirs[1], provider=other, reason="stocktaking", until=in_an_hour())
    with pytest.raises(NotFound):
        holds.lift(actor=actor, rights=rights, held=held)
    with pytest.raises(NotAllowed):
        holds.override(actor=actor, rights=rights, held=held, reason="it is urgent")


@pytest.mark.parametrize("role", ["viewer", "provider_viewer"])
def test_viewers_hold_nothing(play: Play, access: Any, make_provider: Any, role: str):
    own = make_provider()
    it = play(1, provider=own)
    actor, rights = access(role, provider=own) if role == "provider_viewer" else access(role)
    with pytest.raises(NotAllowed):
        holds.hold(actor=actor, rights=rights, site=it.sites[0], reason="stocktaking", until=in_an_hour())


def test_holds_end_within_a_month(access: Any):
    actor, rights = access("admin")
    for until in (timezone.now(), timezone.now() + timedelta(days=31)):
        with pytest.raises(Invalid):
            holds.hold(actor=actor, rights=rights, reason="stocktaking", until=until)


def test_two_people_override_a_hold_for_security(play: Play, access: Any):
    it = play(1, severity="security")
    actor, rights = access("admin")
    held = holds.hold(actor=actor, rights=rights, reason="stocktaking", until=in_an_hour())
    for _ in range(2):
        holds.override(actor=actor, rights=rights, held=held, reason="it is urgent")
    it.run()
    assert it.states() == "deferred"
    second = access("manager")
    holds.override(actor=second[0], rights=second[1], held=held, reason="it is urgent")
    with scope(TEST):
        assert len(Hold.objects.get(pk=held.pk).overridden_by) == 2
    tick()
    tick()
    assert it.states() == "claimed"


def test_a_provider_calendar_defers_its_sites(play: Play, access: Any, make_provider: Any):
    own = make_provider()
    it = play(1, provider=own)
    actor, rights = access("admin")
    begin = (timezone.now() - timedelta(days=1)).replace(tzinfo=None).isoformat()
    calendar = {"freezes": [{"begin": begin, "end": None, "reason": "Christmas"}]}
    holds.set_calendar(actor=actor, rights=rights, provider=own, calendar=calendar)
    it.run()
    assert (it.states(), it.step(0).wait) == ("deferred", "window")
    with pytest.raises(Invalid, match="no calendar"):
        holds.set_calendar(actor=actor, rights=rights, provider=own, calendar={"windows": [{"days": [9]}]})
    viewer = access("operator")
    with pytest.raises(NotAllowed):
        holds.set_calendar(actor=viewer[0], rights=viewer[1], provider=own, calendar=calendar)
    holds.set_calendar(actor=actor, rights=rights, provider=own, calendar={})
    tick()
    tick()
    assert it.states() == "claimed"


# What a provider sees ---------------------------------------------------------------------------------------
def test_a_provider_sees_its_own_steps_and_no_totals(play: Play, access: Any, make_provider: Any, make_site: Any):
    own = make_provider()
    it = play(2, 1)
    with scope(TEST):
        SiteStep.objects.filter(site=it.sites[0]).update(provider=own)
    it.run()
    who, _ = access("provider_viewer", provider=own)
    with scope(who):
        assert list(SiteStep.objects.values_list("site_id", flat=True)) == [it.sites[0].pk]
        assert list(Rollout.objects.values_list("name", "state")) == [("spring", "running")]
        assert list(Wave.objects.values_list("name", "state")) == [("wave 0", "open")]
        assert set(RolloutEvent.objects.values_list("step__site_id", flat=True)) == {it.sites[0].pk}
        for hidden in ("plan", "sites", "reason", "author_id", "approved_hash"):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                list(Rollout.objects.values_list(hidden))
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            list(Wave.objects.values_list("reason"))
    stranger, _ = access("provider_viewer", provider=make_provider())
    with scope(stranger):
        found = [SiteStep.objects.count(), Rollout.objects.only("id").count(), RolloutEvent.objects.count()]
    assert found == [0, 0, 0]
