"""What sites themselves have written down, as the centre received it."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models.identity import SiteIdentity
from sites.models.sites import Provider, Site


class JournalCursor(models.Model):
    """How far a site's journal has been read, and the last that it said; one row a site, made when it gets its keys.

    It follows one pair of keys: other keys are other hardware, whose journal begins at 1 (services.journal_keys).
    `last_*` are the tail that the next page continues from: when its newest entry was written (our clock), in which
    boot, the state that the site was in, and what it ran.
    """

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="journal")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    identity = models.ForeignKey(SiteIdentity, on_delete=models.PROTECT, related_name="+", db_index=False)
    since = models.DateTimeField(null=True, help_text="From when on these keys speak for the site; null: the first.")
    seq = models.BigIntegerField(default=0)
    head = models.CharField(max_length=71, blank=True)
    acked = models.BigIntegerField(default=0)
    next_at = models.DateTimeField(help_text="When to read on, if there is more; now, after an absence.")
    last_at = models.DateTimeField(null=True)
    last_boot = models.CharField(max_length=64, blank=True)
    last_state = models.CharField(max_length=8, blank=True)
    last_digest = models.CharField(max_length=71, blank=True, db_default="", help_text="Of its set of components.")
    read_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["next_at"], name="journal_next")]

    def __str__(self) -> str:
        return f"journal of site {self.site_id} up to {self.seq}"


class JournalEnvelope(models.Model):
    """A signed page exactly as it was received: the evidence. Never changed, never deleted but by retention.

    `spoke` is when its entries say how the site itself was, whether or not that changed what stood: epoch milliseconds
    by our clock, in order. Pages of one site never speak of the same time twice.
    """

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="journal_envelopes", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    identity = models.ForeignKey(SiteIdentity, on_delete=models.PROTECT, related_name="+", db_index=False)
    from_seq = models.BigIntegerField()
    to_seq = models.BigIntegerField()
    head = models.CharField(max_length=71)
    holes = models.JSONField(default=list, db_default=[], help_text="[[first, last], ...] of numbers not in it.")
    body = models.BinaryField()
    received_at = models.DateTimeField(db_default=Now())
    spoke = models.JSONField(default=list, db_default=[], help_text="[[begin, end], ...] of which it speaks.")
    spoke_until = models.DateTimeField(null=True, help_text="The last of these ends; null: it speaks of no time.")

    class Meta:
        indexes = [models.Index(fields=["site", "spoke_until"], name="journal_envelope_spoke")]
        constraints = [
            models.UniqueConstraint(
                fields=["site", "identity", "from_seq", "to_seq", "head"], name="journal_envelope_once"
            ),
            models.CheckConstraint(condition=Q(to_seq__gte=F("from_seq")), name="journal_envelope_span"),
        ]

    def __str__(self) -> str:
        return f"journal of site {self.site_id}, {self.from_seq} to {self.to_seq}"


class JournalEntry(models.Model):
    """An entry that says something new. `alive` and `sample` lie in their envelope alone: there are millions of them.

    `at` is the site's clock, `mapped_at` the same moment by ours, right to `uncertainty_ms`.
    """

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="journal_entries", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    identity = models.ForeignKey(SiteIdentity, on_delete=models.PROTECT, related_name="+", db_index=False)
    envelope = models.ForeignKey(JournalEnvelope, on_delete=models.PROTECT, related_name="entries")
    seq = models.BigIntegerField()
    digest = models.CharField(max_length=71)
    kind = models.CharField(max_length=12)
    boot = models.CharField(max_length=64)
    mono_ms = models.BigIntegerField()
    at = models.DateTimeField()
    mapped_at = models.DateTimeField()
    uncertainty_ms = models.BigIntegerField()
    body = models.JSONField()

    class Meta:
        indexes = [models.Index(fields=["site", "-mapped_at"], name="journal_entry_time")]
        constraints = [models.UniqueConstraint(fields=["site", "identity", "seq"], name="journal_entry_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.seq} of site {self.site_id}"
