"""Round trips of polls, counted day by day while the samples are kept."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models import Provider, Site


class LatencyDay(models.Model):
    """How often polls of a site under a provider took how long on a day, within service hours. Never changed.

    `hours` is which hours of which zone's days (slas.selectors.latency.hours_key). `rtt_ms` are the round trips that
    occurred, ascending, `counts` how often each did. `seen_ms` of `scheduled_ms` had any, by steps of five minutes.
    """

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    hours = models.CharField(max_length=32)
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    polls = models.PositiveIntegerField()
    rtt_ms = ArrayField(models.IntegerField())
    counts = ArrayField(models.IntegerField())
    seen_ms = models.BigIntegerField()
    scheduled_ms = models.BigIntegerField()
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "hours", "begins", "provider"], name="latency_day_once"),
            models.CheckConstraint(condition=Q(ends__gt=F("begins")), name="latency_day_span"),
        ]

    def __str__(self) -> str:
        return f"{self.polls} polls of site {self.site_id} from {self.begins}"
