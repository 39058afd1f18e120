"""What a site is told to run: its card, its history, freezes; and the sites that recover after a restore."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.dangerous import dangerous
from fleet.kit.http import ScopedRequest
from sites.models import Site
from sites.present import may_on
from sites.present_desired import newest_shown, progress_of, versions_of
from sites.selectors.access import get_site
from sites.selectors.desired import (
    configs_of,
    desired_of,
    documents_of,
    is_unknown_here,
    receipts_of,
    recovering_in,
    recovery_of,
)
from sites.services.desired import set_hold
from sites.states import Life
from sites.views.answers import done

A_PAGE = 20
RECEIPTS_SHOWN = 30
RECOVERING_SHOWN = 500


@require_safe
def site_desired_card(request: ScopedRequest, slug: str) -> HttpResponse:
    """The card of what a site was told, a fragment that keeps itself fresh. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    return render(request, "sites/_desired.html", desired_context(request, site) | {"site": site})


def desired_context(request: ScopedRequest, site: Site) -> dict[str, Any]:
    """What the card says: the newest version, what became of it, and which buttons are drawn."""
    standing = desired_of(site)
    receipts = receipts_of(site, limit=1)
    document = standing.document if standing else None
    unknown = is_unknown_here(standing)
    may_now = site.life == Life.ACTIVE and not (standing and standing.recovering)
    return {
        "desired": standing,
        "document": document,
        "desired_shown": newest_shown(standing, receipts[0] if receipts else None),
        "desired_progress": progress_of(standing),
        "receipt": receipts[0] if receipts else None,
        "unknown_here": unknown,
        "may_hold": may_now and document is not None and not unknown and may_on(request.rights, "site.hold", site),
        "may_apply": may_now and may_on(request.rights, "site.apply", site),
    }


@require_safe
def site_desired(request: ScopedRequest, slug: str) -> HttpResponse:
    """Every version with what it changed of the one before, and the receipts. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    before = request.GET.get("before", "")
    start = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    documents = documents_of(site, before=start, limit=A_PAGE + 1)
    receipts = receipts_of(site, limit=RECEIPTS_SHOWN)
    newest = {(row.epoch, row.version): row for row in reversed(receipts)}
    context = desired_context(request, site)
    more = len(documents) > A_PAGE
    versions = versions_of(
        documents,
        context["desired"],
        newest,
        configs_of(request.who, [row.content for row in documents]),
        more=more,
    )
    context |= {
        "site": site,
        "versions": versions,
        "next": versions[-1].row.pk if more else None,
        "start": start,
        "receipts": receipts,
        "receipts_shown": RECEIPTS_SHOWN,
    }
    return render(request, "sites/desired.html", context)


@require_POST
@dangerous("site.freeze")
def site_desired_freeze(request: ScopedRequest, slug: str) -> HttpResponse:
    """Freeze what a site runs. Raises NotFound, NotAllowed, Conflict, Invalid."""
    return _hold(request, slug, hold=True)


@require_POST
@dangerous("site.thaw")
def site_desired_thaw(request: ScopedRequest, slug: str) -> HttpResponse:
    """End a freeze. Raises NotFound, NotAllowed, Conflict, Invalid."""
    return _hold(request, slug, hold=False)


def _hold(request: ScopedRequest, slug: str, *, hold: bool) -> HttpResponse:
    site = get_site(scope=request.who, slug=slug)
    reason = request.POST.get("reason", "")
    set_hold(actor=request.who, rights=request.rights, site=site, hold=hold, reason=reason)
    return done(request, site, f"{site.name} is told to {'freeze' if hold else 'go on'}.")


@require_safe
def recovery(request: ScopedRequest) -> HttpResponse:
    """Sites that have not told their counters since the database was restored."""
    waiting = recovering_in(request.who).order_by("site__name", "pk")
    context = {"rows": waiting[:RECOVERING_SHOWN], "progress": recovery_of(request.who)}
    return render(request, "sites/recovery.html", context)
