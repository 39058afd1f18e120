"""Who sites are: what the signer may certify, what waits for a person, what was issued."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from fleet.kit.errors import Conflict, NotFound, Unavailable
from fleet.kit.signing import SignerAway, SignerRefused, roots
from fleet.kit.tenancy import Scope
from sites.models import JoinToken, Site, SiteCertificate, SiteIdentity
from sites.selectors.access import inside, sites_in
from sites.states import IdentityState, Life

LISTED: Final = 20
EXPIRES_SOON: Final = timedelta(days=3)

# The provider is the site's own, and the identity's must be the same: after a hand-over it is to be accepted anew.
_SIGNABLE = """
SELECT s.uuid, s.provider_id, i.tls_key, i.state, i.provider_id = s.provider_id, s.identity_frozen_at IS NULL
FROM edge_sites_siteidentity i JOIN edge_sites_site s ON s.id = i.site_id
WHERE i.id = %s
"""


@dataclass(frozen=True, slots=True)
class Signable:
    """What a site's certificate is made of; `tls_key` is DER, SubjectPublicKeyInfo."""

    uuid: UUID
    provider_id: int
    tls_key: bytes


def signable(identity_id: int) -> Signable:
    """The identity as the signer certifies it. Reads within the open scope. Raises NotFound, Conflict."""
    with connection.cursor() as cursor:
        cursor.execute(_SIGNABLE, [identity_id])
        row = cursor.fetchone()
    if row is None:
        raise NotFound("there is no such identity")
    uuid, provider_id, tls_key, state, own, thawed = row
    if state != "accepted":
        raise Conflict(f"the identity is {state}, not accepted")
    if not own:
        raise Conflict("the identity belongs to the site's earlier provider")
    if not thawed:
        raise Conflict("the site's identity is frozen")
    return Signable(uuid=uuid, provider_id=provider_id, tls_key=bytes(tls_key))


def pinned_root() -> bytes:
    """SHA-256 of the root that join strings pin, as the signer names it: it is asked, and may take a while.

    Raises Unavailable.
    """
    try:
        return bytes.fromhex(roots().root_sha256)
    except (SignerAway, SignerRefused):
        raise Unavailable(
            "The signer does not answer, and nobody else knows the root that a site must meet. "
            "No join string was made; one that is out still works. Try again shortly."
        ) from None


# What needs a person -----------------------------------------------------------------------------------------
def waiting(who: Scope) -> QuerySet[SiteIdentity]:
    """Keys that wait for a person, of sites that the viewer may see, with site, provider and state.

    Keys that came before a hand-over are the earlier provider's; they are not shown to be accepted.
    """
    found = SiteIdentity.objects.filter(state=IdentityState.PENDING, provider=F("site__provider"))
    if who.limited:
        found = found.filter(inside(who.limits, prefix="site__"))
    return found.select_related("site", "site__provider", "site__state")


def waiting_in(who: Scope, *, limit: int = 500) -> list[SiteIdentity]:
    """The same, oldest first."""
    return list(waiting(who).order_by("presented_at", "pk")[:limit])


def frozen(who: Scope) -> QuerySet[Site]:
    """Sites that the viewer may see whose identity is frozen, those of the longest freeze first; not retired ones."""
    return (
        sites_in(who).exclude(identity_frozen_at=None).exclude(life=Life.RETIRED).order_by("identity_frozen_at", "pk")
    )


# One site ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Identity:
    """Who a site is.

    `state` is one of STATES; a freeze stands beside it, on the site. `certificates` and `history` (of presented keys)
    hold the newest LISTED, newest first; `certificate` is the newest that counts, of the keys that are `accepted`.
    """

    state: str
    waiting: SiteIdentity | None
    accepted: SiteIdentity | None
    certificate: SiteCertificate | None
    join: JoinToken | None
    certificates: Sequence[SiteCertificate]
    history: Sequence[SiteIdentity]


STATES: Final = ("none", "waiting", "accepted", "enrolled", "expired", "rejected", "revoked")


def identity_of(site: Site, *, now: datetime) -> Identity:
    """Who a site that get_site() handed out is, in four queries."""
    standing = site.identities.filter(
        state__in=[IdentityState.PENDING, IdentityState.ACCEPTED], provider_id=site.provider_id
    )
    by_state = {identity.state: identity for identity in standing}
    pending, accepted = by_state.get(IdentityState.PENDING), by_state.get(IdentityState.ACCEPTED)
    certificates, history = certificates_of(site), identities_of(site)
    valid = (row for row in certificates if accepted and row.identity_id == accepted.pk and row.revoked_at is None)
    certificate = next(valid, None)
    return Identity(
        state=_state(pending, accepted, certificate, history, now),
        waiting=pending,
        accepted=accepted,
        certificate=certificate,
        join=live_token(site, now=now),
        certificates=certificates,
        history=history,
    )


def _state(
    pending: SiteIdentity | None,
    accepted: SiteIdentity | None,
    certificate: SiteCertificate | None,
    history: Sequence[SiteIdentity],
    now: datetime,
) -> str:
    if pending is not None:
        return "waiting"
    if accepted is not None:
        if certificate is None:
            return "accepted"
        return "enrolled" if certificate.not_after > now else "expired"
    last = history[0].state if history else ""
    return last if last in (IdentityState.REJECTED, IdentityState.REVOKED) else "none"


def identities_of(site: Site) -> list[SiteIdentity]:
    """What was presented for the site, newest first."""
    return list(site.identities.order_by("-presented_at", "-pk")[:LISTED])


def certificates_of(site: Site) -> list[SiteCertificate]:
    """Certificates of the site, newest first."""
    return list(site.certificates.order_by("-issued_at", "-pk")[:LISTED])


def live_token(site: Site, *, now: datetime) -> JoinToken | None:
    """The join string that a site may still use."""
    return site.join_tokens.filter(withdrawn_at=None, expires_at__gt=now, identities=None).first()


# Filter of lists ----------------------------------------------------------------------------------------------
KINDS: Final = ("none", "waiting", "enrolled", "expiring", "frozen")


def of_identity(kind: str, *, now: datetime) -> Q:
    """Sites whose identity is of one of KINDS: `enrolled` has accepted keys, `expiring` a certificate of them that
    ends within EXPIRES_SOON or has ended, `none` neither accepted nor waiting keys. An unknown kind finds nothing.
    """
    own = {"site": OuterRef("pk"), "provider": OuterRef("provider")}
    accepted = Exists(SiteIdentity.objects.filter(**own, state=IdentityState.ACCEPTED))
    pending = Exists(SiteIdentity.objects.filter(**own, state=IdentityState.PENDING))
    counting = SiteCertificate.objects.filter(
        site=OuterRef("pk"), revoked_at=None, identity__state=IdentityState.ACCEPTED
    )
    lasting = Exists(counting.filter(not_after__gt=now + EXPIRES_SOON))
    found = {
        "none": Q(~accepted) & Q(~pending),
        "waiting": Q(pending),
        "enrolled": Q(accepted),
        "expiring": Q(accepted) & Q(Exists(counting)) & Q(~lasting),
        "frozen": Q(identity_frozen_at__isnull=False),
    }
    return found.get(kind, Q(pk__in=[]))
