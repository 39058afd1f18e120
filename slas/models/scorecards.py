"""Scorecards: the figures of a contract's month under one provider, kept so that a page need not compute them."""

from django.db import models

from sites.models import Provider
from slas.models.contracts import Contract


class Scorecard(models.Model):
    """What is shown of a month. Derived: `as_of` says when; `due_at` when a fact last changed that it rests on."""

    contract = models.ForeignKey(Contract, on_delete=models.CASCADE, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+", db_index=False)
    month = models.CharField(max_length=7)
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    as_of = models.DateTimeField()
    due_at = models.DateTimeField(null=True)
    lines = models.JSONField(help_text="One an objective: see slas.services.scorecards.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["contract", "month", "provider"], name="scorecard_once")]
        indexes = [models.Index(fields=["month", "provider"], name="scorecard_month")]

    def __str__(self) -> str:
        return f"{self.month} of contract {self.contract_id} under provider {self.provider_id}"
