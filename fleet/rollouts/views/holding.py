"""Holds where they are met: not now at one site, and lifting what keeps sites of a rollout waiting."""

from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.rollouts.forms_commands import HoldForm
from fleet.rollouts.selectors.rollouts import get_hold, get_rollout
from fleet.rollouts.services.holds import hold, lift, may_hold
from sites.selectors.access import get_site


@require_http_methods(["GET", "HEAD", "POST"])
def site_hold(request: ScopedRequest, slug: str) -> HttpResponse:
    """Say "not now" to rollouts at a site, with a reason and an end. Raises NotFound, NotAllowed."""
    site = get_site(scope=request.who, slug=slug)
    if not may_hold(request.rights, site.provider_id, site, ""):
        raise NotAllowed("Your role does not allow to hold this.")
    form = HoldForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        until = database_now() + timedelta(hours=form.cleaned_data["hours"])
        reason = form.cleaned_data["reason"]
        try:
            hold(actor=request.who, rights=request.rights, site=site, reason=reason, until=until)
        except Invalid as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, f"Rollouts wait at {site.name}.")
            return HttpResponseRedirect(site.get_absolute_url())
    status = 422 if form.errors else 200
    return django_render(request, "rollouts/hold.html", {"site": site, "form": form}, status=status)


@require_POST
@dangerous("rollout.lift")
def site_lift(request: ScopedRequest, slug: str) -> HttpResponse:
    """End a hold that covers a site, from the site's page. Raises NotFound, NotAllowed."""
    site = get_site(scope=request.who, slug=slug)
    _lift(request)
    return HttpResponseRedirect(site.get_absolute_url())


@require_POST
@dangerous("rollout.lift")
def rollout_lift(request: ScopedRequest, pk: int) -> HttpResponse:
    """End a hold that keeps sites of a rollout waiting. Raises NotFound, NotAllowed."""
    row = get_rollout(scope=request.who, pk=pk)
    _lift(request)
    return HttpResponseRedirect(reverse("rollout", args=[row.pk]))


def _lift(request: ScopedRequest) -> None:
    text = request.POST.get("hold", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    held = get_hold(scope=request.who, pk=number)
    try:
        lift(actor=request.who, rights=request.rights, held=held)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The hold is lifted: what waited for it goes on.")
