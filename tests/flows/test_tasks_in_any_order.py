"""Row 3: every task runs twice, shuffled, and one in five is lost; the final state is the same."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import connections

from fleet.kit import signing
from sites.models import PollSchedule, Provider
from sites.poller import Poller
from sites.selectors.polling import poll_targets
from sites.services.claims import claim
from sites.services.reports import record_reports
from tests.flows.system import System, query, shown, wait_for

Make = Callable[..., Provider]


@pytest.fixture
def simulator(database: None, tmp_path: Path) -> Iterator[System]:
    """Simulated sites without Celery: the test plays the workers."""
    with ExitStack() as stack:
        system = System(stack, tmp_path)
        system.start_broker()
        system.start_identity()
        yield system


@pytest.fixture
def pollers(simulator: System) -> Iterator[list[Poller]]:
    """Two pollers that take messages of one queue."""
    tls = signing.service_context("dashboard").context
    both = [Poller(lambda results: record_reports(results, poller="test"), tls=tls, workers=50) for _ in range(2)]
    for poller in both:
        poller.start()
    yield both
    for poller in both:
        poller.stop()


def run_round(pollers: list[Poller], dice: random.Random) -> None:
    """Claim everything; give each batch to both pollers at once, in any order, and lose one message in five."""
    PollSchedule.objects.using("owner").update(next_poll_at="2020-01-01T00:00:00Z")
    ids = [pk for batch in claim(beat=False) for pk in batch.site_ids]
    messages = [(poller, ids[start : start + 5]) for start in range(0, len(ids), 5) for poller in pollers]
    messages = [message for message in messages if dice.random() > 0.2]
    dice.shuffle(messages)

    def deliver(own: list[tuple[Poller, list[int]]]) -> None:
        for poller, part in own:
            poller.poll_batch(poll_targets(part))
        connections.close_all()

    threads = [
        threading.Thread(target=deliver, args=([message for message in messages if message[0] is poller],))
        for poller in pollers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_tasks_twice_shuffled_and_lost_give_the_same_state(
    simulator: System, pollers: list[Poller], make_provider: Make
) -> None:
    dice = random.Random(7)
    sites = simulator.start_sites(40, provider_id=make_provider().pk, interval_s=30)
    wait_for(lambda: not query("SELECT 1 FROM edge_sites_site WHERE tls_pin = ''"), what="the sites to have joined")
    for _ in range(6):
        run_round(pollers, dice)
    assert set(shown(sites)) == {"up"}
    simulator.fail("down", *sites[:10])
    for _ in range(6):
        run_round(pollers, dice)
    simulator.heal(*sites[:5])
    for _ in range(8):
        run_round(pollers, dice)
    assert shown(sites) == ["up"] * 5 + ["down"] * 5 + ["up"] * 30
    per_site = query(
        "SELECT site_id, string_agg(state, ' ' ORDER BY id) FROM edge_sites_stateinterval"
        " WHERE axis = 'availability' GROUP BY 1 ORDER BY 1"
    )
    assert [states for _, states in per_site] == (
        ["unknown up down up"] * 5 + ["unknown up down"] * 5 + ["unknown up"] * 30
    )
    gaps = query(
        "SELECT count(*) FROM (SELECT valid_from, lag(valid_to) OVER (PARTITION BY site_id ORDER BY id) AS ended"
        " FROM edge_sites_stateinterval WHERE axis = 'availability') AS pairs WHERE ended <> valid_from"
    )
    assert gaps == [(0,)]
    assert query("SELECT site_id, count(*) FROM edge_sites_outage GROUP BY 1 ORDER BY 1") == [
        (site.pk, 1) for site in sites[:10]
    ]
