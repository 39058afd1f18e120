"""What the API takes and gives about who sites are."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema

from sites.models import Site, SiteCertificate, SiteIdentity
from sites.selectors.identity import Identity


class KeysOut(Schema):
    """Keys that a site presented; `host` and `agent` are its own words, `remote` is where it called from."""

    fingerprint: str
    host: str
    agent: str
    remote: str
    presented_at: datetime


class WaitingOut(KeysOut):
    """Keys that wait, and whose they claim to be."""

    site: str
    name: str
    provider: str


class WaitingPage(Schema):
    """A page of keys that wait; `next` is the cursor of the next one, or null."""

    items: list[WaitingOut]
    next: str | None


class CertificateOut(Schema):
    """A certificate; `route` is enrol, renew or pushed."""

    serial: str
    sha256: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    route: str
    revoked_at: datetime | None


class IdentityOut(Schema):
    """Who a site is. `fingerprint` and `certificate` are those of its accepted keys; a freeze stands beside `state`."""

    state: Literal["none", "waiting", "accepted", "enrolled", "expired", "rejected", "revoked"]
    fingerprint: str | None
    accepted_at: datetime | None
    accepted_by: str | None
    waiting: KeysOut | None
    frozen: bool
    frozen_at: datetime | None
    frozen_reason: str
    certificate: CertificateOut | None
    certificates: list[CertificateOut]


class JoinIn(Schema):
    """With `pre_authorised` the first keys that come are accepted without anybody's look."""

    pre_authorised: bool = False


class JoinOut(Schema):
    """A join string, given this once."""

    join: str
    expires_at: datetime


class AcceptIn(Schema):
    """The fingerprint that was compared."""

    fingerprint: Annotated[str, Field(max_length=100)]


class ReasonIn(Schema):
    """Why, in 3 to 300 characters on one line."""

    reason: Annotated[str, Field(max_length=1000)]


def keys_out(row: SiteIdentity) -> dict[str, Any]:
    """Presented keys as the API shows them."""
    return {name: getattr(row, name) for name in KeysOut.model_fields}


def waiting_out(row: SiteIdentity) -> dict[str, Any]:
    """The same with their site."""
    return {**keys_out(row), "site": row.site.slug, "name": row.site.name, "provider": row.site.provider.slug}


def certificate_out(row: SiteCertificate) -> dict[str, Any]:
    """A certificate as the API shows it."""
    return {name: getattr(row, name) for name in CertificateOut.model_fields}


def identity_out(site: Site, identity: Identity) -> dict[str, Any]:
    """Who a site is, as the API shows it."""
    accepted = identity.accepted
    return {
        "state": identity.state,
        "fingerprint": accepted.fingerprint if accepted else None,
        "accepted_at": accepted.decided_at if accepted else None,
        "accepted_by": accepted.decided_by if accepted else None,
        "waiting": keys_out(identity.waiting) if identity.waiting else None,
        "frozen": site.identity_frozen_at is not None,
        "frozen_at": site.identity_frozen_at,
        "frozen_reason": site.identity_frozen_reason,
        "certificate": certificate_out(identity.certificate) if identity.certificate else None,
        "certificates": [certificate_out(row) for row in identity.certificates],
    }
