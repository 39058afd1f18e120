"""Webhooks with the real beat and worker, and a receiver that is up, down, or hears from a worker that is killed."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet.rollouts.models import WebhookEndpoint
from fleet.rollouts.selectors.webhooks import secrets_of
from fleet.rollouts.services import control, webhooks
from fleet.rollouts.services.sending import LEASE_S
from tests.conftest import TEST, everything
from tests.fleet.rollouts.played import Played
from tests.fleet.rollouts.receiver import Receiver, receiving
from tests.flows.system import System, query, wait_for

STATES = "SELECT state, attempts FROM rollouts_webhookdelivery ORDER BY id"


@pytest.fixture
def system(database: None, tmp_path: Path, settings: Any) -> Iterator[System]:
    """Redis, beat and worker, which may call this machine through http."""
    settings.WEBHOOK_HTTP_LOOPBACK = True
    with ExitStack() as stack:
        running = System(stack, tmp_path)
        running.environ["ARCHIPELAGO_WEBHOOK_HTTP_LOOPBACK"] = "1"
        running.start_broker()
        for name in ("beat", "worker"):
            running.start_worker(name)
        yield running


def endpoint(receiver: Receiver) -> WebhookEndpoint:
    values = {"name": "flow", "url": receiver.url, "kinds": ["rollout.submitted", "rollout.planned"]}
    return webhooks.save_endpoint(actor=TEST, rights=everything(), values=values)


def delivered() -> bool:
    found = query(STATES)
    return bool(found) and all(state == "delivered" for state, _ in found)


def test_events_of_a_rollout_arrive_once_and_their_signatures_verify(system: System, make_site: Any, make_person: Any):
    with receiving() as receiver:
        row = endpoint(receiver)
        it = Played(make_site, make_person, [1])
        it.do(control.submit)
        wait_for(delivered, what="both messages")
        time.sleep(3)
        assert sorted(json.loads(body)["type"] for _, _, body in receiver.got) == [
            "rollout.planned",
            "rollout.submitted",
        ]
        assert query(STATES) == [("delivered", 1), ("delivered", 1)]
        (secret,) = secrets_of(row, row.made_at)
        for _, headers, body in receiver.got:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
            expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert json.loads(body)["data"]["rollout"]["id"] == it.rollout.pk


def test_a_receiver_that_was_down_hears_it_when_it_is_up(system: System):
    with receiving() as gone:
        row = endpoint(gone)
    webhooks.send_test(actor=TEST, rights=everything(), endpoint=row)
    wait_for(lambda: query("SELECT 1 FROM rollouts_webhookdelivery WHERE problem <> ''"), what="a failed try")
    with receiving(gone.port) as back:
        wait_for(delivered, what="the message")
        assert len(back.got) == 1
    ((_, attempts),) = query(STATES)
    assert attempts >= 2


def test_a_worker_that_is_killed_while_it_sends_loses_nothing(system: System):
    with receiving() as receiver:
        receiver.delay_s = 8
        row = endpoint(receiver)
        webhooks.send_test(actor=TEST, rights=everything(), endpoint=row)
        wait_for(lambda: receiver.got, what="the first try")
        system.kill("worker")
        receiver.delay_s = 0
        assert query(STATES) == [("waiting", 1)]
        system.restart("worker")
        wait_for(delivered, LEASE_S + 60, what="the message")
        assert query(STATES) == [("delivered", 2)]
        assert len(receiver.got) == 2
        assert len(set(receiver.ids())) == 1, "so that the receiver knows it again"
