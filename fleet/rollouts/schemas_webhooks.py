"""What the API takes and gives about webhooks."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema

from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint

Name = Annotated[str, Field(max_length=64)]
Url = Annotated[str, Field(max_length=500)]
Kinds = Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=100)]


class WebhookOut(Schema):
    """A webhook. `kinds` empty: all. `off_reason` says why it is off; `failing_since`: nothing has got through since.

    `old_until`: until when the secret of before the last rotation signs too. `waiting` and `given_up` count messages.
    """

    id: int
    name: str
    url: str
    kinds: list[str]
    active: bool
    off_reason: str
    failing_since: datetime | None
    old_until: datetime | None
    made_by: str
    made_at: datetime
    waiting: int
    given_up: int
    last_at: datetime | None


class WebhookSecretOut(WebhookOut):
    """The same with its secret, which is told this once."""

    secret: str


class WebhookPage(Schema):
    """All webhooks, by name."""

    items: list[WebhookOut]
    next: str | None


class WebhookIn(Schema):
    """A webhook to make; its address begins with https://, and leads to a public address whenever it is called."""

    name: Name
    url: Url
    kinds: Kinds = []


class WebhookChange(Schema):
    """What to change; `active` switches it on or off."""

    name: Name | None = None
    url: Url | None = None
    kinds: Kinds | None = None
    active: bool | None = None


class DeliveryOut(Schema):
    """A message and how its last try went. `message` is its webhook-id; `status` null: nobody answered."""

    id: int
    message: str
    kind: str
    rollout: int | None
    state: Literal["waiting", "delivered", "given_up"]
    attempts: int
    made_at: datetime
    next_at: datetime | None
    give_up_at: datetime
    tried_at: datetime | None
    status: int | None
    latency_ms: int | None
    answer: str
    problem: str


class DeliveryDetailOut(DeliveryOut):
    """The same with the body as it is sent."""

    body: str


class DeliveryPage(Schema):
    """A page of messages, newest first; `next` is the cursor of the next one, or null."""

    items: list[DeliveryOut]
    next: str | None


def webhook_out(row: WebhookEndpoint) -> dict[str, Any]:
    """A webhook, read by selectors.webhooks, as the API shows it."""
    given = {name: getattr(row, name) for name in WebhookOut.model_fields if name != "active"}
    return {**given, "active": row.is_active}


def delivery_out(row: WebhookDelivery) -> dict[str, Any]:
    """A message as the API shows it."""
    given = {name: getattr(row, name) for name in DeliveryOut.model_fields if name != "rollout"}
    return {**given, "rollout": row.rollout_id}


def delivery_detail_out(row: WebhookDelivery) -> dict[str, Any]:
    """The same with its body."""
    return {**delivery_out(row), "body": row.body}
