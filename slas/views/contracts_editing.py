"""The editor of contracts: a guided form or JSON, every fault at its field, and what it would have meant last month."""

import json
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import wants_fragment
from fleet.kit.http import ScopedRequest
from sites.selectors.access import providers_in
from slas.exports.words import month_words
from slas.faults import Fault
from slas.forms.contracts import AboutForm, WhyForm
from slas.models import Contract
from slas.present.editor import blank_objective, blank_segment, editor_of
from slas.present.editor_reading import agreement_in
from slas.present.words import MEASURES, NO_VERDICT, VERDICTS, trimmed
from slas.selectors.contracts import get_contract, version_as_of, written
from slas.services.contracts import change_contract, check_agreement, create_contract
from slas.services.preview import preview

MOST_CHARS: Final = 200_000


@require_http_methods(["GET", "HEAD", "POST"])
def contract_new(request: ScopedRequest) -> HttpResponse:
    """Make a contract. Raises NotAllowed."""
    return _edit(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def contract_edit(request: ScopedRequest, slug: str) -> HttpResponse:
    """Agree on something else: the next version. Raises NotFound, NotAllowed."""
    return _edit(request, get_contract(scope=request.who, slug=slug))


# ------------------------------------------------------------------------------------------------------------
def _edit(request: ScopedRequest, contract: Contract | None) -> HttpResponse:
    if not request.rights.may("contract.change"):
        raise NotAllowed("Contracts are the managers' to change.")
    if request.method != "POST":
        return _begin(request, contract)
    do = request.POST.get("do", "check" if wants_fragment(request) else "")  # a form that is being typed into
    mode = "json" if request.POST.get("mode") == "json" else "form"
    value, fault = _typed(request, mode)
    about = AboutForm(request.POST if do == "save" else None, initial=request.POST.dict()) if contract is None else None
    why = WhyForm(request.POST if do == "save" else None, initial=request.POST.dict())
    page: dict[str, Any] = {"contract": contract, "about": about, "why": why, "mode": mode}
    if fault:
        return _page(request, page, value, [fault], status=422)
    if do in {"json", "form"}:
        return _page(request, page | {"mode": do}, value, [])
    if do not in {"check", "preview", "save"}:
        return _page(request, page, _shaped(value, do), [])
    faults = check_agreement(actor=request.who, rights=request.rights, agreement=value)
    if do == "save" and not faults and (about is None or about.is_valid()) and why.is_valid():
        return _save(request, page, value)
    if do == "preview" and not faults:
        page |= _previewed(request, value)
    checked = do != "save" and not faults
    status = 200 if do != "save" else 422
    return _page(request, page | {"is_checked": checked}, value, faults, status=status)


def _begin(request: ScopedRequest, contract: Contract | None) -> HttpResponse:
    value: dict[str, Any] = {"zone": "UTC", "labels": {}, "regions": [], "segments": [blank_segment()]}
    expect = None
    if contract is not None:
        newest = version_as_of(contract)
        value, expect = written(newest), newest.number
    about = AboutForm() if contract is None else None
    mode = "json" if request.GET.get("as") == "json" else "form"
    page = {"contract": contract, "about": about, "why": WhyForm(initial={"expect": expect}), "mode": mode}
    return _page(request, page, value, [])


def _typed(request: ScopedRequest, mode: str) -> tuple[Any, Fault | None]:
    """What was typed, and what is wrong with it where it cannot be read at all."""
    if mode == "form":
        return agreement_in({name: str(text)[:5000] for name, text in request.POST.items()}), None
    text = request.POST.get("text", "")
    if len(text) > MOST_CHARS:
        return {}, Fault("", f"This is longer than {MOST_CHARS} characters.")
    try:
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        return {}, Fault("", f"This is no JSON: {str(error)[:120]}.")
    return (value, None) if isinstance(value, dict) else ({}, Fault("", "This is an object with members."))


def _shaped(value: dict[str, Any], do: str) -> dict[str, Any]:
    """The same with a segment or an objective more or less: `add:segments`, `drop:segments.0.objectives.1`."""
    verb, _, path = do.partition(":")
    parts = path.split(".")
    numbers = [int(one) for one in parts if one.isascii() and one.isdigit() and len(one) < 4]
    segments = value["segments"] if isinstance(value.get("segments"), list) else []
    inner = len(parts) > 2 and numbers and numbers[0] < len(segments)
    listed = segments[numbers[0]]["objectives"] if inner else segments
    if verb == "add":
        listed.append(blank_objective() if inner else blank_segment())
    elif verb == "drop" and len(numbers) == len(parts) // 2 and numbers and numbers[-1] < len(listed):
        del listed[numbers[-1]]
    return value


def _save(request: ScopedRequest, page: dict[str, Any], value: Any) -> HttpResponse:
    contract, about, why = page["contract"], page["about"], page["why"]
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights, "agreement": value}
    common["reason"] = why.cleaned_data["reason"]
    try:
        if contract is None:
            made = create_contract(**common, slug=about.cleaned_data["slug"], name=about.cleaned_data["name"])
        else:
            made = change_contract(**common, contract=contract, expect=why.cleaned_data["expect"] or 0)
    except (Invalid, Conflict) as error:
        known = {name: text for name, text in error.details.items() if about is not None and name in about.fields}
        for name, text in known.items():
            about.add_error(name, str(text))
        if not known:
            why.add_error(None, error.message)
        return _page(request, page, value, [], status=422)
    messages.success(request, f"Agreed: version {made.number} counts from now on. Figures follow within a minute.")
    return HttpResponseRedirect(reverse("sla_contract", args=[made.contract.slug]))


def _previewed(request: ScopedRequest, value: Any) -> dict[str, Any]:
    month, lines = preview(actor=request.who, rights=request.rights, agreement=value)
    rows = [
        {
            **line,
            "label": MEASURES[line["measure"]],
            "target": trimmed(line["target"]),
            "look": VERDICTS.get(line["verdict"], NO_VERDICT),
        }
        for line in lines
    ]
    return {"previewed": month_words(month), "lines": rows}


def _page(
    request: ScopedRequest, page: dict[str, Any], value: Any, faults: list[Fault], *, status: int = 200
) -> HttpResponse:
    """The editor with what was typed; to htmx only what is said of it, with each field's fault."""
    providers = list(providers_in(request.who).values_list("slug", "name"))
    editor = editor_of(value, providers)
    editor.take(faults)
    is_json = page["mode"] == "json"
    text = request.POST.get("text", "") if is_json and page["mode"] == request.POST.get("mode") else None
    context = {
        **page,
        "editor": editor,
        "faults": faults,
        "text": text if text is not None else json.dumps(value, indent=2, ensure_ascii=False),
    }
    if wants_fragment(request):
        return django_render(request, "slas/_contract_says.html", context | {"is_answer": True})
    return django_render(request, "slas/contract_edit.html", context, status=status)
