"""Rollouts with real PostgreSQL, Redis, Celery, pollers, signer and agents: from the plan to proof, and back."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from agent.control import request
from fleet.kit.errors import Conflict
from fleet.people.selectors import access_of
from fleet.people.services import make_user
from fleet.rollouts.services import control, holds
from sites.models import Provider, Site
from tests.conftest import PASSWORD, TEST, empty_database
from tests.flows.rolling import People, bring, digest, runs, spoil, to
from tests.flows.system import System, all_up, query, shown, wait_for

SITES = 12


class Fleet:
    """A running system, its sites, and people; all tests of this module share it."""

    def __init__(self, stack: ExitStack, folder: Any) -> None:
        self.system = System(stack, folder)
        self.system.start()
        provider = Provider.objects.using("owner").create(slug="flows", name="Flows")
        self.sites = self.system.start_sites(SITES, provider_id=provider.pk)
        self.people = People()

    def well(self) -> list[Site]:
        """The sites, all healed and up."""
        self.system.heal(*self.sites)
        wait_for(lambda: all_up(self.sites), what="all up")
        return self.sites


@pytest.fixture(scope="module")
def fleet(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with django_db_blocker.unblock(), ExitStack() as stack:
        stack.callback(empty_database)
        yield Fleet(stack, tmp_path_factory.mktemp("rollouts"))


@pytest.fixture
def sites(fleet: Fleet) -> list[Site]:
    return fleet.well()


def test_a_rollout_goes_from_its_canary_to_the_whole_fleet(fleet: Fleet, sites: list[Site]) -> None:
    standard = to("a")
    run = fleet.people.roll_out(standard, sites[:1], sites[1:4], sites[4:])
    run.wait("succeeded")
    assert (run.waves, set(run.states())) == (["passed"] * 3, {"proven"})
    run.was_exact()
    assert runs(sites) == [digest("a")] * SITES
    receipts = "SELECT count(*) FROM edge_sites_desiredreceipt r JOIN rollouts_attempt a USING (document_id)"
    wait_for(lambda: query(f"{receipts} WHERE a.rollout_id = %s AND r.state = 'applied'", run.pk) == [(SITES,)], 30)
    assert run.events() == ["plan", "submit", "approve", "start", "succeed"]
    evaluations = "SELECT wave, outcome FROM rollouts_gateevaluation WHERE rollout_id = %s ORDER BY id"
    assert query(evaluations, run.pk) == [(wave, "pass") for wave in range(3)]


def test_what_fails_its_gate_holds_and_goes_back_to_where_each_site_came_from(fleet: Fleet, sites: list[Site]) -> None:
    first, rest = sites[:4], sites[4:]
    bring(first, "bcbc")
    spoil(fleet.system, "unhealthy", first[1])
    run = fleet.people.roll_out(to("d"), first, rest, caps={"in_flight": 4})
    run.wait("paused held")
    assert run.waves == ["held", "pending"]
    assert set(run.states(rest)) == {"queued"}
    assert run.failures() == {first[1].pk: "unhealthy"}
    fleet.system.heal(first[1])
    run.do(control.roll_back, reason="tills do not start")
    run.wait("rolled_back")
    assert run.states(first) == ["rolled_back"] * 4
    assert set(run.states(rest)) == {"skipped"}
    assert runs(first) == [digest(letter) for letter in "bcbc"]
    assert digest("d") not in runs(rest)


def test_an_update_that_cuts_the_uplink_of_every_site_stops_in_wave_1(fleet: Fleet, sites: list[Site]) -> None:
    spoil(fleet.system, "cuts", *sites)
    times = {"soak_s": 0, "dark_after_s": 4}
    run = fleet.people.roll_out(to("e"), sites[:2], sites[2:6], sites[6:], times=times, caps={"in_flight": 4})
    run.wait("paused held")
    assert run.waves == ["held", "pending", "pending"]
    assert set(run.failures().values()) == {"lost"}
    assert set(run.states(sites[2:])) == {"queued"}
    assert all_up(sites[2:])
    # They come back on the standard: what was lost is proven after all, and a person decides whether to go on.
    fleet.system.heal(*sites)
    wait_for(lambda: set(run.states(sites[:2])) == {"proven"}, what="the lost have returned")
    assert run.waves == ["held", "pending", "pending"]
    run.do(control.resume, choice="recheck", reason="the uplink is mended")
    run.wait("succeeded")
    # A document's end is final: those that were lost were given none again, and theirs stays lost.
    ends = {site.pk: (1, 1, int(number > 1)) for number, site in enumerate(sites)}
    assert run.given() == ends


def test_a_site_that_says_applied_and_reports_the_old_digest_is_never_proven(fleet: Fleet, sites: list[Site]) -> None:
    liar, honest = sites[0], sites[1]
    bring([liar], "b")
    spoil(fleet.system, "lies", liar)
    run = fleet.people.roll_out(to("f"), [liar, honest], times={"soak_s": 0, "verify_s": 6})
    wait_for(lambda: run.states() == ["verifying", "proven"], what="it says that it has applied it")
    said = query("SELECT reported_state FROM edge_sites_sitedesired WHERE site_id = %s", liar.pk)
    assert (said, runs([liar])) == ([("applied",)], [digest("b")])
    run.wait("paused held")
    assert (run.states(), run.failures()) == (["failed", "proven"], {liar.pk: "apply_failed"})
    assert run.given()[liar.pk] == (1, 1, 0)
    run.do(control.abort, reason="it lies")
    run.wait("aborted")


def test_a_site_that_regresses_in_its_soak_fails_and_holds(fleet: Fleet, sites: list[Site]) -> None:
    run = fleet.people.roll_out(to("0"), sites[:2], sites[2:], times={"soak_s": 300})
    wait_for(lambda: run.states(sites[:2]) == ["soaking"] * 2, what="the soak")
    order = {"cmd": "upgrade", "kind": "workload", "name": "pos", "version": "by hand"}
    request(fleet.system.control, {**order, "sites": [str(sites[0].uuid)]})
    run.wait("paused held")
    assert (run.states(sites[:2]), run.failures()) == (["failed", "soaking"], {sites[0].pk: "regressed"})
    assert set(run.states(sites[2:])) == {"queued"}
    run.do(control.roll_back, reason="somebody works there")
    run.wait("rolled_back")


def test_with_30_percent_offline_the_others_finish_the_rest_catches_up_or_meets_a_newer_rollout(
    fleet: Fleet, sites: list[Site]
) -> None:
    away, here = sites[:4], sites[4:]
    fleet.system.fail("dark", *away)
    wait_for(lambda: set(shown(away)) == {"unknown"}, what="a third is offline")
    first = fleet.people.roll_out(to("1"), [*away[:2], *here[:4]], [*away[2:], *here[4:]])
    first.wait("succeeded")
    assert (set(first.states(here)), set(first.states(away))) == ({"proven"}, {"catch_up"})
    assert runs(here) == [digest("1")] * len(here)

    fleet.system.heal(*away[:2])
    wait_for(lambda: first.states(away[:2]) == ["proven"] * 2, what="two have come back, and caught up")
    assert (first.state, runs(away[:2])) == ("succeeded", [digest("1")] * 2)
    lane = "SELECT bool_and(lane) FROM rollouts_sitestep WHERE rollout_id = %s AND site_id = ANY(%s)"
    assert query(lane, first.pk, [site.pk for site in away[:2]]) == [(True,)]

    newer = fleet.people.roll_out(to("2"), [*away, *here])
    newer.wait("succeeded")
    fleet.system.heal(*away)
    wait_for(lambda: newer.states(away) == ["proven"] * 4, what="the others have come back, to the newer one")
    assert first.states(away[2:]) == ["superseded"] * 2
    assert runs(sites) == [digest("2")] * SITES
    assert {documents for documents, *_ in (first.given()[site.pk] for site in away[2:])} == {0}


def test_after_the_button_no_further_site_is_claimed(fleet: Fleet, sites: list[Site]) -> None:
    run = fleet.people.roll_out(to("3"), sites, caps={"in_flight": 2})
    wait_for(lambda: "proven" in run.states(), what="the first are done")
    run.do(control.pause, reason="the phone rings")
    ((answered_at,),) = query("SELECT clock_timestamp()")
    watched = "SELECT watched_at > %s + interval '3 s' FROM rollouts_rollout WHERE id = %s"
    wait_for(lambda: query(watched, answered_at, run.pk) == [(True,)], what="it is watched on")
    late = "SELECT count(*) FROM rollouts_attempt WHERE rollout_id = %s AND given_at > %s"
    assert query(late, run.pk, answered_at) == [(0,)]
    wait_for(lambda: set(run.states()) == {"proven", "queued"}, what="what was at work is finished")
    run.do(control.abort, reason="enough")
    run.wait("aborted")
    assert set(run.states()) == {"proven", "skipped"}


def test_two_people_who_press_at_once_do_one_thing(fleet: Fleet, sites: list[Site]) -> None:
    run = fleet.people.roll_out(to("4"), sites[:1], sites[1:], times={"soak_s": 300})
    wait_for(lambda: "soaking" in run.states(), what="it runs")
    together, said = threading.Barrier(4), []

    def press() -> None:
        together.wait(10)
        try:
            run.do(control.roll_back, reason="somebody called")
            said.append("done")
        except Conflict as error:
            said.append(str(error))
        connections.close_all()

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(said) == ["A rollout that is rolling back cannot roll back."] * 3 + ["done"]
    run.wait("rolled_back")
    assert run.events().count("roll_back") == 1
    audited = "SELECT count(*) FROM kit_auditentry WHERE action = 'rollout.roll_back' AND object_id = %s"
    assert query(audited, str(run.pk)) == [(1,)]


def test_a_provider_that_holds_for_ever_keeps_no_rollout_open(fleet: Fleet, sites: list[Site]) -> None:
    actor, rights = access_of(
        make_user(
            actor=TEST, username="holder", password=PASSWORD, role="provider_operator", provider_id=sites[0].provider_id
        )
    )
    until = timezone.now() + timedelta(days=29)
    held = holds.hold(actor=actor, rights=rights, site=sites[0], reason="the season has begun", until=until)
    run = fleet.people.roll_out(to("5"), sites[:3], patience={"defer_s": 3})
    run.wait("succeeded")
    assert run.states() == ["catch_up", "proven", "proven"]
    holds.lift(actor=actor, rights=rights, held=held)
    wait_for(lambda: run.states() == ["proven"] * 3, what="it catches up when the hold is lifted")
