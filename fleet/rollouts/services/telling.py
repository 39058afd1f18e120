"""Tells webhooks what happened to SLAs: takes the rows that were noted, and writes the messages, in one transaction."""

from typing import Any, Final

from django.conf import settings

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from fleet.rollouts.hooks import wanted_by
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.services.outbox import delivery, new_message, text_of
from fleet.rollouts.services.sending import WEBHOOKS
from slas.models import OutboxEvent

AT_ONCE: Final = 500


def tell() -> int:
    """Write messages for what was noted, the oldest first; returns how many rows were taken. Opens its own scope.

    What is taken and what is written stand or fall together: each is told once, and to nobody where nobody wants it.
    """
    with scope(WEBHOOKS):
        found = OutboxEvent.objects.select_for_update(of=("self",), skip_locked=True).select_related("provider")
        rows = list(found.order_by("id")[:AT_ONCE])
        if not rows:
            return 0
        endpoints = list(WebhookEndpoint.objects.filter(is_active=True).order_by("pk"))
        now, made = database_now(), []
        for row in rows:
            wanting = [one for one in endpoints if wanted_by(one.kinds, row.kind)]
            if wanting:
                message, body = new_message(), text_of(row.kind, row.at, _data(row))
                made += [delivery(one, message, row.kind, body, now=now) for one in wanting]
        WebhookDelivery.objects.bulk_create(made, batch_size=500)
        OutboxEvent.objects.filter(pk__in=[row.pk for row in rows]).delete()
        return len(rows)


def _data(row: OutboxEvent) -> dict[str, Any]:
    provider = {"slug": row.provider.slug, "name": row.provider.name}
    return {**row.data, "provider": provider, "link": f"{settings.DASHBOARD_URL}{row.path}"}
