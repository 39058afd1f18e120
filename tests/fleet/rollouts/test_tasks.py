"""The tasks of rollouts: sites in flight are claimed with each tick, and what sites say is ticked at once."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from agent.protocol.report import Desired
from fleet.rollouts.tasks import tick_rollouts
from sites import tasks
from sites.agent_client import PollResult
from sites.tasks import poll_sites
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
    monkeypatch.setattr(tasks, "_hinted_at", 0.0)
    return sent


def test_a_tick_claims_sites_in_flight_and_none_otherwise(make_site: Any, make_person: Any, wire: list[Any]) -> None:
    it = Played(make_site, make_person, [1])
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now()", using=OWNER)
    tick_rollouts()
    assert wire == []
    it.run()
    rows("UPDATE edge_sites_pollschedule SET next_poll_at = now()", using=OWNER)
    tick_rollouts()
    assert [set(ids) for _, ids in wire if ids] == [{it.sites[0].pk}]


def test_a_site_that_says_something_new_of_its_document_is_ticked_at_once(make_site: Any, wire: list[Any]) -> None:
    site = make_site()
    tasks._record([polled(site)])
    assert wire == []
    for _ in range(2):  # said again it is nothing new
        tasks._record([_with_desired(polled(site))])
        tasks._hinted_at = 0.0
    assert wire == [(tick_rollouts.name, {"expires": 1, "retry": False})]


def test_hints_come_no_faster_than_ticks_bear_and_a_broker_that_is_away_is_no_fault(
    wire: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        tasks.hint()
    assert len(wire) == 1

    def away(name: str, **options: Any) -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(current_app, "send_task", away)
    monkeypatch.setattr(tasks, "_hinted_at", 0.0)
    tasks.hint()
    assert tasks._hinted_at


def _with_desired(result: PollResult) -> PollResult:
    assert result.report is not None
    return replace(result, report=msgspec.structs.replace(result.report, desired=Desired(1, 1, "applying")))
