"""Standards: the list, one with its exact content, the difference of two, publishing, giving one to a ring."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from agent.protocol.desired import decode_config
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.standards.contents import changes_between
from fleet.standards.forms import ReasonForm
from fleet.standards.models import Ring, Standard
from fleet.standards.present import short
from fleet.standards.reading import text_of
from fleet.standards.selectors.compliance import counts_by
from fleet.standards.selectors.judgement import outcome_of
from fleet.standards.selectors.standards import (
    bodies_of,
    current_standards,
    get_ring,
    get_standard,
    rings_in,
    spans_of,
    standards_in,
)
from fleet.standards.services.rings import set_ring_standard
from fleet.standards.services.standards import delete_standard, publish_standard, withdraw_standard
from fleet.standards.states import StandardState

PER_PAGE = 25
LOOKS = {"draft": "", "published": "up", "withdrawn": "unknown"}


@require_safe
def standard_list(request: ScopedRequest) -> HttpResponse:
    """Standards, newest first, with who follows them."""
    page = Paginator(standards_in(request.who), PER_PAGE).get_page(request.GET.get("page"))
    counts = counts_by(request.who, "standard")
    rings = list(rings_in(request.who))
    now = current_standards(rings)
    by_standard: dict[int, list[Ring]] = {}
    for ring in rings:
        standing = now.get(ring.pk)
        if standing is not None and standing.standard_id is not None:
            by_standard.setdefault(standing.standard_id, []).append(ring)
    rows = [
        {
            "standard": standard,
            "look": LOOKS[standard.state],
            "rings": by_standard.get(standard.pk, []),
            "counts": counts.get(standard.pk),
            "size": len(standard.components),
        }
        for standard in page.object_list
    ]
    context = {"rows": rows, "page": page, "may_change": request.rights.may("standard.change")}
    return render(request, page="standards/list.html", fragment="standards/_list.html", context=context)


@require_safe
def standard_detail(request: ScopedRequest, name: str) -> HttpResponse:
    """One standard: its exact content, who has it, and what can be done with it. Raises NotFound."""
    standard = get_standard(scope=request.who, name=name)
    bodies = bodies_of(request.who, standard)
    may = request.rights.may
    context = {
        "standard": standard,
        "look": LOOKS[standard.state],
        "workloads": [_workload(one, bodies) for one in standard.content["workloads"]],
        "yaml": text_of(standard.content, bodies, "yaml"),
        "spans": spans_of(standard),
        "counts": counts_by(request.who, "standard").get(standard.pk),
        "others": list(standards_in(request.who).exclude(pk=standard.pk)[:100]),
        "may_change": may("standard.change"),
        "may_publish": may("standard.publish"),
        "may_give": may("ring.change") and standard.state == StandardState.PUBLISHED,
        "wide": request.who.wide,
    }
    return render(request, page="standards/detail.html", fragment="standards/_detail.html", context=context)


def _workload(one: dict[str, Any], bodies: dict[str, bytes]) -> dict[str, Any]:
    images = one.get("images") or {"": one["image"]}
    config = bodies.get(one.get("config_sha256") or "")
    return {
        **one,
        "images": [{"architecture": name, "image": image} for name, image in sorted(images.items())],
        "env": sorted(decode_config(config).env.items()) if config else [],
        "config_short": short(one.get("config_sha256")),
    }


@require_safe
def standard_diff(request: ScopedRequest) -> HttpResponse:
    """What one standard changes of another, exactly and in words. Raises NotFound."""
    names = [request.GET.get(part, "") for part in ("before", "after")]
    chosen = [get_standard(scope=request.who, name=name) if name else None for name in names]
    before, after = chosen
    found = None
    if before is not None and after is not None:
        found = changes_between(before.content, after.content, bodies_of(request.who, before, after))
    context = {"before": before, "after": after, "changes": found, "standards": list(standards_in(request.who)[:200])}
    return render(request, page="standards/diff.html", fragment="standards/_diff.html", context=context)


@require_POST
@dangerous("standard.publish")
def standard_publish(request: ScopedRequest, name: str) -> HttpResponse:
    """Publish a draft as it was seen. Raises NotFound, NotAllowed."""
    standard = get_standard(scope=request.who, name=name)
    try:
        publish_standard(
            actor=request.who, rights=request.rights, standard=standard, expect=request.POST.get("expect", "")
        )
    except (Conflict, Invalid) as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{standard.name} is published. From now on it stays as it is.")
    return HttpResponseRedirect(standard.get_absolute_url())


@require_POST
@dangerous("standard.withdraw")
def standard_withdraw(request: ScopedRequest, name: str) -> HttpResponse:
    """Take a standard out of use. Raises NotFound, NotAllowed."""
    standard = get_standard(scope=request.who, name=name)
    try:
        withdraw_standard(
            actor=request.who, rights=request.rights, standard=standard, reason=request.POST.get("reason", "")
        )
    except (Conflict, Invalid) as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{standard.name} is withdrawn.")
    return HttpResponseRedirect(standard.get_absolute_url())


@require_POST
def standard_delete(request: ScopedRequest, name: str) -> HttpResponse:
    """Throw a draft away. Raises NotFound, NotAllowed."""
    standard = get_standard(scope=request.who, name=name)
    try:
        delete_standard(actor=request.who, rights=request.rights, standard=standard)
    except Conflict as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(standard.get_absolute_url())
    messages.success(request, f"The draft {standard.name} is gone.")
    return HttpResponseRedirect(reverse("standard_list"))


@require_http_methods(["GET", "HEAD", "POST"])
@dangerous("ring.standard")
def standard_give(request: ScopedRequest, name: str) -> HttpResponse:
    """Give a ring the standard: what that will do, in numbers, before the button. Raises NotFound, NotAllowed."""
    standard = get_standard(scope=request.who, name=name)
    if not request.rights.may("ring.change"):
        raise NotAllowed("Rings are the fleet's; your role does not allow this.")
    slug = (request.POST if request.method == "POST" else request.GET).get("ring", "")
    ring = get_ring(scope=request.who, slug=slug) if slug else None
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if ring is not None and request.method == "POST" and form.is_valid():
        expect = request.POST.get("expect", "")
        try:
            set_ring_standard(
                actor=request.who,
                rights=request.rights,
                ring=ring,
                standard=standard,
                reason=form.cleaned_data["reason"],
                expect=int(expect) if expect.isascii() and expect.isdigit() and len(expect) < 19 else None,
            )
        except (Conflict, Invalid) as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, f"{ring.name} follows {standard.name} from now on.")
            return HttpResponseRedirect(standard.get_absolute_url())
    return _give_page(request, standard, ring, form)


def _give_page(request: ScopedRequest, standard: Standard, ring: Ring | None, form: ReasonForm) -> HttpResponse:
    rings = list(rings_in(request.who))
    now = current_standards(rings)
    standing = now.get(ring.pk) if ring else None
    had = standing.standard if standing else None
    context = {
        "standard": standard,
        "rings": [{"ring": row, "now": now[row.pk].standard if row.pk in now else None} for row in rings],
        "ring": ring,
        "had": had,
        "outcome": outcome_of(ring_id=ring.pk, standard_id=standard.pk) if ring else None,
        "changes": changes_between(had.content, standard.content, bodies_of(request.who, had, standard))
        if had
        else None,
        "form": form,
    }
    return django_render(request, "standards/give.html", context, status=422 if form.errors else 200)
