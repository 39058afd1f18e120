"""The guided plan: every choice on one page, with what it would do beside it, and as JSON for who prefers that."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import wants_fragment
from fleet.kit.http import ScopedRequest
from fleet.rollouts.models import Rollout
from fleet.rollouts.present_plan import group_lines
from fleet.rollouts.present_preview import preview_context
from fleet.rollouts.selectors.rollouts import approvals_of, get_rollout
from fleet.rollouts.services.planning import plan_rollout
from fleet.rollouts.states import RolloutEvent, RolloutState, allowed
from fleet.rollouts.views.plan_look import look, put_fault
from fleet.rollouts.views.plan_page import PREFIXES, Page, shown, typed
from fleet.rollouts.views.starting import begun, recipe_of

STEPS = ("save", "ask")


@require_http_methods(["GET", "HEAD", "POST"])
def rollout_plan(request: ScopedRequest) -> HttpResponse:
    """Plan a rollout, begun from nothing or from what was picked elsewhere. Raises NotAllowed, NotFound."""
    _allow(request)
    if request.method != "POST" or request.POST.get("do") == "begin":
        return _draw(request, shown(request, None, begun(request), request.GET.get("as", "form")))
    return _posted(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def rollout_edit(request: ScopedRequest, pk: int) -> HttpResponse:
    """Give a rollout that was not started another plan. Raises NotFound, NotAllowed, Conflict."""
    rollout = get_rollout(scope=request.who, pk=pk)
    _allow(request)
    if not allowed(RolloutState(rollout.state), RolloutEvent.EDIT):
        words = f"It is {rollout.state.replace('_', ' ')}: its plan stays as it is. Plan another one from it."
        if request.method == "POST":
            raise Conflict(words)
        messages.error(request, words)
        return HttpResponseRedirect(reverse("rollout", args=[rollout.pk]))
    if request.method != "POST":
        recipe = recipe_of(request.who, rollout.pk)
        return _draw(request, shown(request, rollout, recipe, request.GET.get("as", "form")))
    return _posted(request, rollout)


def _allow(request: ScopedRequest) -> None:
    if not request.rights.may("rollout.plan"):
        raise NotAllowed("Rollouts are the fleet's; your role does not plan them.")


def _posted(request: ScopedRequest, rollout: Rollout | None) -> HttpResponse:
    step = request.POST.get("do", "preview")
    page = typed(request, rollout, step)
    if step in ("form", "json") and page.whole:
        return _draw(request, shown(request, rollout, page.recipe, step))
    if step not in STEPS:
        return _draw(request, page, part=step.partition("-")[0])
    look(request, page, database_now())
    return _save(request, page, asks=step == "ask")


def _save(request: ScopedRequest, page: Page, *, asks: bool) -> HttpResponse:
    if page.forbidden or page.drafted is None:
        return _show(request, page, status=422)
    try:
        made = plan_rollout(
            actor=request.who,
            rights=request.rights,
            values=page.drafted.values,
            rollout=page.rollout,
            expect=request.POST.get("expect", ""),
            recipe=page.drafted.recipe,
        )
    except Invalid as error:
        put_fault(page, "", error.message)
        return _show(request, page, status=422)
    except Conflict as error:
        page.conflict = error.message
        return _show(request, page, status=409)
    messages.success(request, f"The plan {made.name} is kept. Nothing happens before it was approved.")
    # Asking is a command as any other: its own page says what it does, and is guarded.
    return HttpResponseRedirect(reverse("rollout_do_submit" if asks else "rollout", args=[made.pk]))


# Pages ------------------------------------------------------------------------------------------------------
def _draw(request: ScopedRequest, page: Page, part: str = "preview") -> HttpResponse:
    look(request, page, database_now())
    return _show(request, page, part=part)


def _show(request: ScopedRequest, page: Page, *, part: str = "preview", status: int = 200) -> HttpResponse:
    """The page; for htmx its preview, or the rows that were changed with the preview beside them."""
    rows = {"waves": "waves", "windows": "windows", "freezes": "windows"}.get(part, "")
    fragment = f"rollouts/_plan_{rows}_answer.html" if rows else "rollouts/_plan_answer.html"
    is_part = wants_fragment(request)
    context = _context(request, page) | {"is_answer": is_part}
    response = django_render(request, fragment if is_part else "rollouts/plan.html", context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _context(request: ScopedRequest, page: Page) -> dict[str, Any]:
    approvers = {int(pk): name for pk, name in page.choices["approvers"]}
    return {
        "page": page,
        "form": page.plan,
        "rollout": page.rollout,
        "prefixes": PREFIXES,
        "lines": group_lines(page.recipe, approvers),
        "modes": [("form", "Form"), ("json", "JSON")],
        "said_yes": _approved(request, page.rollout),
        **preview_context(page.preview, page.drafted, approvers, database_now()),
    }


def _approved(request: ScopedRequest, rollout: Rollout | None) -> int:
    """How many people have said yes to the plan as it is."""
    if rollout is None:
        return 0
    found = approvals_of(request.who, rollout).filter(plan_hash=rollout.plan_hash, yes=True)
    return found.values("user").distinct().count()
