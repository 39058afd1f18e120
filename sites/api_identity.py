"""API operations on who sites are: join strings, keys that wait, acceptance, revocation, freezes."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from sites import schemas_identity as schemas
from sites.models import Site
from sites.selectors.access import get_site
from sites.selectors.identity import identity_of, live_token, pinned_root, waiting
from sites.services import joining
from sites.services.sites import allow

router = Router()


@router.get("/identities/waiting", response=schemas.WaitingPage, summary="List keys that wait to be accepted")
def list_waiting(request: ScopedRequest, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Sites whose keys wait for a person, in the order in which they came."""
    return page_of(waiting(request.who), key="id", limit=limit, cursor=cursor, out=schemas.waiting_out)


@router.get("/sites/{slug}/identity", response=schemas.IdentityOut, summary="Who a site is")
def one(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """State of its identity, the fingerprint of its accepted keys, keys that wait, and its newest 20 certificates."""
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/identity/join", response={201: schemas.JoinOut}, summary="Make a join string")
@dangerous("identity.join_string")
def join(
    request: ScopedRequest, response: HttpResponse, slug: str, body: schemas.JoinIn | None = None
) -> Status[dict[str, Any]]:
    """A join string for the site, in this answer only; the one before is withdrawn. 503 while the signer is away."""
    site = get_site(scope=request.who, slug=slug)
    allow(request.rights, "site.enrol", site)
    word = joining.make_join(
        actor=request.who,
        rights=request.rights,
        site=site,
        root_sha256=pinned_root(),
        pre_authorised=body is not None and body.pre_authorised,
    )
    response["Cache-Control"] = "no-store"
    token = live_token(site, now=timezone.now())
    return Status(201, {"join": word, "expires_at": token.expires_at if token else timezone.now()})


@router.post("/sites/{slug}/identity/accept", response=schemas.IdentityOut, summary="Accept keys that wait")
@dangerous("identity.accept")
def accept(request: ScopedRequest, slug: str, body: schemas.AcceptIn) -> dict[str, Any]:
    """Accept the keys of exactly this fingerprint; 409 when others wait, or none, or the identity is frozen."""
    site = get_site(scope=request.who, slug=slug)
    joining.accept(actor=request.who, rights=request.rights, site=site, fingerprint=body.fingerprint)
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/identity/reject", response=schemas.IdentityOut, summary="Reject keys that wait")
def reject(request: ScopedRequest, slug: str, body: schemas.ReasonIn) -> dict[str, Any]:
    """Reject the keys that wait; their join string is used up."""
    site = get_site(scope=request.who, slug=slug)
    joining.reject(actor=request.who, rights=request.rights, site=site, reason=body.reason)
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/identity/revoke", response=schemas.IdentityOut, summary="Revoke a site's keys")
@dangerous("identity.revoke")
def revoke(request: ScopedRequest, slug: str, body: schemas.ReasonIn) -> dict[str, Any]:
    """Revoke the accepted keys and all their certificates; the site is not polled until it joins again."""
    site = get_site(scope=request.who, slug=slug)
    joining.revoke(actor=request.who, rights=request.rights, site=site, reason=body.reason)
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/identity/freeze", response=schemas.IdentityOut, summary="Freeze a site's identity")
@dangerous("identity.freeze")
def freeze(request: ScopedRequest, slug: str, body: schemas.ReasonIn) -> dict[str, Any]:
    """Accept, issue and renew nothing until it is thawed."""
    site = get_site(scope=request.who, slug=slug)
    joining.freeze(actor=request.who, rights=request.rights, site=site, reason=body.reason)
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/identity/thaw", response=schemas.IdentityOut, summary="Thaw a site's identity")
@dangerous("identity.thaw")
def thaw(request: ScopedRequest, slug: str, body: schemas.ReasonIn) -> dict[str, Any]:
    """End a freeze; a join string that is out is withdrawn."""
    site = get_site(scope=request.who, slug=slug)
    joining.thaw(actor=request.who, rights=request.rights, site=site, reason=body.reason)
    return _out(get_site(scope=request.who, slug=slug))


def _out(site: Site) -> dict[str, Any]:
    return schemas.identity_out(site, identity_of(site, now=timezone.now()))
