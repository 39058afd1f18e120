"""Maintenance windows: asked for, approved by the other side, cancelled."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from sites.models import TEXT, Provider, Site
from slas.states import Side, WindowState


class Window(models.Model):
    """Maintenance at sites of one provider over `[begins, ends)`.

    It counts if it was approved before it began and asked for with the notice that a contract wants; else only where
    the approval says why (`approval_reason`).
    """

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    title = models.CharField(max_length=120, validators=[TEXT])
    note = models.CharField(max_length=2000, blank=True, validators=[TEXT])
    begins = models.DateTimeField()
    ends = models.DateTimeField()
    state = models.CharField(max_length=9, default="requested")
    side = models.CharField(max_length=8, help_text="Who asks for it.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_name = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_name = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True)
    decided_reason = models.CharField(max_length=300, blank=True)
    cancelled_by = models.CharField(max_length=150, blank=True)
    cancelled_at = models.DateTimeField(null=True)
    cancelled_reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["begins", "id"]
        indexes = [models.Index(fields=["provider", "begins"], name="window_provider")]
        constraints = [
            models.CheckConstraint(condition=Q(ends__gt=F("begins")), name="window_span"),
            models.CheckConstraint(condition=Q(state__in=[str(one) for one in WindowState]), name="window_state"),
            models.CheckConstraint(condition=Q(side__in=[str(one) for one in Side]), name="window_side"),
            models.CheckConstraint(
                condition=Q(state="requested", decided_at=None)
                | Q(state__in=["approved", "refused"], decided_at__isnull=False)
                | Q(state="cancelled"),
                name="window_decided",
            ),
            models.CheckConstraint(
                condition=Q(state="cancelled", cancelled_at__isnull=False)
                | ~Q(state="cancelled") & Q(cancelled_at=None),
                name="window_cancelled",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} from {self.begins}"


class WindowSite(models.Model):
    """A site that a window is for."""

    window = models.ForeignKey(Window, on_delete=models.CASCADE, related_name="sites")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="+")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["window", "site"], name="window_site_once")]

    def __str__(self) -> str:
        return f"site {self.site_id} in window {self.window_id}"
