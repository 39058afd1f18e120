"""Tables of webhooks: who is told of what happens in rollouts and to SLAs, and every message with how it went."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class DeliveryState(models.TextChoices):
    """How a message to one endpoint is."""

    WAITING = "waiting", "Waiting"
    DELIVERED = "delivered", "Delivered"
    GIVEN_UP = "given_up", "Given up"


class WebhookEndpoint(models.Model):
    """An address that is told. `kinds` empty: of everything. Its secret follows from `salt` (hooks.derived_secret).

    After a rotation the secret of `old_salt` signs too, until `old_until`. `failing_since` is the first failure since
    anything got through.
    """

    name = models.CharField(max_length=64, unique=True)
    url = models.CharField(max_length=500)
    kinds = models.JSONField(default=list, blank=True)
    salt = models.CharField(max_length=64)
    old_salt = models.CharField(max_length=64, blank=True)
    old_until = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)
    off_reason = models.CharField(max_length=300, blank=True)
    failing_since = models.DateTimeField(null=True)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(models.Model):
    """One message to one endpoint, and how its last try went. `body` is sent as it is; `message` is its webhook-id.

    `lease` guards what a sender writes of it, and rises with every claim; until `leased_until` nobody else sends it.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    message = models.CharField(max_length=40)
    kind = models.CharField(max_length=40)
    rollout = models.ForeignKey(
        "rollouts.Rollout", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    event = models.ForeignKey(
        "rollouts.RolloutEvent", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    evaluation = models.ForeignKey(
        "rollouts.GateEvaluation", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    body = models.TextField()
    state = models.CharField(max_length=9, choices=DeliveryState, default=DeliveryState.WAITING)
    attempts = models.SmallIntegerField(default=0)
    made_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True)
    give_up_at = models.DateTimeField()
    lease = models.IntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    status = models.SmallIntegerField(null=True)
    latency_ms = models.IntegerField(null=True)
    answer = models.CharField(max_length=500, blank=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="delivery_log"),
            models.Index(fields=["endpoint", "next_at"], condition=Q(state="waiting"), name="delivery_due"),
            models.Index(fields=["made_at"], name="delivery_age"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "message"], name="delivery_once"),
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state"),
            models.CheckConstraint(
                condition=Q(state="waiting", next_at__isnull=False) | (~Q(state="waiting") & Q(next_at=None)),
                name="delivery_waits_for_something",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to endpoint {self.endpoint_id}: {self.state}"
