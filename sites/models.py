"""Tables of sites. Samples and their rollups are partitioned and have no model: see migration 0002."""

import uuid
from datetime import datetime

from django.conf import settings
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse

from sites.states import Availability, Axis, Compliance, Life, Reachability, Source
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
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["provider", "id"], name="site_provider"),
            models.Index(fields=["name", "id"], name="site_name"),
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


class ComponentSet(models.Model):
    """Each distinct set of components once, under its digest (agent.protocol.components_digest)."""

    digest = models.CharField(max_length=71, primary_key=True)
    components = models.JSONField(help_text="[[kind, name, version, digest or null], ...], sorted.")
    recorded_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.digest


class SiteState(models.Model):
    """What is known of a site now: one row a site, hot (fillfactor 50), never indexed but by its key and provider.

    `availability` and `reachability` are the recorded states; `shown` is what people see, after hysteresis.
    `version` guards every write: a poller that read an older row changes nothing.
    """

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="state")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    version = models.BigIntegerField(default=0)
    availability = models.CharField(max_length=8, choices=Availability, default=Availability.UNKNOWN)
    availability_since = models.DateTimeField()
    reachability = models.CharField(max_length=12, choices=Reachability, default=Reachability.NEVER, blank=True)
    reachability_since = models.DateTimeField()
    shown = models.CharField(max_length=8, choices=Availability, default=Availability.UNKNOWN)
    shown_since = models.DateTimeField()
    candidate = models.CharField(max_length=8, blank=True, help_text="State that hysteresis still holds back.")
    candidate_count = models.SmallIntegerField(default=0)
    candidate_since = models.DateTimeField(null=True)
    misses = models.IntegerField(default=0)
    compliance = models.CharField(max_length=8, choices=Compliance, default=Compliance.UNKNOWN)
    changed_at = models.DateTimeField(db_default=Now(), help_text="Last change of what the map shows.")
    last_poll_at = models.DateTimeField(null=True)
    last_good_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=24, blank=True)
    last_error_detail = models.CharField(max_length=300, blank=True)
    component_set = models.ForeignKey(
        ComponentSet, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    reasons = models.JSONField(default=list)
    workloads = models.JSONField(default=list)
    workloads_at = models.DateTimeField(null=True)
    boot = models.CharField(max_length=64, blank=True)
    clock_offset_ms = models.BigIntegerField(null=True, help_text="Site's clock minus ours, at receipt.")
    journal_seq = models.BigIntegerField(null=True)
    journal_head = models.CharField(max_length=71, blank=True)
    busy_until = models.DateTimeField(null=True)
    busy_reason = models.CharField(max_length=200, blank=True)
    rtt_ms = models.IntegerField(null=True)
    cpu_ratio = models.FloatField(null=True)
    mem_ratio = models.FloatField(null=True)
    disk_ratio = models.FloatField(null=True)
    temp_celsius = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(availability__in=Availability.values), name="state_availability"),
            models.CheckConstraint(condition=Q(reachability__in=Reachability.values), name="state_reachability"),
            models.CheckConstraint(condition=Q(shown__in=Availability.values), name="state_shown"),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id}: {self.shown}"


class Fact(models.Model):
    """What is common to facts: valid over `[valid_from, valid_to)`, known from `recorded_at` on.

    A correction supersedes a row (`superseded_at`) and adds another; only an open row may be closed, which sets
    `valid_to` and `closed_at`. So any report can be computed as of any moment.
    """

    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    recorded_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)
    superseded_at = models.DateTimeField(null=True)
    source = models.CharField(max_length=10, choices=Source)
    evidence = models.JSONField(default=dict, help_text="The poll or the journal entry that proves it.")
    evidence_end = models.JSONField(null=True, help_text="The same for its end.")

    class Meta:
        abstract = True

    def lasted_s(self, now: datetime) -> float:
        """Seconds from begin to end, or to `now` while open."""
        return ((self.valid_to or now) - self.valid_from).total_seconds()


def _fact_constraints(name: str) -> list[models.BaseConstraint]:
    return [
        models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name=f"{name}_span"),
        models.CheckConstraint(
            condition=Q(valid_to=None, closed_at=None) | Q(valid_to__isnull=False), name=f"{name}_closed"
        ),
    ]


class StateInterval(Fact):
    """A state of one axis of one site over a span."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="intervals", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    axis = models.CharField(max_length=12, choices=Axis)
    state = models.CharField(max_length=12)

    class Meta:
        indexes = [
            models.Index(fields=["site", "axis", "valid_from"], name="interval_site"),
            models.Index(fields=["provider", "valid_from"], name="interval_provider"),
            models.Index(fields=["-recorded_at"], name="interval_recorded"),
        ]
        constraints = [
            *_fact_constraints("interval"),
            models.UniqueConstraint(
                fields=["site", "axis"], condition=Q(valid_to=None, superseded_at=None), name="interval_one_open"
            ),
            models.CheckConstraint(
                condition=Q(axis=Axis.AVAILABILITY, state__in=Availability.values)
                | Q(axis=Axis.REACHABILITY, state__in=["reachable", "unreachable", "centre_blind"]),
                name="interval_state",
            ),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id} {self.axis} {self.state} from {self.valid_from}"


class Outage(Fact):
    """An unbroken time that began `down` and ends with the first report of `up` or `degraded`."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="outages", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    cause = models.CharField(max_length=24, default="unknown")

    class Meta:
        indexes = [
            models.Index(fields=["site", "valid_from"], name="outage_site"),
            models.Index(fields=["provider", "valid_from"], name="outage_provider"),
        ]
        constraints = [
            *_fact_constraints("outage"),
            models.UniqueConstraint(
                fields=["site"], condition=Q(valid_to=None, superseded_at=None), name="outage_one_open"
            ),
        ]

    def __str__(self) -> str:
        return f"outage of site {self.site_id} from {self.valid_from}"


class ComponentSpan(Fact):
    """Which set of components a site ran over a span."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="component_spans", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    component_set = models.ForeignKey(ComponentSet, on_delete=models.PROTECT, related_name="spans")

    class Meta:
        indexes = [models.Index(fields=["site", "valid_from"], name="component_span_site")]
        constraints = [
            *_fact_constraints("component_span"),
            models.UniqueConstraint(
                fields=["site"], condition=Q(valid_to=None, superseded_at=None), name="component_span_one_open"
            ),
        ]

    def __str__(self) -> str:
        return f"site {self.site_id} ran {self.component_set_id} from {self.valid_from}"


class PollerBeat(models.Model):
    """One row a poller and minute, kept: the proof that the centre was, or was not, watching."""

    poller = models.CharField(max_length=64)
    minute = models.DateTimeField()
    polls = models.IntegerField(default=0)
    failures = models.IntegerField(default=0)
    lag_max_ms = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["minute", "poller"], name="poller_beat_once")]

    def __str__(self) -> str:
        return f"{self.poller} {self.minute}: {self.polls}"


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
