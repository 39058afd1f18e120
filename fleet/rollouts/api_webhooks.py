"""API operations on webhooks. For administrators of the whole fleet alone: an address may be a secret too."""

from typing import Any

from django.http import HttpResponse
from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from fleet.rollouts import schemas_webhooks as schemas
from fleet.rollouts.hooks import spelled
from fleet.rollouts.models import WebhookEndpoint
from fleet.rollouts.models_webhooks import DeliveryState
from fleet.rollouts.selectors.webhooks import (
    allow_webhooks,
    deliveries_of,
    endpoints_in,
    get_delivery,
    get_endpoint,
    secrets_of,
)
from fleet.rollouts.services import webhooks

router = Router()


@router.get("/webhooks", response=schemas.WebhookPage, summary="List webhooks")
def list_webhooks(request: ScopedRequest) -> dict[str, Any]:
    """All webhooks, by name."""
    allow_webhooks(request.rights)
    return {"items": [schemas.webhook_out(row) for row in endpoints_in(request.who)], "next": None}


@router.post("/webhooks", response={201: schemas.WebhookSecretOut}, summary="Make a webhook")
@dangerous("webhook.create")
def create_webhook(request: ScopedRequest, response: HttpResponse, body: schemas.WebhookIn) -> Status[dict[str, Any]]:
    """Make a webhook; its secret is in this answer only. Heeds Idempotency-Key."""
    return _with_secret(request, response, _create(request, body))


@idempotent
def _create(request: ScopedRequest, body: schemas.WebhookIn) -> Status[dict[str, Any]]:
    made = webhooks.save_endpoint(actor=request.who, rights=request.rights, values=body.dict())
    return Status(201, _out(request, made))


@router.get("/webhooks/{webhook}", response=schemas.WebhookOut, summary="One webhook")
def one_webhook(request: ScopedRequest, webhook: int) -> dict[str, Any]:
    """A webhook without its secret."""
    return schemas.webhook_out(_get(request, webhook))


@router.patch("/webhooks/{webhook}", response=schemas.WebhookOut, summary="Change a webhook")
@dangerous("webhook.change")
def change_webhook(request: ScopedRequest, webhook: int, body: schemas.WebhookChange) -> dict[str, Any]:
    """Change what is given. Switched off, it gives up what waits, and hears of nothing."""
    row = _get(request, webhook)
    given = {name: value for name, value in body.dict(exclude_unset=True).items() if value is not None}
    active = given.pop("active", row.is_active)
    who: dict[str, Any] = {"actor": request.who, "rights": request.rights}
    if given:
        webhooks.save_endpoint(**who, values=given, endpoint=row)
    if active != row.is_active:
        webhooks.switch_endpoint(**who, endpoint=row, on=active)
    return _out(request, row)


@router.delete("/webhooks/{webhook}", response={204: None}, summary="Remove a webhook")
def delete_webhook(request: ScopedRequest, webhook: int) -> Status[None]:
    """Remove it, with its messages."""
    row = _get(request, webhook)
    webhooks.delete_endpoint(actor=request.who, rights=request.rights, endpoint=row)
    return Status(204, None)


@router.post("/webhooks/{webhook}/rotate", response=schemas.WebhookSecretOut, summary="Rotate a webhook's secret")
@dangerous("webhook.rotate")
def rotate_webhook(request: ScopedRequest, response: HttpResponse, webhook: int) -> Status[dict[str, Any]]:
    """A new secret, in this answer only; for 24 hours the one before signs too. Heeds Idempotency-Key."""
    return _with_secret(request, response, _rotate(request, webhook))


@idempotent
def _rotate(request: ScopedRequest, webhook: int) -> Status[dict[str, Any]]:
    row = _get(request, webhook)
    webhooks.rotate_secret(actor=request.who, rights=request.rights, endpoint=row)
    return Status(200, _out(request, row))


@router.post("/webhooks/{webhook}/test", response={202: schemas.DeliveryOut}, summary="Send a test")
@idempotent
def test_webhook(request: ScopedRequest, webhook: int) -> Status[dict[str, Any]]:
    """Have a message of the kind `webhook.test` sent; look at it to see how it went. Heeds Idempotency-Key."""
    row = _get(request, webhook)
    return Status(202, schemas.delivery_out(webhooks.send_test(actor=request.who, rights=request.rights, endpoint=row)))


# Messages ---------------------------------------------------------------------------------------------------
@router.get("/webhooks/{webhook}/deliveries", response=schemas.DeliveryPage, summary="List a webhook's messages")
def list_webhook_deliveries(
    request: ScopedRequest, webhook: int, state: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Messages of the last 30 days, newest first; `state` is waiting, delivered or given_up."""
    found = deliveries_of(_get(request, webhook), state if state in DeliveryState.values else "")
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.delivery_out)


@router.get("/webhooks/{webhook}/deliveries/{delivery}", response=schemas.DeliveryDetailOut, summary="One message")
def one_webhook_delivery(request: ScopedRequest, webhook: int, delivery: int) -> dict[str, Any]:
    """A message with its body."""
    return schemas.delivery_detail_out(get_delivery(_get(request, webhook), delivery))


@router.post(
    "/webhooks/{webhook}/deliveries/{delivery}/redeliver",
    response={202: schemas.DeliveryOut},
    summary="Send a message again",
)
@idempotent
def redeliver_webhook(request: ScopedRequest, webhook: int, delivery: int) -> Status[dict[str, Any]]:
    """Send it again, the same under the same id, or now instead of later; 409 while it is sent.

    Heeds Idempotency-Key.
    """
    message = get_delivery(_get(request, webhook), delivery)
    again = webhooks.redeliver(actor=request.who, rights=request.rights, message=message)
    return Status(202, schemas.delivery_out(again))


def _get(request: ScopedRequest, webhook: int) -> WebhookEndpoint:
    return get_endpoint(scope=request.who, rights=request.rights, pk=webhook)


def _out(request: ScopedRequest, row: WebhookEndpoint) -> dict[str, Any]:
    return schemas.webhook_out(_get(request, row.pk))


def _with_secret(
    request: ScopedRequest, response: HttpResponse, made: Status[dict[str, Any]]
) -> Status[dict[str, Any]]:
    """An answer with the secret put in, which is no part of what Idempotency-Key keeps."""
    row = _get(request, made.value["id"])
    response["Cache-Control"] = "no-store"
    return Status(made.status_code, {**made.value, "secret": spelled(secrets_of(row, database_now())[0])})
