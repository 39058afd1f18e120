"""What people decide about a site's identity: join strings, accepting, rejecting, revoking, freezing. All audited."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models.functions import Now

from agent.protocol.identity import Join, write_join
from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import JoinToken, PollSchedule, Site, SiteCertificate, SiteIdentity
from sites.services.sites import allow, lock, object_of
from sites.states import IdentityState, Life

JOIN_HOURS = 24
_MAC_PURPOSE = b"archipelago join token v1"


def token_mac(secret: bytes) -> bytes:
    """The HMAC under which a join string's secret is stored, keyed by the secret key of the installation."""
    key = hmac.digest(settings.SECRET_KEY.encode(), _MAC_PURPOSE, hashlib.sha256)
    return hmac.digest(key, secret, hashlib.sha256)


def new_token(site: Site, *, made_by: str, pre_authorised: bool, now: datetime) -> tuple[JoinToken, bytes]:
    """An unsaved token and its secret, which nobody keeps."""
    secret = secrets.token_bytes(32)
    token = JoinToken(
        site=site,
        provider_id=site.provider_id,
        mac=token_mac(secret),
        pre_authorised=pre_authorised,
        made_by=made_by[:150],
        expires_at=now + timedelta(hours=JOIN_HOURS),
    )
    return token, secret


def make_tokens(sites: Sequence[Site], *, made_by: str, now: datetime) -> dict[int, bytes]:
    """Pre-authorised tokens for many sites, in place of those they had: secrets by site id. The caller audits."""
    JoinToken.objects.filter(site__in=sites, withdrawn_at=None).update(withdrawn_at=now)
    made = [new_token(site, made_by=made_by, pre_authorised=True, now=now) for site in sites]
    JoinToken.objects.bulk_create([token for token, _ in made], batch_size=1000)
    return {token.site_id: secret for token, secret in made}


def join_string(site: Site, secret: bytes, *, root_sha256: bytes) -> str:
    """The word that a site joins with."""
    return write_join(
        Join(
            gateway=settings.GATEWAY_ADDRESS,
            fleet=settings.FLEET_NAME,
            site=site.uuid,
            secret=secret,
            root_sha256=root_sha256,
        )
    )


def make_join(*, actor: Scope, rights: Rights, site: Site, root_sha256: bytes, pre_authorised: bool = False) -> str:
    """A join string for a site, valid JOIN_HOURS, withdrawing the one before; it is returned once and never stored.

    `pre_authorised` accepts the first keys that come with it without a person's look. Raises NotAllowed, Conflict.
    """
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        if locked.life == Life.RETIRED:
            raise Conflict("A retired site does not join.")
        if locked.identity_frozen_at is not None:
            raise Conflict("The identity of this site is frozen; look into it, and thaw it first.")
        now = database_now()
        JoinToken.objects.filter(site=locked, withdrawn_at=None).update(withdrawn_at=now)
        token, secret = new_token(locked, made_by=actor.name, pre_authorised=pre_authorised, now=now)
        token.save(force_insert=True)
        _note(actor, "identity.join_string", locked, after={"pre_authorised": pre_authorised})
    return join_string(site, secret, root_sha256=root_sha256)


def accept(*, actor: Scope, rights: Rights, site: Site, fingerprint: str) -> SiteIdentity:
    """Accept the keys that wait, if they are those of `fingerprint`; those accepted before are replaced.

    The site gets its certificate when it asks again. Raises NotAllowed, Conflict (nothing waits, other keys, frozen).
    """
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        identity = _waiting(locked)
        if not hmac.compare_digest(identity.fingerprint.encode(), fingerprint.strip().lower().encode()):
            raise Conflict("Other keys are waiting than those you looked at; compare again.")
        if locked.identity_frozen_at is not None:
            raise Conflict("The identity of this site is frozen; look into it, and thaw it first.")
        accept_identity(identity, by=actor.name, now=database_now())
        _note(actor, "identity.accept", locked, after={"fingerprint": identity.fingerprint})
        _tell(locked)
    return identity


def accept_identity(identity: SiteIdentity, *, by: str, now: datetime) -> None:
    """Make a waiting identity the accepted one. The caller holds the site's lock, and audits."""
    SiteIdentity.objects.filter(site_id=identity.site_id, state=IdentityState.ACCEPTED).update(
        state=IdentityState.REPLACED, decided_at=now, decided_by=by
    )
    identity.state, identity.decided_at, identity.decided_by = IdentityState.ACCEPTED, now, by
    identity.save(update_fields=["state", "decided_at", "decided_by"])


def reject(*, actor: Scope, rights: Rights, site: Site, reason: str) -> None:
    """Reject the keys that wait; the join string they came with is used up. Raises NotAllowed, Conflict, Invalid."""
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        identity = _waiting(locked)
        _end(identity, IdentityState.REJECTED, by=actor.name, reason=_reason(reason))
        _note(actor, "identity.reject", locked, after={"fingerprint": identity.fingerprint}, note=reason)
        _tell(locked)


def revoke(*, actor: Scope, rights: Rights, site: Site, reason: str) -> None:
    """Revoke the accepted keys and every certificate of theirs: nothing polls them or renews them from now on.

    The site joins again with a new join string. Raises NotAllowed, Conflict, Invalid.
    """
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        identity = SiteIdentity.objects.filter(site=locked, state=IdentityState.ACCEPTED).first()
        if identity is None:
            raise Conflict("This site has no accepted keys.")
        _end(identity, IdentityState.REVOKED, by=actor.name, reason=_reason(reason))
        SiteCertificate.objects.filter(identity=identity, revoked_at=None).update(revoked_at=Now())
        locked.tls_name, locked.tls_pin, locked.tls_push_at = "", "", None
        locked.save(update_fields=["tls_name", "tls_pin", "tls_push_at"])
        PollSchedule.objects.filter(site=locked).update(next_poll_at=Now())
        _note(actor, "identity.revoke", locked, after={"fingerprint": identity.fingerprint}, note=reason)
        _tell(locked)


def freeze(*, actor: Scope, rights: Rights, site: Site, reason: str) -> None:
    """Freeze a site's identity: nothing is accepted, issued or renewed until it is thawed. What it has stays valid.

    Raises NotAllowed, Conflict, Invalid.
    """
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        if locked.identity_frozen_at is not None:
            raise Conflict("It is frozen already.")
        freeze_site(locked, _reason(reason))
        _note(actor, "identity.freeze", locked, after={"frozen": True}, note=reason)
        _tell(locked)


def freeze_site(site: Site, reason: str) -> None:
    """Mark the site as frozen. The caller holds its lock, and audits."""
    site.identity_frozen_at, site.identity_frozen_reason = database_now(), reason[:300]
    site.save(update_fields=["identity_frozen_at", "identity_frozen_reason"])


def thaw(*, actor: Scope, rights: Rights, site: Site, reason: str) -> None:
    """End a freeze; the live join string is withdrawn, since it may be known to others. Raises NotAllowed, Conflict."""
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.enrol", locked)
        if locked.identity_frozen_at is None:
            raise Conflict("It is not frozen.")
        locked.identity_frozen_at, locked.identity_frozen_reason = None, ""
        locked.save(update_fields=["identity_frozen_at", "identity_frozen_reason"])
        JoinToken.objects.filter(site=locked, withdrawn_at=None).update(withdrawn_at=database_now())
        _note(actor, "identity.thaw", locked, after={"frozen": False}, note=_reason(reason))
        _tell(locked)


# ------------------------------------------------------------------------------------------------------------
def _waiting(site: Site) -> SiteIdentity:
    identity = SiteIdentity.objects.filter(site=site, state=IdentityState.PENDING).first()
    if identity is None:
        raise Conflict("No keys wait to be accepted.")
    return identity


def _end(identity: SiteIdentity, state: IdentityState, *, by: str, reason: str) -> None:
    identity.state, identity.decided_at, identity.decided_by, identity.reason = state, database_now(), by, reason
    identity.save(update_fields=["state", "decided_at", "decided_by", "reason"])


def _reason(text: str) -> str:
    reason = text.strip()
    if not 3 <= len(reason) <= 300 or not reason.isprintable():
        raise Invalid("Say why, in 3 to 300 characters on one line.", details={"reason": "missing"})
    return reason


def _note(actor: Scope, action: str, site: Site, *, after: dict[str, object], note: str = "") -> None:
    audit.record(actor, action, **object_of(site), after=after, note=note)


def _tell(site: Site) -> None:
    live.publish(hints=[((topic, pk), site.provider_id) for topic, pk in (("attention", 0), ("site", site.pk))])
