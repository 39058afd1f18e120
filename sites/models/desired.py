"""What sites are told to run: documents, how far each site is with them, and the receipts that it signed."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models.identity import SiteIdentity
from sites.models.sites import Provider, Site
from sites.states import Answer, BlobKind


class Blob(models.Model):
    """A workload's configuration, or a wheel of the agent: bytes under their digest. Kept for ever; never changed."""

    digest = models.CharField(max_length=71, primary_key=True, help_text="sha256: and 64 hex digits.")
    kind = models.CharField(max_length=8, choices=BlobKind)
    size = models.IntegerField()
    body = models.BinaryField()
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(kind__in=BlobKind.values), name="blob_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.digest}"


class DesiredDocument(models.Model):
    """One version of what a site runs. Signed once; the envelope is stored, and every resend is these very bytes.

    `content` holds what people decide: standard, workloads, agent, os, policy, rollout, as in the document.
    """

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="documents", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    epoch = models.BigIntegerField()
    version = models.BigIntegerField()
    prev_sha256 = models.CharField(max_length=71, blank=True)
    content = models.JSONField()
    hold = models.BooleanField(default=False)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    reason = models.CharField(max_length=300, help_text="Why, in the words of whoever ordered it.")
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now())
    sha256 = models.CharField(max_length=71, blank=True, help_text="Of the envelope; empty until it is signed.")
    envelope = models.BinaryField(null=True)
    signed_at = models.DateTimeField(null=True)
    refused = models.CharField(max_length=300, blank=True, help_text="Why the signer does not sign it.")
    sent_at = models.DateTimeField(null=True, help_text="Noted before its first byte goes out.")
    withdrawn_at = models.DateTimeField(null=True, help_text="Taken back before it was sent: it never will be.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "epoch", "version"], name="document_version_once"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("issued_at")), name="document_span"),
            models.CheckConstraint(
                condition=Q(envelope=None, sha256="", signed_at=None)
                | Q(envelope__isnull=False, signed_at__isnull=False) & ~Q(sha256=""),
                name="document_signed_whole",
            ),
            models.CheckConstraint(condition=Q(sent_at=None) | Q(withdrawn_at=None), name="document_sent_or_withdrawn"),
        ]

    def __str__(self) -> str:
        return f"document {self.number} of site {self.site_id}"

    @property
    def number(self) -> str:
        """How people and addresses name it: `epoch.version`."""
        return f"{self.epoch}.{self.version}"


class SiteDesired(models.Model):
    """How far a site is with what it was told; one row a site, made with its first document.

    `epoch` and `version` are the newest that was given out, `document` the newest that there is. `answer` is what the
    site said when it was handed over; `reported_*` what its reports say since. `due_at` is when to sign, hand over
    or ask, None while there is nothing to do. After a restore of the database `recovering` holds until the site has
    told its counters; `answer_reason` is COUNTERS where what it told is not believed, and why is in `answer_detail`.
    """

    COUNTERS = "counters"

    site = models.OneToOneField(Site, on_delete=models.CASCADE, primary_key=True, related_name="desired")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    epoch = models.BigIntegerField(default=1)
    version = models.BigIntegerField(default=0)
    last_sha256 = models.CharField(max_length=71, blank=True, help_text="Of the newest envelope that was signed.")
    document = models.ForeignKey(DesiredDocument, on_delete=models.PROTECT, null=True, related_name="+")
    due_at = models.DateTimeField(null=True)
    tries = models.IntegerField(default=0)
    answer = models.CharField(max_length=12, choices=Answer, blank=True)
    answer_reason = models.CharField(max_length=24, blank=True)
    answer_detail = models.CharField(max_length=300, blank=True)
    answered_at = models.DateTimeField(null=True)
    reported_epoch = models.BigIntegerField(default=0)
    reported_version = models.BigIntegerField(default=0)
    reported_state = models.CharField(max_length=16, blank=True)
    reported_detail = models.CharField(max_length=512, blank=True)
    reported_at = models.DateTimeField(null=True)
    done = models.IntegerField(default=0)
    total = models.IntegerField(default=0)
    recovering = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="desired_due")]
        constraints = [models.CheckConstraint(condition=Q(answer__in=["", *Answer.values]), name="desired_answer")]

    def __str__(self) -> str:
        return f"site {self.site_id} at {self.epoch}.{self.version}"

    @property
    def recovery_problem(self) -> str:
        """Why the counters that the site told are not believed; empty where it told none, or does not recover."""
        return self.answer_detail if self.recovering and self.answer_reason == self.COUNTERS else ""


class DesiredReceipt(models.Model):
    """What a site signed about a document: the evidence that it was applied, or why not. Added only."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="receipts", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)
    identity = models.ForeignKey(SiteIdentity, on_delete=models.PROTECT, related_name="+", db_index=False)
    document = models.ForeignKey(DesiredDocument, on_delete=models.PROTECT, null=True, related_name="receipts")
    epoch = models.BigIntegerField()
    version = models.BigIntegerField()
    document_sha256 = models.CharField(max_length=71)
    state = models.CharField(max_length=16)
    detail = models.CharField(max_length=512, blank=True)
    at = models.DateTimeField(help_text="By the site's clock.")
    boot = models.CharField(max_length=64)
    changed = models.JSONField(default=list)
    digest = models.CharField(max_length=71, help_text="Of the envelope.")
    envelope = models.BinaryField()
    received_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["site", "-received_at"], name="receipt_site")]
        constraints = [models.UniqueConstraint(fields=["site", "digest"], name="receipt_once")]

    def __str__(self) -> str:
        return f"{self.state} {self.epoch}.{self.version} at site {self.site_id}"
