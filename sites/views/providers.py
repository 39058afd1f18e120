"""Providers: list, page, form."""

from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.views.decorators.http import require_http_methods, require_safe

from fleet.kit.errors import Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.filters import of_kinds
from sites.forms import ProviderForm, add_errors
from sites.models import Provider
from sites.present import KINDS, LABELS, LANE_WIDTH, kind_of, since_of, why_of
from sites.selectors.access import get_provider, providers_in, sites_in
from sites.services.providers import save_provider
from sites.states import Life

SITES_SHOWN = 50


def _mixes(request: ScopedRequest) -> dict[int, dict[str, int]]:
    """Counts of the viewer's sites by provider and kind (and `planned`), in one query."""
    counts = {kind: Count("pk", filter=of_kinds([kind])) for kind in KINDS}
    counts["planned"] = Count("pk", filter=Q(life=Life.PLANNED))
    names = list(counts)
    rows = sites_in(request.who).order_by().values("provider_id").annotate(**counts).values_list("provider_id", *names)
    return {provider_id: dict(zip(names, numbers, strict=True)) for provider_id, *numbers in rows}


def _card(provider: Provider, mix: dict[str, int]) -> dict[str, Any]:
    total = sum(mix.get(kind, 0) for kind in KINDS)
    bars, x = [], 0.0
    for kind in KINDS:
        count = mix.get(kind, 0)
        if not count:
            continue
        width = count / total * LANE_WIDTH
        title = f"{count} {LABELS[kind].lower()}"
        bars.append({"kind": kind, "x": round(x, 2), "width": round(width, 2), "title": title})
        x += width
    figures = [{"kind": kind, "label": LABELS[kind], "count": mix.get(kind, 0)} for kind in KINDS if mix.get(kind)]
    return {"provider": provider, "total": total, "planned": mix.get("planned", 0), "bars": bars, "figures": figures}


@require_safe
def provider_list(request: ScopedRequest) -> HttpResponse:
    """Every provider the viewer may see, with the state of its sites."""
    mixes = _mixes(request)
    cards = [_card(provider, mixes.get(provider.pk, {})) for provider in providers_in(request.who)]
    return render(request, page="providers/list.html", fragment="providers/_list.html", context={"cards": cards})


@require_safe
def provider_detail(request: ScopedRequest, slug: str) -> HttpResponse:
    """One provider: whom to call, and its sites, worst first. Raises NotFound."""
    provider = get_provider(scope=request.who, slug=slug)
    bad = sites_in(request.who).filter(provider=provider).filter(of_kinds(["down", "unreachable", "degraded"]))
    context = {
        "card": _card(provider, _mixes(request).get(provider.pk, {})),
        "provider": provider,
        "troubled": [
            {"site": site, "kind": kind_of(site), "why": why_of(site), "since": since_of(site)}
            for site in bad.order_by("state__shown_since", "id")[:SITES_SHOWN]
        ],
        "may_change": request.rights.may("provider.change"),
    }
    return render(request, page="providers/detail.html", fragment="providers/_detail.html", context=context)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_create(request: ScopedRequest) -> HttpResponse:
    """Make a provider."""
    return _form(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_edit(request: ScopedRequest, slug: str) -> HttpResponse:
    """Change a provider. Raises NotFound, NotAllowed."""
    return _form(request, get_provider(scope=request.who, slug=slug))


def _form(request: ScopedRequest, provider: Provider | None) -> HttpResponse:
    if not request.rights.may("provider.change"):
        raise NotAllowed("Your role does not change providers.")
    form = ProviderForm(request.POST or None, instance=provider)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_provider(actor=request.who, rights=request.rights, values=form.cleaned_data, provider=provider)
        except Invalid as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{saved.name} is saved.")
            return HttpResponseRedirect(saved.get_absolute_url())
    status = 422 if form.is_bound else 200
    name = "" if provider is None else Provider.objects.values_list("name", flat=True).get(pk=provider.pk)
    context = {"form": form, "provider": provider, "name": name}
    return django_render(request, "providers/form.html", context, status=status)
