"""Webhooks: making, changing and removing endpoints, rotating their secrets, tests, and sending a message again."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.rollouts.hooks import ALL_KINDS, BOTH_SECRETS_FOR, GIVE_UP_AFTER, TEST, UrlError, host_of
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.models_webhooks import DeliveryState
from fleet.rollouts.selectors.rollouts import sees_whole
from fleet.rollouts.selectors.webhooks import allow_webhooks
from fleet.rollouts.services.outbox import delivery, new_message, text_of

EDITABLE: Final = ("name", "url", "kinds")
MAX_ENDPOINTS: Final = 50
_SNAPSHOT: Final = (*EDITABLE, "is_active")


def save_endpoint(
    *, actor: Scope, rights: Rights, values: Mapping[str, Any], endpoint: WebhookEndpoint | None = None
) -> WebhookEndpoint:
    """Make an endpoint with a secret of its own, or change one; `values` are names of EDITABLE. Audited.

    Raises NotAllowed, NotFound, Invalid (fields in `details`).
    """
    _allow(actor, rights)
    with scope(actor):
        row = _new(actor) if endpoint is None else _lock(endpoint)
        before = None if endpoint is None else _snapshot(row)
        for name in EDITABLE:
            if name in values:
                setattr(row, name, values[name])
        _check(row)
        try:
            with transaction.atomic():
                row.save(force_insert=True) if endpoint is None else row.save(update_fields=[*EDITABLE])
        except IntegrityError:
            raise Invalid("Some values cannot be taken.", details={"name": "This name is taken."}) from None
        word = "webhook.create" if endpoint is None else "webhook.change"
        _record(actor, word, row, before=before, after=_snapshot(row))
    return row


def rotate_secret(*, actor: Scope, rights: Rights, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    """Give it a new secret; the one before signs too for BOTH_SECRETS_FOR. Audited. Raises NotAllowed, NotFound."""
    _allow(actor, rights)
    with scope(actor):
        row = _lock(endpoint)
        row.old_salt, row.salt = row.salt, _new_salt()
        row.old_until = database_now() + BOTH_SECRETS_FOR
        row.save(update_fields=["salt", "old_salt", "old_until"])
        _record(actor, "webhook.rotate", row, after={"old_until": row.old_until.isoformat()})
    return row


def switch_endpoint(*, actor: Scope, rights: Rights, endpoint: WebhookEndpoint, on: bool) -> WebhookEndpoint:
    """Switch it on, its failures forgotten, or off: what waits is then given up. Audited.

    Raises NotAllowed, NotFound.
    """
    _allow(actor, rights)
    with scope(actor):
        row = _lock(endpoint)
        before = _snapshot(row)
        if on:
            row.is_active, row.off_reason, row.failing_since = True, "", None
            row.save(update_fields=["is_active", "off_reason", "failing_since"])
        else:
            switch_off(row, f"Switched off by {actor.name}.")
        _record(actor, "webhook.on" if on else "webhook.off", row, before=before, after=_snapshot(row))
    return row


def switch_off(row: WebhookEndpoint, reason: str) -> None:
    """Tell it nothing from now on; what waits for it is given up. Within the open, wide scope."""
    row.is_active, row.off_reason = False, reason[:300]
    row.save(update_fields=["is_active", "off_reason"])
    waiting = WebhookDelivery.objects.filter(endpoint=row, state=DeliveryState.WAITING)
    waiting.update(
        state=DeliveryState.GIVEN_UP, next_at=None, leased_until=None, problem="The webhook was switched off."
    )


def delete_endpoint(*, actor: Scope, rights: Rights, endpoint: WebhookEndpoint) -> None:
    """Remove it with its messages. Audited. Raises NotAllowed, NotFound."""
    _allow(actor, rights)
    with scope(actor):
        row = _lock(endpoint)
        _record(actor, "webhook.delete", row, before=_snapshot(row))
        WebhookEndpoint.objects.filter(pk=row.pk).delete()


# Messages ---------------------------------------------------------------------------------------------------
def send_test(*, actor: Scope, rights: Rights, endpoint: WebhookEndpoint) -> WebhookDelivery:
    """Have a message of the kind TEST sent within a second or two. Audited. Raises NotAllowed, NotFound, Conflict."""
    _allow(actor, rights)
    with scope(actor):
        row = _lock_active(endpoint)
        now = database_now()
        body = text_of(TEST, now, {"webhook": row.name, "link": f"{settings.DASHBOARD_URL}/webhooks/{row.pk}/"})
        made = delivery(row, new_message(), TEST, body, now=now)
        made.save(force_insert=True)
        _record(actor, "webhook.test", row, after={"message": made.message})
    return made


def redeliver(*, actor: Scope, rights: Rights, message: WebhookDelivery) -> WebhookDelivery:
    """Send a message again, or now instead of later: the same body under the same id, which receivers know again.

    Audited. Raises NotAllowed, NotFound, Conflict (it is being sent, or the endpoint is off).
    """
    _allow(actor, rights)
    with scope(actor):
        endpoint = _lock_active(message.endpoint)
        row = WebhookDelivery.objects.select_for_update().filter(pk=message.pk, endpoint=endpoint).first()
        if row is None:
            raise NotFound("There is no such message; they are kept for 30 days.")
        now = database_now()
        if row.leased_until is not None and row.leased_until > now:
            raise Conflict("It is being sent right now.")
        before = {"state": row.state}
        _make_due(row, now)
        _record(
            actor,
            "webhook.redeliver",
            endpoint,
            before=before,
            after={"state": str(row.state)},
            note=f"{row.kind} {row.message}",
        )
        live.publish(hints=[(("webhook", endpoint.pk), None)])
    return row


def _make_due(row: WebhookDelivery, now: datetime) -> None:
    row.state, row.attempts = DeliveryState.WAITING, 0
    row.next_at, row.give_up_at, row.leased_until = now, now + GIVE_UP_AFTER, None
    row.save(update_fields=["state", "attempts", "next_at", "give_up_at", "leased_until"])


# ------------------------------------------------------------------------------------------------------------
def _allow(actor: Scope, rights: Rights) -> None:
    allow_webhooks(rights)
    if not sees_whole(actor):
        raise NotFound("There is no such webhook, or it is not yours to see.")


def _new(actor: Scope) -> WebhookEndpoint:
    if WebhookEndpoint.objects.count() >= MAX_ENDPOINTS:
        raise Conflict(f"There are at most {MAX_ENDPOINTS} webhooks.")
    return WebhookEndpoint(salt=_new_salt(), made_by=actor.name[:150])


def _new_salt() -> str:
    return secrets.token_urlsafe(32)


def _lock(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    row = WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
    if row is None:
        raise NotFound("There is no such webhook, or it is not yours to see.")
    return row


def _lock_active(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    row = _lock(endpoint)
    if not row.is_active:
        raise Conflict("It is switched off; switch it on first.")
    return row


def _check(row: WebhookEndpoint) -> None:
    details = {}
    row.name = row.name.strip()
    if not row.name or len(row.name) > 64 or not row.name.isprintable():
        details["name"] = "A name has 1 to 64 characters, on one line."
    try:
        host_of(row.url, http=settings.WEBHOOK_HTTP_LOOPBACK)
    except UrlError as error:
        details["url"] = str(error)
    if not isinstance(row.kinds, list) or not set(row.kinds) <= set(ALL_KINDS):
        details["kinds"] = "There is no such kind of message."
    if details:
        raise Invalid("Some values cannot be taken.", details=details)
    row.kinds = [kind for kind in ALL_KINDS if kind in row.kinds]


def _snapshot(row: WebhookEndpoint) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _SNAPSHOT}


def _record(
    actor: Scope,
    word: str,
    row: WebhookEndpoint,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    audit.record(
        actor,
        word,
        object_type="webhook",
        object_id=row.pk,
        object_name=row.name,
        provider_id=None,
        before=before,
        after=after,
        note=note,
    )
