"""Providers, sites, who had them when, when they are polled, and who takes their trouble."""

import uuid

from django.conf import settings
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse

from sites.states import Life
from sites.validators import (
    validate_address,
    validate_finite,
    validate_free_slug,
    validate_labels,
    validate_lines,
    validate_networks,
    validate_time_zone,
)

SHARDS = 64
SLUG = RegexValidator(r"\A[a-z0-9]+(-[a-z0-9]+)*\Z", "Lower-case letters and digits, joined by single hyphens.")
TEXT = RegexValidator(r"\A[^\x00-\x1f\x7f]*\Z", "No control characters.")


class Provider(models.Model):
    """The company that owns or runs sites' hardware; the unit of tenancy."""

    id = models.AutoField(primary_key=True)
    slug = models.CharField(max_length=64, unique=True, validators=[SLUG, validate_free_slug])
    name = models.CharField(max_length=120, unique=True, validators=[TEXT])
    contact = models.TextField(
        blank=True,
        max_length=2000,
        validators=[validate_lines, MaxLengthValidator(2000)],
        help_text="Whom to call, and when.",
    )
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_networks],
        help_text="Networks that its sites' addresses may lie in; empty allows every public one.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("provider_detail", args=[self.slug])


class Site(models.Model):
    """One micro-cloud at one place."""

    id = models.AutoField(primary_key=True)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    slug = models.CharField(max_length=64, unique=True, validators=[SLUG, validate_free_slug])
    name = models.CharField(max_length=120, validators=[TEXT])
    place = models.CharField(max_length=120, blank=True, validators=[TEXT], help_text="City, as people call it.")
    country = models.CharField(max_length=2, blank=True, validators=[RegexValidator(r"\A[A-Z]{2}\Z", "Two letters.")])
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    lat = models.FloatField(validators=[validate_finite, MinValueValidator(-90.0), MaxValueValidator(90.0)])
    lon = models.FloatField(validators=[validate_finite, MinValueValidator(-180.0), MaxValueValidator(180.0)])
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="sites")
    region = models.CharField(max_length=64, blank=True, validators=[TEXT], db_index=True)
    ring = models.CharField(max_length=32, default="stable", validators=[SLUG])
    labels = models.JSONField(default=dict, blank=True, validators=[validate_labels])
    address = models.CharField(
        max_length=255, validators=[validate_address], help_text="Host name or address and port of its agent."
    )
    poll_interval_s = models.PositiveSmallIntegerField(
        default=30, validators=[MinValueValidator(1), MaxValueValidator(3600)]
    )
    contacts = models.TextField(blank=True, max_length=4000, validators=[validate_lines, MaxLengthValidator(4000)])
    notes = models.TextField(blank=True, max_length=20000, validators=[validate_lines, MaxLengthValidator(20000)])
    life = models.CharField(max_length=8, choices=Life, default=Life.PLANNED)
    tls_name = models.CharField(
        max_length=255, blank=True, editable=False, help_text="The name its certificate must bear; empty: not enrolled."
    )
    tls_pin = models.CharField(max_length=64, blank=True, editable=False, help_text="SHA-256 of the key it must show.")
    tls_push_at = models.DateTimeField(
        null=True, editable=False, help_text="From when on the centre renews its certificate, if it has not by itself."
    )
    identity_frozen_at = models.DateTimeField(null=True, editable=False)
    identity_frozen_reason = models.CharField(max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["provider", "id"], name="site_provider"),
            models.Index(fields=["name", "id"], name="site_name"),
            models.Index(
                fields=["identity_frozen_at"],
                condition=Q(identity_frozen_at__isnull=False),
                name="site_identity_frozen",
            ),
            models.Index(fields=["tls_push_at"], condition=Q(tls_push_at__isnull=False), name="site_tls_push"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(lat__gte=-90, lat__lte=90, lon__gte=-180, lon__lte=180), name="site_on_the_globe"
            ),
            models.CheckConstraint(
                condition=Q(poll_interval_s__gte=1, poll_interval_s__lte=3600), name="site_interval"
            ),
            models.CheckConstraint(condition=Q(life__in=Life.values), name="site_life"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("site_detail", args=[self.slug])


class SiteTenure(models.Model):
    """A provider's span over a site, with the names of then: history and reports join this, never `site`."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="tenures")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="tenures")
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    name = models.CharField(max_length=120)
    slug = models.CharField(max_length=64)
    place = models.CharField(max_length=120, blank=True)
    time_zone = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site"], condition=Q(valid_to=None), name="tenure_one_open"),
            models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name="tenure_span"),
        ]

    def __str__(self) -> str:
        return f"{self.slug} under provider {self.provider_id}"


class PollSchedule(models.Model):
    """When an active site is polled next. Narrow and hot, so that a claim is one short scan.

    No index on `next_poll_at`: updates stay within their page (HOT), and scanning 100,000 of these rows once a
    second is cheaper than moving as many index entries.
    """

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="schedule")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    shard = models.SmallIntegerField()
    interval_s = models.SmallIntegerField()
    backoff = models.SmallIntegerField(default=1, help_text="Intervals between two polls of a failing site: 1 to 4.")
    next_poll_at = models.DateTimeField()
    due_at = models.DateTimeField(null=True, help_text="What next_poll_at was when the site was last claimed.")
    gateway = models.CharField(max_length=32, blank=True, db_default="", help_text="Which gateway it has called in to.")
    gateway_until = models.DateTimeField(null=True, help_text="Until when that holds; then its address is dialled.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(backoff__gte=1, backoff__lte=4), name="schedule_backoff"),
            models.CheckConstraint(condition=Q(shard__gte=0, shard__lt=SHARDS), name="schedule_shard"),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id} at {self.next_poll_at}"


class PollerShard(models.Model):
    """Which poller serves a shard; `manage.py pollers N` writes it."""

    shard = models.SmallIntegerField(primary_key=True)
    poller = models.SmallIntegerField()

    def __str__(self) -> str:
        return f"shard {self.shard} -> poller {self.poller}"


class Acknowledgement(models.Model):
    """Somebody has taken a site's trouble; cleared when the site is well again."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="acknowledgements")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    user_name = models.CharField(max_length=150)
    at = models.DateTimeField(db_default=Now())
    note = models.CharField(max_length=500, blank=True, validators=[TEXT])
    cleared_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site"], condition=Q(cleared_at=None), name="acknowledgement_one_open")
        ]

    def __str__(self) -> str:
        return f"{self.user_name} took site {self.site_id}"
