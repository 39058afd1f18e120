"""Who a site is, cryptographically: join strings that were handed out, keys that were accepted, certificates issued."""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from sites.models.sites import Provider, Site
from sites.states import IdentityState


class JoinToken(models.Model):
    """A one-time secret handed to a site; only its HMAC is kept. Making another one for the site withdraws it."""

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="join_tokens")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    mac = models.BinaryField(max_length=32, unique=True)
    pre_authorised = models.BooleanField(default=False, help_text="Accept the first keys that come with it.")
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site"], condition=Q(withdrawn_at=None), name="join_token_one_live"),
        ]

    def __str__(self) -> str:
        return f"join string of site {self.site_id} by {self.made_by}"


class SiteIdentity(models.Model):
    """The two public keys of a site, from the moment they were presented. At most one waits, and one is accepted.

    `tls_key` may be renewed by the site (proven by `signing_key`); another `signing_key` is another identity.
    """

    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="identities")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    token = models.ForeignKey(JoinToken, on_delete=models.CASCADE, related_name="identities")
    state = models.CharField(max_length=10, choices=IdentityState, default=IdentityState.PENDING)
    tls_key = models.BinaryField(max_length=256, help_text="DER, SubjectPublicKeyInfo.")
    signing_key = models.BinaryField(max_length=32, help_text="Ed25519, raw.")
    fingerprint = models.CharField(max_length=64)
    agent = models.CharField(max_length=64, blank=True)
    host = models.CharField(max_length=255, blank=True, help_text="The machine's own word.")
    remote = models.CharField(max_length=64, blank=True, help_text="Where it called from.")
    presented_at = models.DateTimeField(db_default=Now())
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["site", "-presented_at"], name="identity_site"),
            # Counted for the navigation of every page.
            models.Index(fields=["id"], condition=Q(state="pending"), name="identity_waiting"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["site", "state"],
                condition=Q(state__in=["pending", "accepted"]),
                name="identity_one_a_state",
            ),
            models.UniqueConstraint(fields=["token"], name="identity_one_a_token"),
            models.CheckConstraint(condition=Q(state__in=IdentityState.values), name="identity_state"),
        ]

    def __str__(self) -> str:
        return f"{self.state} identity {self.fingerprint} of site {self.site_id}"


class SiteCertificate(models.Model):
    """A certificate that the signer made for a site. Kept for ever: what was valid when is evidence."""

    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="certificates")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    identity = models.ForeignKey(SiteIdentity, on_delete=models.PROTECT, related_name="certificates")
    serial = models.CharField(max_length=40, unique=True)
    sha256 = models.CharField(max_length=64)
    tls_pin = models.CharField(max_length=64, help_text="SHA-256 of the certified key.")
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    issued_at = models.DateTimeField(db_default=Now())
    route = models.CharField(max_length=10, help_text="enrol, renew or pushed.")
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["site", "-issued_at"], name="certificate_site")]
        constraints = [
            models.CheckConstraint(condition=Q(not_after__gt=F("not_before")), name="certificate_span"),
        ]

    def __str__(self) -> str:
        return f"certificate {self.serial} of site {self.site_id}"
