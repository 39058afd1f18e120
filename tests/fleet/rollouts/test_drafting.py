"""From a recipe to a plan: selections, waves, what is refused; and what each button says before it is pressed."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from fleet.kit.errors import Invalid
from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from fleet.rollouts.effects import Effect, effect_of, effects, own_effects
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.selectors.drafting import Drafted, draft, preview_of
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import speakers
from fleet.rollouts.selectors.rollouts import (
    counts_by_wave,
    events_of,
    get_rollout,
    holds_in,
    providers_asked,
    rollouts_in,
    rollouts_of_site,
    steps_of,
    waves_of,
)
from fleet.rollouts.services import control
from fleet.rollouts.services.planning import plan_rollout
from fleet.rollouts.services.ticking import tick
from fleet.rollouts.states import RolloutState
from fleet.standards.services.judging import judge_all
from tests.conftest import TEST
from tests.fleet.rollouts.played import NEW_POS, Played
from tests.fleet.standards.factories import make_ring, report
from tests.sites.builders import KERNEL

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def drafted(it: Played, select: dict[str, Any], *waves: dict[str, Any], **rest: Any) -> Drafted:
    value: dict[str, Any] = {"name": "spring", "standard": it.standard.name, "select": select, **rest}
    if waves:
        value["waves"] = list(waves)
    actor, _ = it.author
    with scope(actor):
        return draft(actor, value, timezone.now(), but_rollout=it.rollout.pk)


def sizes(found: Drafted) -> list[int]:
    assert found.plan is not None, found.fault
    return [len(wave.sites) for wave in found.plan.waves]


# Selections -------------------------------------------------------------------------------------------------
def test_nothing_selected_is_an_error_and_everything_must_be_said(play: Play):
    it = play(3)
    with pytest.raises(Invalid, match="which sites"):
        drafted(it, {})
    assert sizes(drafted(it, {"everything": True}, {"name": "all"})) == [3]


@pytest.mark.parametrize(
    ("select", "count"),
    [
        ({"regions": ["NORDICS"]}, 1),
        ({"providers": ["other"]}, 1),
        ({"rings": ["canary"]}, 1),
        ({"labels": {"arch": "arm64"}}, 1),
        ({"text": "spring-field"}, 1),
        ({"kinds": ["up"], "everything": True}, 3),
        ({"regions": ["NORDICS"], "rings": ["canary"]}, 0),
    ],
)
def test_each_part_of_a_selection_narrows(play: Play, make_site: Any, make_provider: Any, select: Any, count: int):
    it = play(3)
    made = [
        make_site(region="NORDICS"),
        make_site(provider=make_provider("other")),
        make_site(ring="canary"),
        make_site(labels={"arch": "arm64"}),
        make_site(slug="spring-field"),
    ]
    assert len(drafted(it, select).sites) == count, made


def test_an_unknown_slug_is_told(play: Play):
    it = play(1)
    with pytest.raises(Invalid, match="1 site is not there, or not active: nowhere"):
        drafted(it, {"sites": [it.sites[0].slug, "nowhere"]})


def test_sites_in_drift_from_a_standard_can_be_selected(play: Play):
    it = play(3)
    make_ring(it.standard)
    report(it.sites[0], KERNEL, NEW_POS)
    judge_all()
    assert set(drafted(it, {"compliance": "drift"}).sites) == {site.pk for site in it.sites[1:]}
    one = {"kind": "workload", "name": "pos"}
    assert set(drafted(it, {"component": one}).sites) == {site.pk for site in it.sites[1:]}
    assert not drafted(it, {"component": {**one, "version": "9.9"}}).sites
    assert len(drafted(it, {"follows": it.standard.name}).sites) == 3


# Waves ------------------------------------------------------------------------------------------------------
def test_without_waves_a_canary_a_tenth_and_the_rest_are_cut(play: Play):
    it = play(12)
    found = drafted(it, {"everything": True})
    assert sizes(found) == [1, 2, 9]
    assert found.plan is not None
    assert [wave.canary for wave in found.plan.waves] == [True, False, False]


def test_waves_by_name_count_and_rest_and_what_conforms_is_left_out(play: Play):
    it = play(4)
    report(it.sites[3], KERNEL, NEW_POS)
    first = it.sites[2].slug
    found = drafted(it, {"everything": True}, {"name": "a", "sites": [first]}, {"name": "b", "count": 1}, {"name": "c"})
    assert sizes(found) == [1, 1, 1]
    assert [(out.site, out.reason) for out in found.left_out] == [(it.sites[3].pk, "runs the standard already")]
    actor, rights = it.author
    made = plan_rollout(
        actor=actor,
        rights=rights,
        values=found.values,
        recipe=found.recipe,
        rollout=it.rollout,
        expect=it.rollout.plan_hash,
    )
    assert made.recipe["waves"][0] == {"name": "a", "sites": [first]}


def test_what_is_no_recipe_is_told_with_its_place(play: Play):
    it = play(1)
    for value, place in (
        ({"waves": [{"name": "a", "share": 2}]}, "waves[0].share"),
        ({"select": {"colour": "red"}}, "select"),
        ({"waves": []}, "waves"),
    ):
        with pytest.raises(Invalid) as raised:
            drafted(it, **{"select": {"everything": True}} | value)
        assert list(raised.value.details) == [place]
    found = drafted(it, {"everything": True}, caps={"in_flight": 0})
    assert (found.plan, found.place) == (None, "caps.in_flight")


def test_a_preview_knows_origins_offline_sites_and_other_rollouts(play: Play, make_site: Any):
    it = play(3)
    it.dark(1)
    fresh = make_site()
    report(fresh, KERNEL)
    actor, _ = it.author
    found = drafted(it, {"everything": True}, {"name": "all"})
    assert found.sites[it.sites[0].pk].origin is Origin.PROVEN
    assert found.sites[fresh.pk].origin is Origin.NONE
    assert not found.sites[it.sites[1].pk].reachable
    with scope(actor):
        seen = preview_of(found, timezone.now())
    assert seen is not None
    assert (seen.waves[0].offline_now, seen.waves[0].lack_origin, seen.may_start) == (1, (fresh.pk,), True)
    it.run()
    with scope(actor):
        again = draft(actor, found.recipe, timezone.now())
    assert sorted(out.reason for out in again.left_out)[:1] == ["rollout 'spring' has it"]


# Effects ----------------------------------------------------------------------------------------------------
def verbs(it: Played) -> list[str]:
    with scope(TEST):
        return [one.key for one in effects(head(it.rollout.pk, timezone.now()), timezone.now())]


def test_each_state_offers_what_can_be_done_in_it(play: Play):
    it = play(2, 2)
    assert verbs(it) == ["submit"]
    it.do(control.submit)
    assert verbs(it) == ["approve", "reject"]
    it.do(control.approve, it.approver)
    tick()
    assert verbs(it) == ["pause", "freeze", "roll_back_wave", "abort", "roll_back"]
    it.do(control.freeze, reason="wait")
    assert verbs(it) == ["resume", "pause", "roll_back_wave", "abort", "roll_back"]
    it.do(control.resume)
    it.fails(0, 1)
    tick()
    held = ["resume-retry", "resume-skip_failed", "resume-skip_wave", "resume-recheck"]
    assert verbs(it) == [*held, "pause", "freeze", "roll_back_wave", "abort", "roll_back"]
    it.do(control.resume, choice=Choice.SKIP_FAILED, reason="known")
    it.do(control.abort, reason="enough")
    assert "abort" not in verbs(it)


def test_effects_count_what_they_touch(play: Play):
    it = play(2, 3).run()
    with scope(TEST):
        seen = head(it.rollout.pk, timezone.now())
        stop, freeze = (effect_of(seen, timezone.now(), verb) for verb in ("pause", "freeze"))
    assert stop is not None
    assert freeze is not None
    assert (stop.sites, freeze.sites, stop.needs_typing) == (3, 5, False)
    assert stop.words[0] == "No further site is begun: 3 sites wait. 2 sites at work finish."
    many = {verb: Effect(verb=verb, label="", words=(), sites=51) for verb in ("pause", "freeze", "abort", "approve")}
    assert [verb for verb, one in many.items() if one.needs_typing] == ["abort", "approve"]


def test_the_question_of_a_wave_is_offered_until_it_is_answered_with_yes(play: Play):
    it = play(1, 2)
    it.values["waves"][0]["gates"] = [{"type": "human", "question": "Do the tills work?"}]
    it.values["waves"][1]["gates"] = [{"type": "human"}]
    it.rollout = it.plan(it.rollout)
    it.run()
    assert "answer" not in verbs(it)
    it.applied(0)
    for _ in range(4):
        tick()
    assert verbs(it)[0] == "answer"
    with scope(TEST):
        asked = effect_of(head(it.rollout.pk, timezone.now()), timezone.now(), "answer")
    assert asked is not None
    assert (asked.sites, asked.right, asked.words) == (
        2,
        "rollout.run",
        (
            "Do the tills work?",
            "Yes: the gates are asked again, and if all of them pass, wave 'wave 1' opens with 2 sites. "
            "No: the wave stays held.",
        ),
    )
    it.do(control.answer, wave=0, yes=False)
    tick()
    tick()
    assert verbs(it)[0] == "answer"  # no is not the last word
    it.do(control.answer, wave=0, yes=True)
    for _ in range(3):
        tick()
    assert it.waves() == "passed open"
    it.applied(1, 2)
    for _ in range(4):
        tick()
    with scope(TEST):
        asked = effect_of(head(it.rollout.pk, timezone.now()), timezone.now(), "answer")
    assert asked is not None
    assert asked.words[0] == "May the rollout go on after wave 'wave 1'?"
    assert "the rollout is done" in asked.words[1]


def test_what_a_provider_may_say_tells_of_its_own_sites_alone():
    assert [one.verb for one in own_effects(RolloutState.AWAITING_APPROVAL, 60)] == ["approve", "reject"]
    assert [one.verb for one in own_effects(RolloutState.SCHEDULED, 60)] == ["reject"]
    for state in set(RolloutState) - {RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED}:
        assert own_effects(state, 60) == []
    approve, reject = own_effects(RolloutState.AWAITING_APPROVAL, 60)
    assert (approve.sites, approve.needs_typing, reject.needs_reason, reject.danger) == (60, True, True, True)
    assert {approve.right, reject.right} == {"rollout.approve"}


def test_what_is_still_needed_names_providers(play: Play, make_provider: Any):
    own = make_provider()
    it = play(1, provider=own, approvals={"needed": 2, "providers": [own.pk]})
    it.do(control.submit)
    it.do(control.approve, it.approver)
    with scope(TEST):
        (approve, _) = effects(head(it.rollout.pk, timezone.now()), timezone.now(), {own.pk: "North"})
    assert approve.words[0].endswith("Still needed: 1 more person must approve; provider North must approve.")


def test_people_speak_for_the_fleet_first_and_never_of_a_part(make_provider: Any, access: Any):
    own = make_provider()
    assert speakers(access("manager")[1], [own.pk]) == [None]
    assert speakers(access("provider_operator", provider=own)[1], [own.pk]) == [own.pk]
    assert speakers(access("provider_operator", provider=own)[1], []) == []
    assert speakers(access("manager", regions=["DACH"])[1], [own.pk]) == []
    assert speakers(access("operator")[1], [own.pk]) == []


# What people see --------------------------------------------------------------------------------------------
def test_a_provider_sees_its_own_steps_and_counts_alone(play: Play, access: Any, make_provider: Any, make_site: Any):
    own = make_provider()
    it = play(2, provider=own, approvals={"needed": 2, "providers": [own.pk]})
    foreign = make_site()
    it.values["waves"].append({"name": "foreign", "sites": [foreign.pk]})
    it.rollout = it.plan(it.rollout)
    it.do(control.submit)
    it.do(control.approve, it.approver)
    it.do(control.approve, access("provider_operator", provider=own))
    tick()
    who, _ = access("provider_viewer", provider=own)
    with scope(who):
        (row,) = rollouts_in(who)
        assert get_rollout(scope=who, pk=row.pk).standard.name == it.standard.name
        assert {step.site_id for step in steps_of(who, row)} == {site.pk for site in it.sites}
        assert counts_by_wave(who, [row]) == {row.pk: {0: {"claimed": 2}}}
        assert [wave.name for wave in waves_of(row, who)] == ["wave 0"]
        assert {event.step_id for event in events_of(who, row)} == {step.pk for step in steps_of(who, row)}
        assert providers_asked(who, row) == [own.pk]
        assert [step.rollout.name for step in rollouts_of_site(who, it.sites[0].pk)] == ["spring"]
        assert not holds_in(who)
    other, _ = access("provider_viewer", provider=make_provider())
    with scope(other):
        assert not rollouts_in(other)


def test_a_viewer_of_a_region_sees_what_reaches_it(play: Play, access: Any, make_site: Any):
    it = play(1)
    there = make_site(region="NORDICS")
    it.values["waves"].append({"name": "north", "sites": [there.pk]})
    it.rollout = it.plan(it.rollout)
    who, _ = access("viewer", regions=["NORDICS"])
    with scope(who):
        (row,) = rollouts_in(who)
        assert counts_by_wave(who, [row]) == {row.pk: {1: {"queued": 1}}}
    elsewhere, _ = access("viewer", regions=["IBERIA"])
    with scope(elsewhere):
        assert not rollouts_in(elsewhere)


def test_people_approve_within_a_scope_of_their_own(play: Play, make_provider: Any, make_person: Any):
    own = make_provider()
    it = play(1, provider=own, approvals={"needed": 2, "providers": [own.pk]})
    it.do(control.submit)
    for person in (access_of(make_person("provider_operator", provider=own)), it.approver):
        with scope(person[0]):  # as a request is answered
            it.do(control.approve, person)
    tick()
    assert it.now().state == "running"
