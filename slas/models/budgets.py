"""Error budgets as last worked out, and alerts that one goes too fast."""

from django.db import models
from django.db.models import F, Q

from sites.models import Provider, Site
from slas.models.contracts import Contract, Segment


class Budget(models.Model):
    """What the present period allows under a segment, and what of it is spent: of a site, or of all (`site` None).

    Worked out anew again and again from facts; nothing but the newest is kept. Milliseconds; what is allowed is rounded
    down. What is left is signed.
    """

    contract = models.ForeignKey(Contract, on_delete=models.CASCADE, related_name="budgets", db_index=False)
    segment = models.ForeignKey(Segment, on_delete=models.CASCADE, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    site = models.ForeignKey(Site, on_delete=models.CASCADE, null=True, related_name="budgets")
    measure = models.CharField(max_length=12)
    reach = models.CharField(max_length=14)
    begins = models.DateTimeField(help_text="Of the period.")
    ends = models.DateTimeField()
    allowed_ms = models.BigIntegerField()
    spent_ms = models.BigIntegerField()
    as_of = models.DateTimeField(help_text="That of a whole segment says when all of it was worked out.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["contract", "segment", "measure", "site"], name="budget_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(ends__gt=F("begins")), name="budget_span"),
        ]

    def __str__(self) -> str:
        return f"{self.measure} budget of segment {self.segment_id}, site {self.site_id}"

    @property
    def left_ms(self) -> int:
        """What is left, signed."""
        return self.allowed_ms - self.spent_ms


class BurnAlert(models.Model):
    """A budget went too fast over two windows, from `began_at` to `ended_at`: a site's, or that of all together."""

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="+", db_index=False)
    segment = models.ForeignKey(Segment, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    site = models.ForeignKey(Site, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    measure = models.CharField(max_length=12)
    short_ms = models.BigIntegerField()
    long_ms = models.BigIntegerField()
    pair = models.PositiveSmallIntegerField(help_text="Which of the pairs of windows, shortest first.")
    threshold = models.FloatField()
    rate_short = models.FloatField(help_text="When it began.")
    rate_long = models.FloatField()
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-began_at", "-id"]
        indexes = [
            models.Index(fields=["provider", "-began_at"], name="burn_alert_provider"),
            models.Index(fields=["site", "-began_at"], name="burn_alert_site"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["contract", "provider", "measure", "site", "pair"],
                condition=Q(ended_at=None),
                nulls_distinct=False,
                name="burn_alert_one_open",
            ),
            models.CheckConstraint(condition=Q(ended_at=None) | Q(ended_at__gte=F("began_at")), name="burn_alert_span"),
        ]

    def __str__(self) -> str:
        return f"{self.measure} of contract {self.contract_id} burns since {self.began_at}"
