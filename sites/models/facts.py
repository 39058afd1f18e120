"""What is known of sites: their present state, and facts that are superseded, never rewritten."""

from datetime import datetime

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models.sites import Provider, Site
from sites.states import Availability, Axis, Compliance, Reachability, Source


class ComponentSet(models.Model):
    """Each distinct set of components once, under its digest (agent.protocol.components_digest)."""

    digest = models.CharField(max_length=71, primary_key=True)
    components = models.JSONField(help_text="[[kind, name, version, digest or null], ...], sorted.")
    recorded_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.digest


class ImageSize(models.Model):
    """What an image takes on the disk, unpacked, as sites of a provider last said; to foresee what a change takes."""

    digest = models.CharField(max_length=71)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    bytes = models.BigIntegerField()
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("digest", "provider"), name="image_size_once"),)

    def __str__(self) -> str:
        return f"{self.digest}: {self.bytes} bytes"


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
    mono_ms = models.BigIntegerField(null=True, help_text="Its clock since boot at the last good poll.")
    clock_offset_ms = models.BigIntegerField(null=True, help_text="Site's clock minus ours, at receipt.")
    journal_seq = models.BigIntegerField(null=True)
    journal_head = models.CharField(max_length=71, blank=True)
    busy_until = models.DateTimeField(null=True)
    busy_reason = models.CharField(max_length=200, blank=True)
    desired = models.CharField(
        max_length=600, blank=True, db_default="", help_text="epoch.version.state.detail of its document, as reported."
    )
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
