"""Outages as both sides speak of them, why they were, what was done about them; and when the centre was blind."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models import TEXT, Fact, Provider, Site
from slas.states import Blindness, Cause, Charged, Kind, Note, Side


def _span(name: str) -> list[models.BaseConstraint]:
    return [
        models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name=f"{name}_span"),
        models.CheckConstraint(
            condition=Q(valid_to=None, closed_at=None) | Q(valid_to__isnull=False), name=f"{name}_closed"
        ),
    ]


class Incident(models.Model):
    """What is one outage to people: it stays one across a hand-over, and when a journal corrects when it was.

    It bears no times: those are its spans', one for each provider that the site had meanwhile. An incident without a
    span that stands never was; `merged_into` is the one that it turned out to be a part of.
    """

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="incidents")
    kind = models.CharField(max_length=11)
    made_at = models.DateTimeField(db_default=Now())
    merged_into = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(kind__in=[str(one) for one in Kind]), name="incident_kind")]

    def __str__(self) -> str:
        return f"{self.kind} incident {self.pk} of site {self.site_id}"


class IncidentSpan(Fact):
    """When an incident was, as far as one provider had the site."""

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="spans")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=11)

    class Meta:
        indexes = [
            models.Index(fields=["site", "valid_from"], name="incident_span_site"),
            models.Index(fields=["provider", "-valid_from"], name="incident_span_provider"),
            models.Index(fields=["-valid_from"], name="incident_span_newest"),
        ]
        constraints = [
            *_span("incident_span"),
            models.UniqueConstraint(
                fields=["site", "kind"], condition=Q(valid_to=None, superseded_at=None), name="incident_span_one_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of site {self.site_id} from {self.valid_from}"


class Finding(models.Model):
    """Why an incident was, as far as one provider had it: by rule from facts, or corrected by somebody, who says why.

    Added only. The newest correction counts, else the newest by rule. `proof` is what the rule rests on: ids of the
    step and rollout, of the maintenance window, of the time in which the centre was blind.
    """

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="findings")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    cause = models.CharField(max_length=16)
    charged_to = models.CharField(max_length=11)
    is_correction = models.BooleanField(default=False)
    proof = models.JSONField(default=dict)
    reason = models.CharField(max_length=300)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    author_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["incident", "provider", "at"], name="finding_incident")]
        constraints = [
            models.CheckConstraint(condition=Q(cause__in=[str(one) for one in Cause]), name="finding_cause"),
            models.CheckConstraint(condition=Q(charged_to__in=[str(one) for one in Charged]), name="finding_charged"),
        ]

    def __str__(self) -> str:
        return f"{self.cause}: incident {self.incident_id}"


class IncidentNote(models.Model):
    """What one side said or did about an incident: it took it, or a comment. Added only; the newest taker owns it."""

    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="notes")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=12)
    side = models.CharField(max_length=8)
    text = models.CharField(max_length=2000, blank=True, validators=[TEXT])
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    author_name = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["incident", "provider"], name="incident_note")]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=[str(one) for one in Note]), name="incident_note_kind"),
            models.CheckConstraint(condition=Q(side__in=[str(one) for one in Side]), name="incident_note_side"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.author_name} on incident {self.incident_id}"


class DueIncidents(models.Model):
    """A site whose outages are to be derived anew from a moment on. Rows are added, by triggers and services."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False)
    provider = models.ForeignKey(
        Provider, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"site {self.site_id} is due from {self.since}"


class CentreBlind(models.Model):
    """A time in which the centre itself could not watch: a fact as those of sites are, and of no site."""

    rule = models.CharField(max_length=9)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    recorded_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["valid_from"]
        constraints = [
            *_span("centre_blind"),
            models.UniqueConstraint(fields=["rule", "valid_from"], name="centre_blind_once"),
            models.CheckConstraint(condition=Q(rule__in=[str(one) for one in Blindness]), name="centre_blind_rule"),
        ]

    def __str__(self) -> str:
        return f"blind from {self.valid_from} ({self.rule})"
