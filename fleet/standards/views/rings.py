"""Rings: the list in its order, the form with a live count of sites, and moving one up or down."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.standards.forms import ReasonForm, RingForm, ring_initial
from fleet.standards.models import Ring
from fleet.standards.selectors.compliance import counts_by
from fleet.standards.selectors.standards import current_standards, get_ring, held_by, history_of, rings_in
from fleet.standards.services.rings import delete_ring, order_rings, save_ring, set_ring_standard
from sites.forms import add_errors
from sites.selectors.access import providers_in


@require_safe
def ring_list(request: ScopedRequest) -> HttpResponse:
    """Rings in the order in which they are asked, with what they have and how their sites are."""
    found = list(rings_in(request.who))
    now = current_standards(found)
    counts = counts_by(request.who, "ring")
    names = dict(providers_in(request.who).values_list("pk", "name"))
    may_change = request.rights.may("ring.change")
    rows = [
        {
            "ring": ring,
            "selector": _words(ring, names) if request.who.wide else "",
            "now": now.get(ring.pk),
            "counts": counts.get(ring.pk),
            "is_first": number == 0,
            "is_last": number == len(found) - 1,
        }
        for number, ring in enumerate(found)
    ]
    context = {"rows": rows, "without": counts.get(None), "may_change": may_change}
    return render(request, page="standards/rings.html", fragment="standards/_rings.html", context=context)


def _words(ring: Ring, names: dict[int, str]) -> str:
    """A selector as people say it."""
    parts = [f"{key}={value}" for key, value in sorted(ring.labels.items())]
    if ring.regions:
        parts.append(f"in {' or '.join(ring.regions)}")
    if ring.providers:
        parts.append(f"of {' or '.join(names.get(pk, '?') for pk in ring.providers)}")
    return ", ".join(parts) or "all that no ring before holds"


@require_http_methods(["GET", "HEAD", "POST"])
def ring_create(request: ScopedRequest) -> HttpResponse:
    """Make a ring. Raises NotAllowed."""
    return _form(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def ring_edit(request: ScopedRequest, slug: str) -> HttpResponse:
    """Change a ring, and see what it has had. Raises NotFound, NotAllowed."""
    return _form(request, get_ring(scope=request.who, slug=slug))


def _form(request: ScopedRequest, ring: Ring | None) -> HttpResponse:
    _allow(request)
    initial = ring_initial(ring) if ring else {}
    form = RingForm(request.POST if request.method == "POST" else None, initial=initial, who=request.who)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_ring(actor=request.who, rights=request.rights, values=form.values(), ring=ring)
        except Invalid as error:
            add_errors(form, error)
        else:
            messages.success(request, f"{saved.name} is saved. Its sites are compared anew.")
            return HttpResponseRedirect(reverse("ring_list"))
    context: dict[str, Any] = {"form": form, "ring": ring, **_held(request, form, ring)}
    if ring is not None:
        context |= {"spans": history_of(ring), "now": current_standards([ring]).get(ring.pk)}
    return django_render(request, "standards/ring_form.html", context, status=422 if form.errors else 200)


@require_safe
def ring_count(request: ScopedRequest) -> HttpResponse:
    """How many sites the selector that is being typed holds: a part of the form. Raises NotAllowed, NotFound."""
    _allow(request)
    slug = request.GET.get("ring", "")
    ring = get_ring(scope=request.who, slug=slug) if slug else None
    form = RingForm(request.GET, who=request.who)
    form.is_valid()
    return django_render(request, "standards/_held.html", _held(request, form, ring))


def _held(request: ScopedRequest, form: RingForm, ring: Ring | None) -> dict[str, Any]:
    """Counts for a form, as far as what stands in it can be read."""
    if form.is_bound:
        given = form.cleaned_data if hasattr(form, "cleaned_data") else {}
        labels, regions = given.get("labels") or {}, given.get("regions") or []
        providers = [row.pk for row in given.get("providers") or []]
        wrong = [name for name in ("labels", "regions", "providers") if name in form.errors]
    else:
        labels, regions = form.initial.get("labels", {}), form.initial.get("regions", [])
        providers, wrong = form.initial.get("providers", []), []
    if wrong:
        return {"held": None}
    total, taken = held_by(labels=labels, regions=regions, providers=providers, before=ring.position if ring else None)
    return {"held": total, "taken": taken, "left": total - taken}


@require_POST
def ring_order(request: ScopedRequest) -> HttpResponse:
    """Move a ring up or down by one. Raises NotAllowed."""
    _allow(request)
    slugs = list(rings_in(request.who).values_list("slug", flat=True))
    slug, step = request.POST.get("ring", ""), -1 if request.POST.get("move") == "up" else 1
    if slug in slugs:
        at = slugs.index(slug)
        to = min(len(slugs) - 1, max(0, at + step))
        slugs[at], slugs[to] = slugs[to], slugs[at]
        order_rings(actor=request.who, rights=request.rights, slugs=slugs)
    return HttpResponseRedirect(reverse("ring_list"))


@require_POST
def ring_delete(request: ScopedRequest, slug: str) -> HttpResponse:
    """Remove a ring that never had a standard. Raises NotFound, NotAllowed."""
    ring = get_ring(scope=request.who, slug=slug)
    try:
        delete_ring(actor=request.who, rights=request.rights, ring=ring)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{ring.name} is gone.")
    return HttpResponseRedirect(reverse("ring_list"))


@require_POST
@dangerous("ring.standard")
def ring_release(request: ScopedRequest, slug: str) -> HttpResponse:
    """Take a ring's standard away. Raises NotFound, NotAllowed."""
    ring = get_ring(scope=request.who, slug=slug)
    _allow(request)
    standing = current_standards([ring]).get(ring.pk)
    form = ReasonForm(request.POST)
    try:
        set_ring_standard(
            actor=request.who,
            rights=request.rights,
            ring=ring,
            standard=None,
            reason=form.cleaned_data["reason"] if form.is_valid() else "",
            expect=standing.standard_id if standing else None,
        )
    except (Conflict, Invalid) as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{ring.name} follows no standard from now on.")
    return HttpResponseRedirect(reverse("ring_list"))


def _allow(request: ScopedRequest) -> None:
    if not request.rights.may("ring.change"):
        raise NotAllowed("Rings are the fleet's; your role does not allow this.")
