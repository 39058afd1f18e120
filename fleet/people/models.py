"""Users, memberships and API tokens: what a Scope is made from, so outside row-level security."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from fleet.people.roles import PROVIDER_ROLES, Role


class User(AbstractUser):
    """A person, or a program that calls the API."""

    time_zone = models.CharField(max_length=64, blank=True, help_text="Empty: the browser's.")
    preferences = models.JSONField(default=dict, blank=True, help_text="Saved views, columns.")

    def __str__(self) -> str:
        return self.username


class Membership(models.Model):
    """A role of a user, fleet-wide or limited to a provider, regions and labels. A user may have several."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role)
    provider = models.ForeignKey("edge_sites.Provider", on_delete=models.PROTECT, null=True, related_name="+")
    regions = models.JSONField(default=list, blank=True)
    labels = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(role__in=PROVIDER_ROLES) | Q(provider__isnull=False), name="membership_provider_role"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class ApiToken(models.Model):
    """A key to the API: shown once, kept as a peppered digest."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True)
    prefix = models.CharField(max_length=12)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.prefix}… of {self.user_id}"
