"""Rollouts on the real tables: from the plan to the proof, held and rolled back; races; guards of the database."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, ProgrammingError, connections, transaction

from agent.protocol import Component
from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.models import Attempt, GateEvaluation, Rollout, SiteStep
from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import ROLLOUTS, tick, tick_one
from sites.services.delivery import note_sending
from sites.services.desired import EMPTY
from sites.services.reports import record_reports
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import NEW, NEW_POS, Played
from tests.fleet.standards.factories import make_standard, report
from tests.sites.builders import KERNEL, POS, polled
from tests.sites.told import WORKLOADS, standing

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


# From the plan to the proof ---------------------------------------------------------------------------------
def test_a_rollout_goes_wave_by_wave_and_ends_with_proof(play: Play) -> None:
    it = play(1, 2)
    assert (it.now().state, it.states(), it.waves()) == ("planned", "queued queued queued", "pending pending")
    tick()
    assert it.states() == "queued queued queued"
    it.run()
    assert (it.now().state, it.states(), it.waves()) == ("running", "claimed queued queued", "open pending")
    given = it.newest(0)
    sha = it.standard.sha256
    want = {**EMPTY, **NEW, "agent": None, "standard": {"id": it.standard.pk, "sha256": sha}}
    want["workloads"] = [{**it.standard.content["workloads"][0]}]
    assert given.content == {**want, "rollout": {"id": it.rollout.pk, "wave": 0}}
    assert (given.epoch, given.version, given.hold) == (1, 2, False)
    it.applied(0)
    tick()
    assert (it.states(), it.waves()) == ("proven claimed claimed", "passed open")
    it.applied(1, 2)
    tick()
    assert (it.now().state, it.states(), it.waves()) == ("succeeded", "proven proven proven", "passed passed")
    assert it.events() == ["plan", "submit", "approve", "start", "succeed"]
    assert not it.now().is_live
    with scope(TEST):
        assert set(Attempt.objects.values_list("kind", "state")) == {("apply", "proven")}
        assert list(GateEvaluation.objects.order_by("pk").values_list("wave", "outcome")) == [(0, "pass"), (1, "pass")]


def test_a_site_that_says_applied_and_reports_the_old_digest_is_not_proven(play: Play) -> None:
    it = play(1).run()
    it.applied(0, pos=POS)
    tick()
    assert it.states() == "verifying"
    report(it.sites[0], KERNEL, POS)
    tick()
    assert it.states() == "verifying"


def test_proof_must_be_younger_than_the_document(play: Play) -> None:
    """A site that runs the standard already reports nothing new: the time of its report alone is the proof."""
    it = play(1)
    it.applied(0)
    it.run()
    it.says(0, state="applied")
    tick()
    assert it.states() == "verifying"
    report(it.sites[0], KERNEL, NEW_POS)
    tick()
    assert it.states() == "proven"


def test_what_fails_holds_the_wave_and_goes_back_to_its_origin(play: Play) -> None:
    gates = [{"type": "success_share", "share": 1.0}]
    it = play(2)
    values = [{**it.values["waves"][0], "gates": gates}]
    it.rollout = it.plan(it.rollout, waves=values)
    it.run()
    it.applied(0)
    it.fails(1)
    tick()
    row = it.now()
    assert (row.state, row.pause, it.states(), it.waves()) == ("paused", "held", "proven failed", "held")
    assert it.step(1).failure == "unhealthy"
    it.do(control.roll_back, reason="it breaks the tills")
    tick()
    assert it.states() == "rolling_back rolling_back"
    assert [it.newest(n).content["workloads"] for n in (0, 1)] == [WORKLOADS, WORKLOADS]
    it.says(0, 1, state="applied")
    tick()
    assert it.states() == "rolling_back rolling_back"
    for number in (0, 1):
        report(it.sites[number], KERNEL, POS)
    tick()
    assert (it.now().state, it.states()) == ("rolled_back", "rolled_back rolled_back")


def test_a_site_without_an_origin_is_left_where_it_is_and_that_is_said(play: Play) -> None:
    it = play(1)
    rows("UPDATE edge_sites_sitedesired SET document_id = NULL", using=OWNER)
    it.run()
    it.applied(0)
    tick()
    it.do(control.roll_back, reason="it breaks the tills")
    tick()
    assert (it.states(), it.step(0).reason) == ("skipped", "no_origin")


def test_offline_sites_are_left_behind_and_catch_up_when_they_come_back(play: Play) -> None:
    it = play(2)
    it.dark(1)
    it.run()
    assert it.states() == "claimed catch_up"
    it.applied(0)
    tick()
    assert (it.now().state, it.states()) == ("succeeded", "proven catch_up")
    assert it.now().is_live
    report(it.sites[1], KERNEL, POS)
    tick()
    assert it.states() == "proven queued"
    tick()
    assert it.states() == "proven claimed"
    assert it.step(1).lane
    it.applied(1)
    tick()
    assert (it.now().state, it.states(), it.now().is_live) == ("succeeded", "proven proven", False)


def test_a_site_that_goes_dark_before_its_document_was_sent_was_offline_all_along(play: Play) -> None:
    it = play(1).run()
    document = it.newest(0)
    it.dark(0)
    tick()
    assert it.states() == "catch_up"
    assert it.newest(0).withdrawn_at is not None
    assert note_sending([document.pk]) == set()


def test_a_site_that_goes_dark_after_it_is_in_doubt(play: Play) -> None:
    it = play(1).run()
    it.sign()
    it.dark(0)
    tick()
    assert it.states() == "in_doubt"
    assert it.step(0).slot


def test_freeze_and_thaw_are_documents_of_their_own_with_the_same_content(play: Play) -> None:
    it = play(2).run()
    it.says(0, 1, state="applying")
    tick()
    it.do(control.freeze, reason="look first")
    tick()
    assert (it.newest(0).hold, it.newest(0).version) == (True, 3)
    tick()
    assert it.newest(0).version == 3
    it.says(0, 1, state="held")
    tick()
    it.do(control.resume)
    tick()
    assert (it.newest(0).hold, it.newest(0).version) == (False, 4)
    assert it.newest(0).content["workloads"] == it.standard.content["workloads"]
    it.applied(0, 1)
    tick()
    assert it.now().state == "succeeded"
    with scope(TEST):
        kinds = Attempt.objects.filter(step__site=it.sites[0]).order_by("pk").values_list("kind", "state")
        assert list(kinds) == [("apply", "replaced"), ("freeze", "replaced"), ("thaw", "proven")]


def test_nothing_is_given_out_on_top_of_a_document_that_is_not_signed_yet(play: Play) -> None:
    it = play(1).run()
    it.do(control.freeze, reason="look first")
    tick()
    assert (it.newest(0).version, it.step(0).frozen) == (2, False)
    it.sign()
    tick()
    assert (it.newest(0).version, it.step(0).frozen) == (3, True)


def test_a_person_retries_what_failed_and_the_origin_stays(play: Play) -> None:
    it = play(1)
    it.rollout = it.plan(it.rollout, waves=[{**it.values["waves"][0], "gates": []}])
    it.run()
    it.fails(0)
    tick()
    assert it.waves() == "held"
    origin = it.step(0).origin_document_id
    it.do(control.resume, choice=Choice.RETRY, reason="the registry was away")
    tick()
    assert (it.states(), it.step(0).origin_document_id) == ("claimed", origin)
    assert it.newest(0).version == 3


def test_a_site_that_runs_again_elsewhere_is_superseded(play: Play) -> None:
    it = play(1).run()
    it.says(0, state="staging")
    standing(it.sites[0], reported_version=9)
    tick()
    assert it.states() == "superseded"


def test_a_newer_boot_is_asked_only_of_sites_whose_kernel_differed_when_they_were_claimed(play: Play) -> None:
    it = play(3, reboots=True)
    content = {**it.standard.content, "os": {"packages": {}, "kernel": KERNEL.version, "reboot": "if_required"}}
    it.standard = make_standard("2026.11-r3", content)
    it.values["standard"] = it.standard.name
    it.rollout = it.plan(it.rollout)
    old = Component("kernel", "linux", "6.1.0-20-amd64")
    for number in (1, 2):
        report(it.sites[number], old, POS)
    it.run()
    assert [it.step(number).boot_before for number in range(3)] == ["", "boot-1", "boot-1"]
    it.says(0, 1, 2, state="applied")
    for number, boot in ((0, "boot-1"), (1, "boot-1"), (2, "boot-2")):
        report_from(it.sites[number], boot)
    tick()
    assert it.states() == "proven verifying proven"
    report_from(it.sites[1], "boot-2")
    tick()
    assert it.now().state == "succeeded"


def report_from(site: Any, boot: str) -> None:
    """The site reports the new image and kernel from that boot."""
    result = polled(site, components=(KERNEL, NEW_POS))
    assert result.report is not None
    record_reports([replace(result, report=msgspec.structs.replace(result.report, boot=boot))], poller="test")


def test_when_the_clock_jumps_nothing_is_held_against_sites(play: Play, monkeypatch: Any) -> None:
    """Row 10: the database's clock is ten minutes ahead, and then right again; a silent site is not lost by that."""
    it = play(2)
    it.run()
    it.sign()
    it.dark(0)
    tick()
    assert it.states() == "in_doubt claimed"
    for minutes in (10, 0):
        ahead = timedelta(minutes=minutes)
        with monkeypatch.context() as patched:
            patched.setattr("fleet.rollouts.services.ticking.database_now", lambda ahead=ahead: database_now() + ahead)
            tick()
            tick()
        assert it.states() == "in_doubt claimed"
    it.applied(0, 1)
    tick()
    tick()
    assert it.now().state == "succeeded"


# Races ------------------------------------------------------------------------------------------------------
def test_two_ticks_at_once_give_out_one_document_a_site(play: Play) -> None:
    it = play(6)
    it.do(control.submit)
    it.do(control.approve, it.approver)
    worked: list[int] = []

    def work() -> None:
        worked.append(tick_one(it.rollout.pk).rollouts)
        connections["default"].close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 in worked
    assert it.states() == " ".join(["claimed"] * 6)
    with scope(TEST):
        assert Attempt.objects.count() == 6
    assert {it.newest(number).version for number in range(6)} == {2}


def test_a_tick_leaves_alone_a_rollout_that_another_works_on(play: Play) -> None:
    it = play(1)
    it.do(control.submit)
    it.do(control.approve, it.approver)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with scope(ROLLOUTS):
            Rollout.objects.select_for_update().get(pk=it.rollout.pk)
            entered.set()
            leave.wait(10)
        connections["default"].close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert entered.wait(10)
    assert tick_one(it.rollout.pk).rollouts == 0
    leave.set()
    thread.join()
    assert tick_one(it.rollout.pk).rollouts == 1


def test_a_tick_that_dies_after_it_gave_out_has_given_out_nothing(play: Play, monkeypatch: Any) -> None:
    it = play(2)
    it.do(control.submit)
    it.do(control.approve, it.approver)

    def dies(*args: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("fleet.rollouts.services.ticking._poll_often", dies)
        with pytest.raises(SystemExit):
            tick_one(it.rollout.pk)
    assert (it.states(), it.newest(0).version) == ("queued queued", 1)
    tick()
    assert (it.states(), it.newest(0).version) == ("claimed claimed", 2)


def test_a_site_is_in_one_rollout_at_a_time(play: Play, make_site: Any, make_person: Any) -> None:
    """The second was planned while the first had not begun; the database itself allows one open step a site."""
    it = play(1)
    other = it.plan(name="summer")
    it.run()
    assert it.states() == "claimed"
    first, it.rollout = it.rollout, other
    it.run()
    assert it.now().state == "running"
    assert it.states() == "deferred"
    it.rollout = first
    assert it.states() == "claimed"
    with scope(TEST), pytest.raises(IntegrityError, match="step_one_open"), transaction.atomic():
        SiteStep.objects.filter(rollout=other).update(state="claimed")


# Guards of the database -------------------------------------------------------------------------------------
def test_a_plan_changes_in_a_draft_only(play: Play) -> None:
    it = play(1)
    with scope(TEST):
        for change in ({"plan": "{}"}, {"plan_hash": "sha256:0"}, {"name": "other"}, {"sites": 9}):
            with pytest.raises(ProgrammingError, match="changes in a draft only"), transaction.atomic():
                Rollout.objects.filter(pk=it.rollout.pk).update(**change)
        with pytest.raises(ProgrammingError, match="only the plan that is there"), transaction.atomic():
            Rollout.objects.filter(pk=it.rollout.pk).update(approved_hash="sha256:1")
    it.run()
    with scope(TEST):
        for again in ({"state": "draft"}, {"started_at": None}, {"approved_hash": ""}):
            with pytest.raises(ProgrammingError, match="stays approved"), transaction.atomic():
                Rollout.objects.filter(pk=it.rollout.pk).update(**again)


def test_sites_in_flight_are_polled_soon(play: Play) -> None:
    it = play(1)
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now() + interval '20 s'", using=OWNER)
    it.run()
    ((soon,),) = rows("SELECT next_poll_at < now() + interval '1.1 s' FROM edge_sites_pollschedule", using=OWNER)
    assert soon
    assert (tick().in_flight, tick().rollouts) == (1, 1)
    it.applied(0)
    assert tick().in_flight == 0


def test_many_sites_in_flight_are_polled_no_more_often_than_a_poller_bears(play: Play, monkeypatch: Any) -> None:
    monkeypatch.setattr("fleet.rollouts.services.ticking._IN_FLIGHT_POLLS_PER_S", 0.5)
    it = play(2)
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now() + interval '20 s'", using=OWNER)
    it.run()
    found = rows("SELECT extract(epoch FROM next_poll_at - now()) FROM edge_sites_pollschedule", using=OWNER)
    assert all(1.2 < seconds < 4.1 for (seconds,) in found), found
