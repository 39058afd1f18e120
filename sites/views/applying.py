"""*Apply a document*: a form or JSON, a preview that says what will happen, and the button that does it."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.forms import BaseFormSet
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.http import ScopedRequest
from sites.changes import changes, effects
from sites.drafts import Draft, DraftError, read_text, read_value, text_of, value_of
from sites.forms_desired import (
    MachineForm,
    ReasonForm,
    WorkloadForms,
    machine_initial,
    put_error,
    workload_initial,
)
from sites.models import DesiredDocument, Site, SiteDesired
from sites.present import kind_of
from sites.selectors.access import get_site
from sites.selectors.desired import came_to_nothing, configs_of, desired_of, standing_of, wheels
from sites.services.desired import apply_draft, put_wheel
from sites.services.sites import allow

PREFIX = "w"


@dataclass(frozen=True)
class Ground:
    """What a draft begins from, and is compared with: the newest version, and what the site runs now."""

    site: Site
    standing: SiteDesired | None
    now: DesiredDocument | None
    bodies: dict[str, bytes]

    @property
    def newest(self) -> int:
        """The number of the newest version."""
        return self.standing.version if self.standing else 0

    @property
    def content(self) -> dict[str, Any] | None:
        """What the site runs now, or None where that is not known."""
        return self.now.content if self.now else None


@require_http_methods(["GET", "HEAD", "POST"])
@dangerous("site.apply")
def site_desired_apply(request: ScopedRequest, slug: str) -> HttpResponse:
    """The form, the preview, the deed. Raises NotFound, NotAllowed."""
    site = get_site(scope=request.who, slug=slug)
    allow(request.rights, "site.apply", site)
    standing = desired_of(site)
    now = standing_of(site, standing)
    ground = Ground(site, standing, now, configs_of(request.who, [now.content] if now else []))
    if request.method != "POST":
        value = value_of(ground.content, ground.bodies)
        return _editor(request, ground, value, as_json=request.GET.get("as") == "json")
    step = request.POST.get("do", "")
    if step == "apply":
        return _apply(request, ground)
    if "text" in request.POST:
        return _from_text(request, ground, step)
    return _from_form(request, ground, step)


# What was typed ---------------------------------------------------------------------------------------------
def _from_text(request: ScopedRequest, ground: Ground, step: str) -> HttpResponse:
    """JSON was typed, or comes back from the preview: look at it, or go on in the form or the text."""
    text = request.POST["text"]
    reason = ReasonForm(request.POST) if step == "preview" else None
    try:
        draft = read_text(text)
    except DraftError as error:
        return _text_page(request, ground, text, reason, error=error)
    if step == "preview" and reason is not None:
        if not reason.is_valid():
            return _text_page(request, ground, text, reason)
        return _preview(request, ground, draft, reason.cleaned_data, as_json=True)
    value = value_of(draft.content, {**ground.bodies, **draft.configs})
    return _editor(request, ground, value, as_json=step == "json")


def _from_form(request: ScopedRequest, ground: Ground, step: str) -> HttpResponse:
    data = request.POST.copy()
    if step == "add":
        total = data.get(f"{PREFIX}-TOTAL_FORMS", "0")
        data[f"{PREFIX}-TOTAL_FORMS"] = str(int(total) + 1 if total.isdigit() and len(total) < 4 else 1)
    workloads = WorkloadForms(data, prefix=PREFIX)
    machine = MachineForm(data, request.FILES, wheels=wheels())
    reason = ReasonForm(data)
    if step == "add":
        return _form_page(request, ground, workloads, machine, reason, status=200)
    are_valid = [workloads.is_valid(), machine.is_valid(), step == "json" or reason.is_valid()]
    if not all(are_valid):
        return _form_page(request, ground, workloads, machine, reason, status=422)
    kept = [form for form in workloads.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
    draft = _draft_of(request, kept, machine)
    if draft is None:
        return _form_page(request, ground, workloads, machine, reason, status=422)
    if step == "json":
        value = value_of(draft.content, {**ground.bodies, **draft.configs})
        return _editor(request, ground, value, as_json=True)
    return _preview(request, ground, draft, reason.cleaned_data, as_json=False)


def _draft_of(request: ScopedRequest, kept: list[Any], machine: MachineForm) -> Draft | None:
    """The draft in forms that are valid each; None when something is wrong with it, which then stands in them."""
    values = []
    for number, form in enumerate(kept):
        try:
            values.append(form.value())
        except DraftError as error:
            put_error(DraftError(f"workloads[{number}].{error.place}", error.reason), kept, machine)
    try:
        upload = machine.cleaned_data["wheel"]
        wheel = put_wheel(actor=request.who, rights=request.rights, body=upload.read()) if upload else ""
        draft = read_value({"workloads": values, **machine.value(wheel)})
    except Invalid as error:
        machine.add_error("wheel", error.message)
        return None
    except DraftError as error:
        put_error(error, kept, machine)
        return None
    return draft if len(values) == len(kept) else None


# Pages ------------------------------------------------------------------------------------------------------
def _editor(request: ScopedRequest, ground: Ground, value: dict[str, Any], *, as_json: bool) -> HttpResponse:
    """An editor that holds `value`, with what was typed as the reason before."""
    given = {"reason": request.POST.get("reason", ""), "expect": request.POST.get("expect", ground.newest)}
    reason = ReasonForm(initial=given)
    if as_json:
        return _text_page(request, ground, text_of(value), reason)
    initial = [workload_initial(one) for one in value["workloads"]]
    workloads = WorkloadForms(initial=initial, prefix=PREFIX)
    workloads.extra = 0 if initial else 1
    machine = MachineForm(initial=machine_initial(value), wheels=wheels())
    return _form_page(request, ground, workloads, machine, reason, status=200)


def _form_page(
    request: ScopedRequest,
    ground: Ground,
    workloads: "BaseFormSet[Any]",
    machine: MachineForm,
    reason: ReasonForm,
    *,
    status: int,
) -> HttpResponse:
    context = _context(ground) | {"workloads": workloads, "machine": machine, "reason": reason}
    return render(request, "sites/apply.html", context, status=status)


def _text_page(
    request: ScopedRequest, ground: Ground, text: str, reason: ReasonForm | None, *, error: DraftError | None = None
) -> HttpResponse:
    given = {name: request.POST.get(name, "") for name in ("reason", "expect")}
    reason = reason or ReasonForm(initial=given)
    is_wrong = error is not None or reason.is_bound
    context = _context(ground) | {"text": text, "reason": reason, "error": error, "as_json": True}
    return render(request, "sites/apply.html", context, status=422 if is_wrong else 200)


def _preview(
    request: ScopedRequest,
    ground: Ground,
    draft: Draft,
    given: dict[str, Any],
    *,
    as_json: bool,
    error: str = "",
) -> HttpResponse:
    bodies = {**ground.bodies, **draft.configs, **configs_of(request.who, [draft.content])}
    found = changes(ground.content, draft.content, bodies)
    context = _context(ground) | {
        "preview": True,
        "changes": found,
        "effects": effects(found),
        "text": text_of(value_of(draft.content, draft.configs)),
        "given": given,
        "as_json": as_json,
        "error": error,
        "kind": kind_of(ground.site),
        "overtaken": given["expect"] != ground.newest,
    }
    return render(request, "sites/apply_preview.html", context, status=409 if error else 200)


def _apply(request: ScopedRequest, ground: Ground) -> HttpResponse:
    given = ReasonForm(request.POST)
    try:
        draft = read_text(request.POST.get("text", ""))
    except DraftError as error:
        return _text_page(request, ground, request.POST.get("text", ""), None, error=error)
    if not given.is_valid():
        return _text_page(request, ground, request.POST["text"], given)
    values = given.cleaned_data
    try:
        made = apply_draft(
            actor=request.who,
            rights=request.rights,
            site=ground.site,
            draft=draft,
            reason=values["reason"],
            expect=values["expect"],
        )
    except (Conflict, Invalid) as error:
        as_json = request.POST.get("as") == "json"
        return _preview(request, ground, draft, values, as_json=as_json, error=error.message)
    messages.success(request, f"Version {made.epoch}.{made.version} is given out to {ground.site.name}.")
    return HttpResponseRedirect(reverse("site_desired", args=[ground.site.slug]))


def _context(ground: Ground) -> dict[str, Any]:
    standing = ground.standing
    return {
        "site": ground.site,
        "now": ground.now,
        "newest": standing.document if standing else None,
        "undone": standing is not None and came_to_nothing(standing),
        "is_frozen": bool(standing and standing.document and standing.document.hold),
        "next_version": f"{standing.epoch if standing else 1}.{ground.newest + 1}",
    }
