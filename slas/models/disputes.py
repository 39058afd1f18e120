"""Disputes: what a provider claims of an outage, what came of it, and the time that was granted."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from sites.models import TEXT, Provider, Site
from slas.models.facts import Incident
from slas.states import Cause, Charged, DisputeState, Kind, Side, Step


class Dispute(models.Model):
    """A provider's claim that an outage, over `[begins, ends)`, was for another cause than what counts.

    `is_whole` says that this was all of the provider's part when it was filed. Only `state` ever changes, once: who
    did what, when and why are its steps.
    """

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="disputes")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    is_whole = models.BooleanField()
    cause = models.CharField(max_length=16)
    text = models.CharField(max_length=2000, validators=[TEXT])
    state = models.CharField(max_length=9, default="open")
    filed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    filed_name = models.CharField(max_length=150)
    filed_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["provider", "-id"], name="dispute_provider")]
        constraints = [
            models.UniqueConstraint(
                fields=["incident", "provider"], condition=Q(state="open"), name="dispute_one_open"
            ),
            models.CheckConstraint(condition=Q(ends__gt=F("begins")), name="dispute_span"),
            models.CheckConstraint(condition=Q(cause__in=[str(one) for one in Cause]), name="dispute_cause"),
            models.CheckConstraint(condition=Q(state__in=[str(one) for one in DisputeState]), name="dispute_state"),
        ]

    def __str__(self) -> str:
        return f"dispute {self.pk} on incident {self.incident_id}"


class DisputeStep(models.Model):
    """Something that was done about a dispute. Added only. `proof` is what came of a decision."""

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="steps")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=9)
    side = models.CharField(max_length=8)
    text = models.CharField(max_length=2000, blank=True, validators=[TEXT])
    proof = models.JSONField(default=dict)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    author_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=[str(one) for one in Step]), name="dispute_step_kind"),
            models.CheckConstraint(condition=Q(side__in=[str(one) for one in Side]), name="dispute_step_side"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.author_name} on dispute {self.dispute_id}"


class DisputeFile(models.Model):
    """A file that a provider attached as evidence: bytes, never looked into but for their kind. Added only."""

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="files")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    name = models.CharField(max_length=120, validators=[TEXT])
    content_type = models.CharField(max_length=40)
    size_bytes = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    body = models.BinaryField()
    author_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["dispute", "sha256"], name="dispute_file_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of dispute {self.dispute_id}"


class Adjustment(models.Model):
    """Time of an outage that a manager granted to a provider: a fact, excluded from its figures whatever the contract
    says of the cause. Added only; counts from `recorded_at` on."""

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="adjustments")
    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="adjustments")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=11)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField()
    cause = models.CharField(max_length=16)
    charged_to = models.CharField(max_length=11)
    reason = models.CharField(max_length=300)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    author_name = models.CharField(max_length=150)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["site", "valid_from"], name="adjustment_site")]
        constraints = [
            models.CheckConstraint(condition=Q(valid_to__gt=F("valid_from")), name="adjustment_span"),
            models.CheckConstraint(condition=Q(kind__in=[str(one) for one in Kind]), name="adjustment_kind"),
            models.CheckConstraint(condition=Q(cause__in=[str(one) for one in Cause]), name="adjustment_cause"),
            models.CheckConstraint(
                condition=Q(charged_to__in=[str(one) for one in Charged if one != Charged.PROVIDER]),
                name="adjustment_charged",
            ),
        ]

    def __str__(self) -> str:
        return f"granted of incident {self.incident_id} from {self.valid_from}"
