"""Who a site is: its card, its join string, and what people decide about its keys."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from sites.models import Site
from sites.present import may_on, utc_now
from sites.selectors.access import get_site
from sites.selectors.identity import EXPIRES_SOON, identity_of, live_token, pinned_root
from sites.services.joining import JOIN_HOURS, accept, freeze, make_join, reject, revoke, thaw
from sites.services.sites import allow
from sites.states import Life
from sites.views.answers import done


# The card ---------------------------------------------------------------------------------------------------
@require_safe
def site_identity(request: ScopedRequest, slug: str) -> HttpResponse:
    """The card of who a site is, a fragment that keeps itself fresh. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    return render(request, "sites/_identity.html", identity_context(request, site) | {"site": site})


def identity_context(request: ScopedRequest, site: Site) -> dict[str, Any]:
    """What the card says: the site's identity, what its state means, and whether buttons are drawn."""
    now = utc_now()
    identity = identity_of(site, now=now)
    certificate = identity.certificate
    return {
        "identity": identity,
        "may_enrol": may_on(request.rights, "site.enrol", site),
        "may_join": site.life != Life.RETIRED and site.identity_frozen_at is None,
        "expires_soon": certificate is not None and now < certificate.not_after <= now + EXPIRES_SOON,
        "now": now,
        "join_hours": JOIN_HOURS,
    }


# The join string --------------------------------------------------------------------------------------------
@require_POST
@never_cache
@dangerous("identity.join_string")
def site_join(request: ScopedRequest, slug: str) -> HttpResponse:
    """Make a join string and show it: this answer is the only one that ever holds it, and nothing may keep it.

    Raises NotFound, NotAllowed, Conflict, Unavailable.
    """
    site = get_site(scope=request.who, slug=slug)
    allow(request.rights, "site.enrol", site)
    word = make_join(
        actor=request.who,
        rights=request.rights,
        site=site,
        root_sha256=pinned_root(),
        pre_authorised=request.POST.get("pre_authorised") == "on",
    )
    context = {"site": site, "join": word, "token": live_token(site, now=utc_now())}
    return render(request, "sites/join.html", context)


# Decisions --------------------------------------------------------------------------------------------------
@require_POST
@dangerous("identity.accept")
def site_accept(request: ScopedRequest, slug: str) -> HttpResponse:
    """Accept the keys of the fingerprint that was compared. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    allow(request.rights, "site.enrol", site)
    if request.POST.get("compared") != "on":
        raise Invalid("Compare the fingerprint with the one that the site shows, and tick that they are the same.")
    accept(actor=request.who, rights=request.rights, site=site, fingerprint=request.POST.get("fingerprint", "")[:100])
    return done(request, site, f"The keys of {site.name} are accepted; it fetches its certificate by itself.")


@require_POST
def site_reject(request: ScopedRequest, slug: str) -> HttpResponse:
    """Reject the keys that wait. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    reject(actor=request.who, rights=request.rights, site=site, reason=request.POST.get("reason", ""))
    return done(request, site, f"The keys that waited for {site.name} are rejected.")


@require_POST
@dangerous("identity.revoke")
def site_revoke(request: ScopedRequest, slug: str) -> HttpResponse:
    """Revoke the accepted keys; the site's short name is typed. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    allow(request.rights, "site.enrol", site)
    if request.POST.get("confirm", "").strip() != site.slug:
        raise Invalid(f"Nothing was revoked. Type the site's short name, {site.slug}, to confirm.")
    revoke(actor=request.who, rights=request.rights, site=site, reason=request.POST.get("reason", ""))
    return done(request, site, f"The keys of {site.name} are revoked; it is not polled until it joins again.")


@require_POST
@dangerous("identity.freeze")
def site_freeze(request: ScopedRequest, slug: str) -> HttpResponse:
    """Freeze the identity. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    freeze(actor=request.who, rights=request.rights, site=site, reason=request.POST.get("reason", ""))
    return done(request, site, f"The identity of {site.name} is frozen.")


@require_POST
@dangerous("identity.thaw")
def site_thaw(request: ScopedRequest, slug: str) -> HttpResponse:
    """End a freeze. Raises NotFound, NotAllowed, Conflict, Invalid."""
    site = get_site(scope=request.who, slug=slug)
    thaw(actor=request.who, rights=request.rights, site=site, reason=request.POST.get("reason", ""))
    return done(request, site, f"The identity of {site.name} is thawed.")
