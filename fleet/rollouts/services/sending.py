"""What the sender of webhooks claims and writes: due messages under a lease, and how each try went.

A claim counts as a try and holds for LEASE_S by the database's clock; a sender that dies loses it, and another sends
the message again: at least once, under the same id. What a late sender writes touches no row, for the lease has risen.
"""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connections

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from fleet.rollouts.hooks import KEPT_FOR, OFF_AFTER, next_try
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.models_webhooks import DeliveryState
from fleet.rollouts.selectors.webhooks import secrets_of
from fleet.rollouts.services.webhooks import switch_off

WEBHOOKS: Final = job("webhooks")
LEASE_S: Final = 30
ENDPOINTS_AT_ONCE: Final = 10
EACH_AT_ONCE: Final = 4
ANSWER_CHARS: Final = 500
_GONE: Final = 410

# An endpoint whose messages are being sent gets no second batch, so that one that hangs does not take all senders.
_CLAIM = """
WITH endpoint AS (
    SELECT e.id FROM rollouts_webhookendpoint e
    WHERE e.is_active
        AND EXISTS (SELECT 1 FROM rollouts_webhookdelivery d
            WHERE d.endpoint_id = e.id AND d.state = 'waiting' AND d.next_at <= now())
        AND NOT EXISTS (SELECT 1 FROM rollouts_webhookdelivery d
            WHERE d.endpoint_id = e.id AND d.state = 'waiting' AND d.leased_until > now())
    ORDER BY (SELECT min(d.next_at) FROM rollouts_webhookdelivery d
        WHERE d.endpoint_id = e.id AND d.state = 'waiting') LIMIT %(endpoints)s
), due AS (
    SELECT found.id FROM endpoint CROSS JOIN LATERAL (
        SELECT d.id FROM rollouts_webhookdelivery d
        WHERE d.endpoint_id = endpoint.id AND d.state = 'waiting' AND d.next_at <= now()
            AND (d.leased_until IS NULL OR d.leased_until <= now())
        ORDER BY d.next_at, d.id LIMIT %(each)s FOR UPDATE SKIP LOCKED
    ) found
)
UPDATE rollouts_webhookdelivery d
SET lease = lease + 1, attempts = attempts + 1, leased_until = now() + make_interval(secs => %(lease)s)
FROM due WHERE d.id = due.id RETURNING d.id
"""
_PRUNE = """
DELETE FROM rollouts_webhookdelivery WHERE id IN (
    SELECT id FROM rollouts_webhookdelivery
    WHERE made_at < now() - make_interval(secs => %(kept_s)s) AND state <> 'waiting' LIMIT 20000)
"""


@dataclass(frozen=True, slots=True)
class Sending:
    """A message to send now. `secrets` sign it; `at` is the moment that is signed with it."""

    pk: int
    lease: int
    url: str
    message: str
    body: str
    secrets: tuple[bytes, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """How a try went. `status` None: nobody answered, and `problem` says why."""

    latency_ms: int
    status: int | None = None
    answer: str = ""
    problem: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


def claim() -> list[Sending]:
    """Take due messages, at most EACH_AT_ONCE of each endpoint. Opens its own scope."""
    with scope(WEBHOOKS):
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_CLAIM, {"endpoints": ENDPOINTS_AT_ONCE, "each": EACH_AT_ONCE, "lease": LEASE_S})
            ids = [pk for (pk,) in cursor.fetchall()]
        if not ids:
            return []
        now = database_now()
        found = WebhookDelivery.objects.filter(pk__in=ids).select_related("endpoint").order_by("pk")
        return [
            Sending(
                pk=row.pk,
                lease=row.lease,
                url=row.endpoint.url,
                message=row.message,
                body=row.body,
                secrets=tuple(secrets_of(row.endpoint, now)),
                at=now,
            )
            for row in found
        ]


def record_told(sending: Sending, told: Told) -> bool:
    """Write how a try went, unless the lease is lost. An endpoint that is gone, or fails too long, is switched off.

    Opens its own scope, and locks the endpoint before the message, as people's commands do.
    """
    with scope(WEBHOOKS):
        endpoint = WebhookEndpoint.objects.select_for_update().filter(deliveries=sending.pk).first()
        row = WebhookDelivery.objects.select_for_update().filter(pk=sending.pk, lease=sending.lease).first()
        if endpoint is None or row is None or row.state != DeliveryState.WAITING:
            return False
        now = database_now()
        row.tried_at, row.leased_until = now, None
        row.status, row.latency_ms = told.status, told.latency_ms
        row.answer, row.problem = told.answer[:ANSWER_CHARS], told.problem[:300]
        if told.arrived:
            row.state, row.next_at = DeliveryState.DELIVERED, None
        else:
            row.next_at = next_try(now, row.attempts, random.random(), row.give_up_at)
            row.state = DeliveryState.WAITING if row.next_at else DeliveryState.GIVEN_UP
        row.save(
            update_fields=[
                *("state", "next_at", "leased_until", "tried_at", "status", "latency_ms", "answer", "problem")
            ]
        )
        _judge(endpoint, row, now)
        live.publish(hints=[(("webhook", endpoint.pk), None)])
    return True


def _judge(endpoint: WebhookEndpoint, row: WebhookDelivery, now: datetime) -> None:
    """What a try means for the endpoint."""
    since = None if row.state == DeliveryState.DELIVERED else endpoint.failing_since or now
    if since != endpoint.failing_since:
        endpoint.failing_since = since
        endpoint.save(update_fields=["failing_since"])
    if row.state == DeliveryState.DELIVERED or not endpoint.is_active:
        return
    reason = ""
    if row.status == _GONE:
        reason = "The receiver answered 410: it wants no more messages."
    elif row.state == DeliveryState.GIVEN_UP and since is not None and now - since >= OFF_AFTER:
        reason = f"Nothing has got through for {OFF_AFTER.days} days, and a message was given up."
    if reason:
        switch_off(endpoint, reason)
        audit.record(
            WEBHOOKS,
            "webhook.off",
            object_type="webhook",
            object_id=endpoint.pk,
            object_name=endpoint.name,
            provider_id=None,
            before={"is_active": True},
            after={"is_active": False},
            note=reason,
        )


def prune() -> int:
    """Forget messages that are older than KEPT_FOR; how many. Opens its own scope."""
    with scope(WEBHOOKS), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_PRUNE, {"kept_s": KEPT_FOR.total_seconds()})
        return int(cursor.rowcount)
