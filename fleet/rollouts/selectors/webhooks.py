"""Webhooks as those may see them who may change them; the scope must be open.

They are the fleet's: their messages tell of sites of all providers. Who sees less than the whole fleet finds none.
"""

from datetime import datetime

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet

from fleet.kit.errors import NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope
from fleet.rollouts.hooks import derived_secret
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.selectors.rollouts import sees_whole

RIGHT = "webhook.change"


def allow_webhooks(rights: Rights) -> None:
    """Raises NotAllowed, for whoever may not change webhooks sees none: an address may be a secret too."""
    if not rights.may(RIGHT):
        raise NotAllowed("Webhooks are the fleet's; your role does not allow this.")


def endpoints_in(who: Scope) -> QuerySet[WebhookEndpoint]:
    """Every endpoint, by name, or none. With `waiting` and `given_up` (messages) and `last_at` (the last that arrived).

    A provider's role may not even ask the database.
    """
    if not sees_whole(who):
        return WebhookEndpoint.objects.none()
    return WebhookEndpoint.objects.order_by("name").annotate(
        waiting=Count("deliveries", filter=Q(deliveries__state="waiting")),
        given_up=Count("deliveries", filter=Q(deliveries__state="given_up")),
        last_at=Max("deliveries__tried_at", filter=Q(deliveries__state="delivered")),
    )


def get_endpoint(*, scope: Scope, rights: Rights, pk: int) -> WebhookEndpoint:
    """One endpoint. Raises NotFound, and NotAllowed for who sees the whole fleet but may not change webhooks."""
    found = endpoints_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such webhook, or it is not yours to see.")
    allow_webhooks(rights)
    return found


def deliveries_of(endpoint: WebhookEndpoint, state: str = "") -> QuerySet[WebhookDelivery]:
    """Its messages, newest first; `state` one of DeliveryState, or all."""
    found = WebhookDelivery.objects.filter(endpoint=endpoint.pk).order_by("-pk")
    return found.filter(state=state) if state else found


def get_delivery(endpoint: WebhookEndpoint, pk: int) -> WebhookDelivery:
    """One message of an endpoint. Raises NotFound."""
    found = deliveries_of(endpoint).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such message; they are kept for 30 days.")
    return found


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[bytes]:
    """What signs its messages: its secret, and for a while after a rotation the one before."""
    salts = [endpoint.salt]
    if endpoint.old_salt and endpoint.old_until is not None and endpoint.old_until > now:
        salts.append(endpoint.old_salt)
    return [derived_secret(settings.SECRET_KEY, salt) for salt in salts]
