"""What became of standards at sites in the present month, kept so that a page need not see all of a rollout."""

from django.db import models

from sites.models import Provider, Site
from slas.models.contracts import Contract


class SiteSync(models.Model):
    """A site and a standard under a contract. Derived with the scorecard of the month, whose `as_of` says until when.

    `data` is what the outcome is computed from: see slas.services.site_versions.
    """

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="+", db_index=False)
    contract = models.ForeignKey(Contract, on_delete=models.CASCADE, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="+", db_index=False)
    standard = models.CharField(max_length=120)
    data = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "contract", "provider", "standard"], name="site_sync_once")
        ]
        indexes = [models.Index(fields=["contract"], name="site_sync_contract")]

    def __str__(self) -> str:
        return f"{self.standard} at site {self.site_id} under contract {self.contract_id}"
