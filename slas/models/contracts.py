"""Contracts: what was agreed, version by version. Nothing of a version is ever changed."""

from datetime import datetime

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models import SLUG, TEXT, Provider, Site


class Contract(models.Model):
    """What is agreed under one name; its versions say what. Seen by the enterprise, and by the providers in it."""

    slug = models.CharField(max_length=64, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120, unique=True, validators=[TEXT])
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ContractVersion(models.Model):
    """What was agreed, as of `made_at`; the newest counts. Its sites are those of its segments' providers that fit
    `labels` (a site's own ring counts as one) and `regions`, at the time in question."""

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="versions", db_index=False)
    number = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    zone = models.CharField(max_length=64)
    labels = models.JSONField(default=dict)
    regions = models.JSONField(default=list)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()
    reason = models.CharField(max_length=300)

    class Meta:
        ordering = ["contract", "-number"]
        constraints = [models.UniqueConstraint(fields=["contract", "number"], name="contract_version_once")]

    def __str__(self) -> str:
        return f"version {self.number} of contract {self.contract_id}"


class Segment(models.Model):
    """`[begins, ends)` of a version under one provider; `terms` are as slas.terms reads them."""

    version = models.ForeignKey(ContractVersion, on_delete=models.PROTECT, related_name="segments")
    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, related_name="+", help_text="That of the version.")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    begins = models.DateTimeField()
    ends = models.DateTimeField(null=True)
    gap_reason = models.CharField(max_length=300, blank=True)
    fee = models.DecimalField(max_digits=16, decimal_places=3, help_text="A month, for all of its sites.")
    currency = models.CharField(max_length=3)
    rule_version = models.PositiveSmallIntegerField()
    terms = models.JSONField()

    class Meta:
        ordering = ["begins", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(ends=None) | Q(ends__gt=F("begins")), name="segment_span"),
            models.CheckConstraint(condition=Q(fee__gte=0), name="segment_fee"),
            models.UniqueConstraint(fields=["version", "provider", "begins"], name="segment_once"),
        ]

    def __str__(self) -> str:
        return f"segment of version {self.version_id} from {self.begins}"

    def touches(self, begins: datetime, ends: datetime) -> bool:
        """Whether it has any of `[begins, ends)`."""
        return self.begins < ends and (self.ends is None or self.ends > begins)


class SiteTraits(models.Model):
    """A site's labels and region over a span, kept by a trigger: which sites a contract covered stays as it was."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="traits", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    labels = models.JSONField(help_text="With the site's own ring as `ring`.")
    region = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes = [models.Index(fields=["site", "valid_from"], name="site_traits")]
        constraints = [
            models.UniqueConstraint(fields=["site"], condition=Q(valid_to=None), name="site_traits_one_open"),
            models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gte=F("valid_from")), name="traits_span"),
        ]

    def __str__(self) -> str:
        return f"traits of site {self.site_id} from {self.valid_from}"
