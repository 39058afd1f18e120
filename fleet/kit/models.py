"""The audit table."""

from django.db import models


class AuditEntry(models.Model):
    """Who did what to which object, from where, and what it was before and after. Rows are only ever added."""

    at = models.DateTimeField(db_default=models.functions.Now(), db_index=True)
    actor_id = models.BigIntegerField(null=True, help_text="User, or null for a job; no key, since a user may go.")
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=64)
    object_type = models.CharField(max_length=32)
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=200)
    provider_id = models.IntegerField(null=True, help_text="Provider as of then; null: seen fleet-wide only.")
    address = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    note = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["object_type", "object_id", "-at"], name="audit_object")]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.actor} {self.action} {self.object_name}"


class KeptAnswer(models.Model):
    """What a request with an Idempotency-Key was answered: its sender's alone, and for 24 hours."""

    user_id = models.BigIntegerField()
    key = models.CharField(max_length=100)
    request = models.CharField(max_length=64, help_text="SHA-256 of method, address and body.")
    status = models.SmallIntegerField()
    body = models.JSONField(null=True)
    at = models.DateTimeField(db_default=models.functions.Now(), db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user_id", "key"], name="kept_answer_once")]

    def __str__(self) -> str:
        return f"{self.status} for {self.key}"
