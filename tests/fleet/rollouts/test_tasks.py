"""The tasks of rollouts: sites in flight are claimed with each tick, and what sites say is ticked at once."""

import threading
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from agent.protocol.report import Desired
from fleet.kit.tenancy import scope
from fleet.rollouts.tasks import tick_rollouts
from sites import tasks
from sites.agent_client import PollResult
from sites.hinting import Hinting
from sites.models import SiteState
from sites.tasks import poll_sites
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import Played
from tests.sites.builders import polled

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What goes to the broker."""
    sent: list[tuple[str, Any]] = []
    monkeypatch.setattr(poll_sites, "apply_async", lambda args, **_: sent.append(("sites.tasks.poll_sites", *args)))
    monkeypatch.setattr(current_app, "send_task", lambda name, **options: sent.append((name, options)))
    return sent


@pytest.fixture
def hinting(monkeypatch: pytest.MonkeyPatch) -> Hinting:
    """The thread that hints, not started."""
    made = Hinting(0, None, None, None)
    monkeypatch.setattr(tasks, "_hinting", made)
    return made


def test_a_tick_claims_sites_in_flight_and_none_otherwise(make_site: Any, make_person: Any, wire: list[Any]) -> None:
    it = Played(make_site, make_person, [1])
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now()", using=OWNER)
    tick_rollouts()
    assert wire == []
    it.run()
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now()", using=OWNER)
    tick_rollouts()
    assert [set(ids) for _, ids in wire if ids] == [{it.sites[0].pk}]


def test_a_site_that_says_something_new_of_its_document_is_told_of_at_once(
    make_site: Any, hinting: Hinting, wire: list[Any]
) -> None:
    site = make_site()
    tasks._record([polled(site)])
    hinting.work()
    assert wire == []
    for _ in range(2):  # said again it is nothing new
        tasks._record([_with_desired(polled(site))])
        hinting.work()
    assert wire == [(tick_rollouts.name, {"expires": 1, "retry": False})]


def test_much_news_is_one_hint_and_the_last_of_it_is_not_lost(hinting: Hinting, wire: list[Any]) -> None:
    for _ in range(3):
        hinting.tell()
    hinting.work()
    assert len(wire) == 1
    hinting.tell()
    hinting.work()
    assert len(wire) == 2


def test_a_broker_that_never_answers_holds_up_no_poll(
    make_site: Any, hinting: Hinting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes connections and says nothing is worse than one that is gone: sending to it takes ten seconds."""
    sending, let_go = threading.Event(), threading.Event()

    def never(name: str, **options: Any) -> None:
        sending.set()
        let_go.wait(30)
        raise OperationalError("no answer")

    monkeypatch.setattr(current_app, "send_task", never)
    site = make_site()
    hinting.start()
    try:
        tasks._record([_with_desired(polled(site))])
        assert sending.wait(10)
        tasks._record([_with_desired(polled(site), "applied")])  # returns, though nothing is sent
        assert not let_go.is_set()
        with scope(TEST):
            assert SiteState.objects.get(site=site).desired.startswith("1.1.applied")
    finally:
        let_go.set()
        hinting.stop()
    assert not hinting.is_alive()


def _with_desired(result: PollResult, state: str = "applying") -> PollResult:
    assert result.report is not None
    return replace(result, report=msgspec.structs.replace(result.report, desired=Desired(1, 1, state)))
