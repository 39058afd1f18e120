"""Asking for maintenance: what it would mean for the contracts is said before it is sent."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from fleet.kit.clock import database_now
from fleet.kit.errors import Invalid, NotAllowed, NotFound
from fleet.kit.htmx import wants_fragment
from fleet.kit.http import ScopedRequest
from sites.models import Site
from sites.selectors.access import providers_in, sites_in
from sites.states import Life
from slas.forms.upkeep import WindowForm
from slas.present.upkeep import effect_lines
from slas.selectors.upkeep_effects import effects_of
from slas.services.upkeep import MOST_SITES, request_window
from slas.views.picking import picked_sites
from slas.views.upkeep import may_ask


@require_http_methods(["GET", "HEAD", "POST"])
def window_new(request: ScopedRequest) -> HttpResponse:
    """Ask for maintenance. `do=look` says what it would mean, `do=begin` brings sites along. Raises NotAllowed."""
    if not may_ask(request):
        raise NotAllowed("Your role does not allow to ask for maintenance.")
    providers = providers_in(request.who)
    do = request.POST.get("do", "look" if wants_fragment(request) else "") if request.method == "POST" else "begin"
    if do == "begin":
        return _page(request, WindowForm(initial=_initial(request), providers=providers))
    form = WindowForm(request.POST, providers=providers)
    if do == "look":
        form.is_valid()
        return _page(request, form, looks=True)
    if form.is_valid():
        try:
            window = request_window(
                actor=request.who,
                rights=request.rights,
                sites=_slugs(request, form.cleaned_data),
                **{name: form.cleaned_data[name] for name in ("title", "note", "begins", "ends")},
            )
        except Invalid as error:
            _take(form, error)
        except (NotFound, NotAllowed) as error:
            form.add_error("sites", error.message)
        else:
            messages.success(request, "Asked for; the other side answers.")
            return HttpResponseRedirect(reverse("sla_window", args=[window.pk]))
    return _page(request, form, looks=True, status=422)


def _take(form: WindowForm, error: Invalid) -> None:
    known = {name: text for name, text in error.details.items() if name in form.fields}
    for name, text in known.items():
        form.add_error(name, str(text))
    if not known:
        form.add_error(None, error.message)


def _initial(request: ScopedRequest) -> dict[str, Any]:
    """Sites that were picked elsewhere, or a provider; an evening soon, on the sites' own clock if they share one."""
    given = request.POST if request.method == "POST" else request.GET
    slugs = picked_sites(request.who, given)
    zones = set(sites_in(request.who).filter(slug__in=slugs).values_list("time_zone", flat=True)) if slugs else set()
    begins = (database_now() + timedelta(days=4)).replace(hour=22, minute=0, second=0, microsecond=0)
    return {
        "sites": " ".join(slugs),
        "provider": "" if slugs else given.get("provider", ""),
        "zone": zones.pop() if len(zones) == 1 else "UTC",
        "begins": f"{begins:%Y-%m-%dT%H:%M}",
        "ends": f"{begins + timedelta(hours=2):%Y-%m-%dT%H:%M}",
    }


def _slugs(request: ScopedRequest, given: dict[str, Any]) -> list[str]:
    if given.get("provider"):
        found = sites_in(request.who).filter(provider=given["provider"], life=Life.ACTIVE)
        return list(found.values_list("slug", flat=True)[: MOST_SITES + 1])
    return list(given["sites"])


def _page(request: ScopedRequest, form: WindowForm, *, looks: bool = False, status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "looked": looks, "effects": [], "sites": None}
    if looks:
        context |= _effects(request, form.cleaned_data if hasattr(form, "cleaned_data") else {})
    if wants_fragment(request):
        return django_render(request, "slas/_window_effects.html", context)
    return django_render(request, "slas/window_new.html", context, status=status)


def _effects(request: ScopedRequest, given: dict[str, Any]) -> dict[str, Any]:
    """What it would mean, as far as the form can be read."""
    begins, ends = given.get("begins"), given.get("ends")
    if (
        not given.get("zone")
        or not begins
        or not ends
        or ends <= begins
        or not (given.get("sites") or given.get("provider"))
    ):
        return {}
    sites: list[Site] = list(sites_in(request.who).filter(slug__in=_slugs(request, given)[:MOST_SITES]))
    if not sites or len({site.provider_id for site in sites}) > 1:
        return {"sites": len(sites), "mixed": len({site.provider_id for site in sites}) > 1}
    found = effects_of(
        request.who,
        provider_id=sites[0].provider_id,
        sites=[site.pk for site in sites],
        span=(begins, ends),
        asked_at=database_now(),
    )
    return {"sites": len(sites), "effects": effect_lines(found)}
