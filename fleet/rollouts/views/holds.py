"""Holds: what must not be changed now, for how long, why, who waits for it; new ones, and their end."""

from datetime import timedelta
from typing import Any

import msgspec
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import Limit, scope
from fleet.rollouts.forms import HoldForm
from fleet.rollouts.present_plan import sites_text
from fleet.rollouts.recipe import Selection
from fleet.rollouts.selectors.holding import held_now, holds_of, waiting_for
from fleet.rollouts.selectors.planning import selected
from fleet.rollouts.selectors.rollouts import get_hold
from fleet.rollouts.services import holds as services
from fleet.rollouts.views.starting import selection
from sites.models import Site
from sites.selectors.access import providers_in, regions_in, sites_in

PER_PAGE = 50
MOST = 500
KINDS = {"sites": "Some sites", "region": "A region", "provider": "A provider", "all": "All sites"}
# Rollouts wait for a site so long before people hear of it (plan.Patience): so long a hold is in the way.
LONG = timedelta(hours=72)


@require_safe
def hold_list(request: ScopedRequest) -> HttpResponse:
    """Holds that are in force, or, with `ended`, all that ever were."""
    ended = bool(request.GET.get("ended"))
    now = database_now()
    page = Paginator(holds_of(request.who, None if ended else now), PER_PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    waiting = waiting_for(request.who, [row for row in shown if held_now(row, now)])
    people = Limit() in request.rights.by_action.get("rollout.approve", ())
    rows = []
    for row in shown:
        active = held_now(row, now)
        may_lift = active and services.may_hold(request.rights, row.provider_id, row.site, row.region)
        mine = request.who.user_id in row.overridden_by
        rows.append(
            {
                "hold": row,
                "active": active,
                "is_long": active and now - row.made_at >= LONG,
                "waits": waiting.get(row.pk),
                "may_lift": may_lift,
                "may_override": active and people and not mine and len(row.overridden_by) < 2,
            }
        )
    context = {"rows": rows, "page": page, "ended": ended, "may_hold": bool(_kinds(request)), "now": now}
    return render(request, page="rollouts/holds.html", fragment="rollouts/_holds_list.html", context=context)


@require_http_methods(["GET", "HEAD", "POST"])
def hold_new(request: ScopedRequest) -> HttpResponse:
    """Say "not now" for sites, a region, a provider or all. Raises NotAllowed."""
    kinds = _kinds(request)
    if not kinds:
        raise NotAllowed("Your role does not allow to hold rollouts.")
    begins = request.method != "POST" or request.POST.get("do") == "begin"
    form = _form(request, kinds, begins=begins)
    if not begins and form.is_valid():
        try:
            with scope(request.who):
                words = _hold(request, form.cleaned_data)
        except Invalid as error:
            form.add_error("lasts" if "until" in error.details else None, error.message)
        except NotAllowed as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, f"Rollouts wait: {words}.")
            return HttpResponseRedirect(reverse("hold_list"))
    return django_render(
        request, "rollouts/hold_new.html", {"form": form}, status=422 if not begins and form.errors else 200
    )


@require_POST
@dangerous("rollout.lift")
def hold_lift(request: ScopedRequest, pk: int) -> HttpResponse:
    """End a hold before its time. Raises NotFound, NotAllowed."""
    held = get_hold(scope=request.who, pk=pk)
    try:
        services.lift(actor=request.who, rights=request.rights, held=held)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The hold is lifted: what waited for it goes on.")
    return HttpResponseRedirect(reverse("hold_list"))


@require_POST
@dangerous("rollout.override")
def hold_override(request: ScopedRequest, pk: int) -> HttpResponse:
    """Agree that standards of security severity do not wait for a hold. Raises NotFound, NotAllowed."""
    held = get_hold(scope=request.who, pk=pk)
    try:
        row = services.override(
            actor=request.who, rights=request.rights, held=held, reason=request.POST.get("reason", "")
        )
    except (Conflict, Invalid) as error:
        messages.error(request, error.message)
    else:
        enough = len(row.overridden_by) > 1
        words = "Security standards no longer wait for it." if enough else "A second person must agree."
        messages.success(request, f"Your word is kept. {words}")
    return HttpResponseRedirect(reverse("hold_list"))


# ------------------------------------------------------------------------------------------------------------
def _kinds(request: ScopedRequest) -> list[tuple[str, str]]:
    """What this viewer may hold, as choices."""
    rights = request.rights
    limits = rights.by_action.get("rollout.hold", ())
    offered = {
        "sites": bool(limits),
        "region": any(not limit.labels for limit in limits),
        "provider": any(not limit.labels and not limit.regions for limit in limits),
        "all": services.may_hold(rights, None, None, ""),
    }
    return [(name, label) for name, label in KINDS.items() if offered[name]]


def _form(request: ScopedRequest, kinds: list[tuple[str, str]], *, begins: bool) -> HoldForm:
    options: dict[str, Any] = {
        "kinds": kinds,
        "providers": providers_in(request.who),
        "regions": regions_in(request.who),
    }
    if not begins:
        return HoldForm(request.POST, **options)
    picked = _picked(request)
    return HoldForm(initial={"what": "sites" if picked else kinds[0][0], "sites": picked}, **options)


def _picked(request: ScopedRequest) -> list[str]:
    """Short names of the sites that were picked, or filtered, on another page."""
    given = selection(request.who, request.POST if request.method == "POST" else request.GET)
    if "sites" in given or not given:
        return list(given.get("sites", []))
    found = sites_in(request.who).filter(pk__in=selected(request.who, msgspec.convert(given, Selection)))
    slugs = list(found.order_by("slug").values_list("slug", flat=True)[: MOST + 1])
    if len(slugs) <= MOST:
        return slugs
    messages.warning(request, f"More than {MOST} sites pass these filters; hold a region or a provider instead.")
    return []


def _hold(request: ScopedRequest, given: dict[str, Any]) -> str:
    """Keep the holds, all or none; returns what is held, in words. Raises Invalid, NotAllowed."""
    common = {
        "actor": request.who,
        "rights": request.rights,
        "reason": given["reason"],
        "until": database_now() + timedelta(seconds=given["lasts"]),
    }
    match given["what"]:
        case "sites":
            found = _sites(request, given["sites"])
            for site in found:
                services.hold(**common, site=site)
            return sites_text(len(found))
        case "region":
            services.hold(**common, region=given["region"], provider=given["provider"])
            return str(given["region"])
        case "provider":
            services.hold(**common, provider=given["provider"])
            return str(given["provider"].name)
    services.hold(**common)
    return "all sites"


def _sites(request: ScopedRequest, slugs: list[str]) -> list[Site]:
    """Sites by short name, each of which may be held. Raises Invalid, NotAllowed."""
    if len(slugs) > MOST:
        raise Invalid(f"{MOST} sites at a time; hold a region or a provider instead.")
    found = list(sites_in(request.who).filter(slug__in=slugs).order_by("slug"))
    unknown = sorted(set(slugs) - {site.slug for site in found})
    if unknown:
        raise Invalid(f"{len(unknown)} of these sites are not there: {', '.join(unknown[:5])}.")
    refused = [site for site in found if not services.may_hold(request.rights, site.provider_id, site, "")]
    if refused:
        raise NotAllowed(f"Your role does not allow to hold {refused[0].name}.")
    return found
