"""The editor of a standard: a form, YAML or JSON, begun from nothing, another standard, or what a site runs now."""

from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.standards.contents import architectures_of, draft_of, read_value
from fleet.standards.forms import AboutForm, about_initial
from fleet.standards.models import Standard
from fleet.standards.reading import Form, read_text, text_of
from fleet.standards.selectors.standards import bodies_of, content_of_site, get_standard, standards_in
from fleet.standards.services.standards import change_standard, create_standard
from fleet.standards.states import StandardState
from sites.drafts import Draft, DraftError
from sites.forms import add_errors
from sites.forms_desired import MachineForm, WorkloadForms, machine_initial, put_error, workload_initial
from sites.selectors.access import get_site
from sites.selectors.desired import configs_of, wheels
from sites.services.desired import put_wheel

PREFIX = "w"
EMPTY: dict[str, Any] = {"workloads": [], "agent": None, "os": None}


@dataclass
class Page:
    """What the editor shows: its mode (form, yaml, json), what stands in it, and what is wrong."""

    standard: Standard | None
    about: AboutForm
    mode: str = "form"
    text: str = ""
    error: DraftError | None = None
    workloads: Any = None
    machine: Any = None
    left_out: list[str] = field(default_factory=list)
    begun: str = ""
    only_text: bool = False
    status: int = 200


@require_http_methods(["GET", "HEAD", "POST"])
def standard_create(request: ScopedRequest) -> HttpResponse:
    """Make a standard. Raises NotAllowed, NotFound (a site or a standard to begin from)."""
    return _editor(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def standard_edit(request: ScopedRequest, name: str) -> HttpResponse:
    """Change a draft. Raises NotFound, NotAllowed, Conflict."""
    standard = get_standard(scope=request.who, name=name)
    _allow(request)
    if standard.state != StandardState.DRAFT:
        raise Conflict("It is published, and stays as it is; begin another one from it.")
    return _editor(request, standard)


def _allow(request: ScopedRequest) -> None:
    if not request.rights.may("standard.change"):
        raise NotAllowed("Standards are the fleet's; your role does not make them.")


def _editor(request: ScopedRequest, standard: Standard | None) -> HttpResponse:
    _allow(request)
    if request.method == "POST":
        return _posted(request, Page(standard, AboutForm(request.POST)))
    page = Page(standard, AboutForm(initial=about_initial(standard)), mode=request.GET.get("as", "form"))
    return _show(request, page, _beginning(request, page))


def _beginning(request: ScopedRequest, page: Page) -> Draft:
    """What the editor begins with, and where it is from."""
    given = request.GET
    if page.standard is not None:
        return Draft(page.standard.content, bodies_of(request.who, page.standard))
    if given.get("from"):
        origin = get_standard(scope=request.who, name=given["from"])
        page.begun = origin.name
        return Draft(origin.content, bodies_of(request.who, origin))
    if given.get("site"):
        site = get_site(scope=request.who, slug=given["site"])
        content, page.left_out = content_of_site(request.who, site)
        page.begun = f"what {site.name} runs now"
        return Draft(content, configs_of(request.who, [content]))
    return Draft(EMPTY)


# What was typed ---------------------------------------------------------------------------------------------
def _posted(request: ScopedRequest, page: Page) -> HttpResponse:
    step = request.POST.get("do", "")
    if "text" in request.POST:
        page.mode = "json" if request.POST.get("mode") == "json" else "yaml"
        page.text = request.POST["text"]
        form: Form = "json" if page.mode == "json" else "yaml"
        try:
            draft = read_text(page.text, form)
        except DraftError as error:
            page.error, page.status = error, 422
            return _draw(request, page)
    else:
        found = _from_form(request, page, step)
        if found is None:
            return _draw(request, page)
        draft = found
    if step != "save":
        page.about = AboutForm(initial=request.POST.dict())
        page.mode = step
        return _show(request, page, draft)
    return _save(request, page, draft)


def _from_form(request: ScopedRequest, page: Page, step: str) -> Draft | None:
    """The draft in the forms; None where something is wrong, or a workload was asked for: then they are drawn."""
    data = request.POST.copy()
    if step == "add":
        total = data.get(f"{PREFIX}-TOTAL_FORMS", "0")
        data[f"{PREFIX}-TOTAL_FORMS"] = str(int(total) + 1 if total.isdigit() and len(total) < 4 else 1)
    page.workloads = WorkloadForms(data, prefix=PREFIX)
    page.machine = MachineForm(data, request.FILES, wheels=wheels())
    if step == "add":
        return None
    if not all([page.workloads.is_valid(), page.machine.is_valid()]):
        page.status = 422
        return None
    kept = [form for form in page.workloads.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
    try:
        values = [form.value() for form in kept]
        upload = page.machine.cleaned_data["wheel"]
        wheel = put_wheel(actor=request.who, rights=request.rights, body=upload.read()) if upload else ""
        value = {"workloads": values, **page.machine.value(wheel)}
        if step != "save" and not any(value.values()):
            return Draft(EMPTY)
        return read_value(value)
    except Invalid as error:
        page.machine.add_error("wheel", error.message)
    except DraftError as error:
        put_error(error, kept, page.machine)
    page.status = 422
    return None


def _save(request: ScopedRequest, page: Page, draft: Draft) -> HttpResponse:
    page.status = 422
    if not page.about.is_valid():
        return _draw(request, page)
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights, "draft": draft}
    values = page.about.values()
    try:
        if page.standard is None:
            made = create_standard(**common, values=values)
        else:
            expect = page.about.cleaned_data["expect"]
            made = change_standard(**common, standard=page.standard, values=values, expect=expect)
    except Invalid as error:
        add_errors(page.about, error)
        return _draw(request, page)
    except Conflict as error:
        page.about.add_error(None, error.message)
        return _draw(request, page)
    messages.success(request, f"The draft {made.name} is kept. It counts for nothing until it is published.")
    return HttpResponseRedirect(made.get_absolute_url())


# Pages ------------------------------------------------------------------------------------------------------
def _show(request: ScopedRequest, page: Page, draft: Draft) -> HttpResponse:
    """The editor with this draft in it, in its mode; images by architecture have no form."""
    page.only_text = bool(architectures_of(draft.content))
    if page.mode not in ("yaml", "json"):
        page.mode = "yaml" if page.only_text else "form"
    bodies = {**configs_of(request.who, [draft.content]), **draft.configs}
    if page.mode == "form":
        value = draft_of(draft.content, bodies)
        initial = [workload_initial(one) for one in value["workloads"]]
        page.workloads = WorkloadForms(initial=initial, prefix=PREFIX)
        page.workloads.extra = 0 if initial else 1
        page.machine = MachineForm(initial=machine_initial(value), wheels=wheels())
    else:
        page.text = text_of(draft.content, bodies, "json" if page.mode == "json" else "yaml")
    return _draw(request, page)


def _draw(request: ScopedRequest, page: Page) -> HttpResponse:
    bound: BaseForm = page.about
    context = {
        "page": page,
        "standard": page.standard,
        "about": bound,
        "modes": [("form", "Form"), ("yaml", "YAML"), ("json", "JSON")],
        "others": list(standards_in(request.who)[:50]) if page.standard is None else [],
    }
    return render(request, "standards/edit.html", context, status=page.status)
