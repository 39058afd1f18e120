"""Schedules by which reports are mailed, whom to, and every mail with how it went."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from sites.models import TEXT, Provider
from slas.mails import EachPeriod, MailState, ScheduleState
from slas.models.contracts import Contract
from slas.models.reports import ReportRevision


class MailSchedule(models.Model):
    """Reports of a contract, or of all contracts of a provider, are mailed when a revision is made.

    With a provider it is that provider's part alone. `lives` are the states of a revision that is mailed.
    """

    contract = models.ForeignKey(Contract, on_delete=models.PROTECT, null=True, related_name="schedules")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    each = models.CharField(max_length=7, choices=[(one, one) for one in EachPeriod])
    lives = models.JSONField()
    state = models.CharField(max_length=7, choices=[(one, one) for one in ScheduleState], default=ScheduleState.ACTIVE)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(contract__isnull=False) | Q(provider__isnull=False), name="mail_schedule_of_something"
            ),
            models.CheckConstraint(condition=Q(each__in=[str(one) for one in EachPeriod]), name="mail_schedule_each"),
            models.CheckConstraint(
                condition=Q(state__in=[str(one) for one in ScheduleState]), name="mail_schedule_state"
            ),
        ]

    def __str__(self) -> str:
        return f"schedule {self.pk}"

    @property
    def is_active(self) -> bool:
        """Whether mails are written."""
        return self.state == ScheduleState.ACTIVE


class MailRecipient(models.Model):
    """Whom a schedule mails. With `provider`, that provider's part alone; with `user`, while it may read that."""

    schedule = models.ForeignKey(MailSchedule, on_delete=models.CASCADE, related_name="recipients", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+", db_index=False
    )
    name = models.CharField(max_length=150, validators=[TEXT])
    address = models.CharField(max_length=254)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "address"], name="mail_recipient_once"),
            models.CheckConstraint(
                condition=Q(user__isnull=False) | Q(provider__isnull=False), name="mail_recipient_of_somebody"
            ),
        ]

    def __str__(self) -> str:
        return self.address


class MailDelivery(models.Model):
    """A revision mailed to one address, once; `rounds` counts how often somebody asked for it again.

    `lease` guards what a sender writes of it, and rises with every claim; until `leased_until` nobody else sends it.
    """

    schedule = models.ForeignKey(MailSchedule, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    revision = models.ForeignKey(ReportRevision, on_delete=models.PROTECT, related_name="+", db_index=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False
    )
    address = models.CharField(max_length=254)
    state = models.CharField(max_length=9, choices=[(one, one) for one in MailState], default=MailState.WAITING)
    rounds = models.SmallIntegerField(default=0)
    attempts = models.SmallIntegerField(default=0)
    made_at = models.DateTimeField()
    next_at = models.DateTimeField(null=True)
    give_up_at = models.DateTimeField()
    lease = models.IntegerField(default=0)
    leased_until = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["next_at"], condition=Q(state="waiting"), name="mail_due")]
        constraints = [
            models.UniqueConstraint(fields=["schedule", "revision", "address"], name="mail_once"),
            models.CheckConstraint(condition=Q(state__in=[str(one) for one in MailState]), name="mail_state"),
            models.CheckConstraint(
                condition=Q(state="waiting", next_at__isnull=False) | (~Q(state="waiting") & Q(next_at=None)),
                name="mail_waits_for_something",
            ),
            models.CheckConstraint(condition=Q(give_up_at__gt=F("made_at")), name="mail_gives_up_later"),
        ]

    def __str__(self) -> str:
        return f"revision {self.revision_id} to {self.address}: {self.state}"
