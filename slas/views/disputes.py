"""Disputes: the list, one of them with its trail and files, filing one, and what is done about it."""

from typing import Any, Final
from urllib.parse import quote

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, DomainError, Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import scope
from slas.forms.incidents import ClaimForm, DecisionForm, FileForm
from slas.models import Dispute
from slas.present.disputes import STATES, row_of, steps_of
from slas.selectors.disputes import disputes_in, files_of, get_dispute, get_file, may_on_part
from slas.selectors.incidents import get_incident
from slas.services.deciding import DECISIONS, decide_dispute
from slas.services.disputes import attach_file, file_dispute, may_file, withdraw_dispute
from slas.states import DisputeState
from slas.views.incidents import show_outage

PER_PAGE: Final = 50
DONE: Final = {
    "accepted": "The dispute is accepted: its time no longer counts against the provider.",
    "adjusted": "The dispute is adjusted: what was granted no longer counts against the provider.",
    "rejected": "The dispute is rejected; the provider reads why.",
}


@require_safe
def dispute_list(request: ScopedRequest) -> HttpResponse:
    """Disputes, newest first; the state lies in the URL."""
    state = request.GET.get("state", "open")
    state = state if state in (*DisputeState, "all") else "open"
    found = disputes_in(request.who)
    counts = {name: found.filter(state=name).count() for name in STATES}
    shown = found if state == "all" else found.filter(state=state)
    page = Paginator(shown, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [row_of(row) for row in page.object_list],
        "state": state,
        "tabs": [(name, label, counts[name]) for name, (_, label) in STATES.items()]
        + [("all", "All", sum(counts.values()))],
        "may_file": request.rights.may("dispute.file"),
        "query": request.GET.urlencode(),
    }
    return render(request, page="slas/disputes.html", fragment="slas/_disputes.html", context=context)


@require_safe
def dispute_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """A dispute with its trail and files, and what can be done about it. Raises NotFound."""
    return _page(request, get_dispute(scope=request.who, pk=pk))


@require_POST
def dispute_file(request: ScopedRequest, pk: int) -> HttpResponse:
    """File a claim on an outage, with a file if there is one: both or neither. Raises NotFound, NotAllowed."""
    incident = get_incident(scope=request.who, pk=pk)
    may_file(request.rights, request.who, incident)
    form = ClaimForm(request.POST, request.FILES)
    if form.is_valid():
        given = dict(form.cleaned_data)
        upload = given.pop("file")
        who: dict[str, Any] = {"actor": request.who, "rights": request.rights}
        try:
            with scope(request.who):
                made = file_dispute(**who, incident=incident, **given)
                if upload:
                    attach_file(**who, dispute=made, name=upload.name or "", body=upload.read())
        except (Conflict, Invalid) as error:
            _put(form, error)
        else:
            messages.success(request, "The dispute is filed: a manager decides on it, and you both see why.")
            return HttpResponseRedirect(reverse("sla_dispute", args=[made.pk]))
    return show_outage(request, incident, claim=form)


@require_POST
def dispute_attach(request: ScopedRequest, pk: int) -> HttpResponse:
    """Add a file to an open dispute. Raises NotFound, NotAllowed."""
    dispute = get_dispute(scope=request.who, pk=pk)
    if not may_on_part(request.rights, "dispute.file", dispute):
        raise NotAllowed("Evidence is added by the provider whose dispute it is.")
    form = FileForm(request.POST, request.FILES)
    if form.is_valid():
        upload = form.cleaned_data["file"]
        who: dict[str, Any] = {"actor": request.who, "rights": request.rights}
        try:
            made = attach_file(**who, dispute=dispute, name=upload.name or "", body=upload.read())
        except (Conflict, Invalid) as error:
            _put(form, error)
        else:
            messages.success(request, f"{made.name} is kept as evidence.")
            return HttpResponseRedirect(reverse("sla_dispute", args=[pk]))
    return _page(request, dispute, file=form)


@require_POST
def dispute_withdraw(request: ScopedRequest, pk: int) -> HttpResponse:
    """Take an open dispute back. Raises NotFound, NotAllowed."""
    dispute = get_dispute(scope=request.who, pk=pk)
    reason = " ".join(request.POST.get("reason", "").split())[:300]
    try:
        withdraw_dispute(actor=request.who, rights=request.rights, dispute=dispute, reason=reason)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "The dispute is withdrawn; its trail stays.")
    return HttpResponseRedirect(reverse("sla_dispute", args=[pk]))


@require_POST
@dangerous("dispute.decide")
def dispute_decide(request: ScopedRequest, pk: int) -> HttpResponse:
    """Accept, adjust or reject an open dispute. Raises NotFound, NotAllowed."""
    dispute = get_dispute(scope=request.who, pk=pk)
    if not may_on_part(request.rights, "dispute.decide", dispute):
        raise NotAllowed("A manager decides on disputes.")
    form = DecisionForm(request.POST)
    decision = request.POST.get("decision", "")
    if form.is_valid():
        given = form.cleaned_data
        if decision != DisputeState.ADJUSTED:
            given = {"reason": given["reason"]}
        who: dict[str, Any] = {"actor": request.who, "rights": request.rights}
        try:
            decide_dispute(**who, dispute=dispute, decision=decision, **given)
        except (Conflict, Invalid) as error:
            _put(form, error)
        else:
            messages.success(request, DONE[decision])
            return HttpResponseRedirect(reverse("sla_dispute", args=[pk]))
    return _page(request, dispute, decide=form)


@require_safe
def dispute_download(request: ScopedRequest, pk: int, number: int) -> HttpResponse:
    """A file of a dispute, to be saved and never shown: whatever is in it runs nowhere. Raises NotFound."""
    row = get_file(get_dispute(scope=request.who, pk=pk), number)
    response = HttpResponse(bytes(row.body), content_type="application/octet-stream")
    response["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(row.name)}"
    response["Cache-Control"] = "private, no-store"
    return response


# ------------------------------------------------------------------------------------------------------------
def _page(request: ScopedRequest, dispute: Dispute, **forms: Any) -> HttpResponse:
    is_open = dispute.state == DisputeState.OPEN
    is_own = request.who.user_id == dispute.filed_by_id
    may_decide = may_on_part(request.rights, "dispute.decide", dispute)
    initial = {"cause": dispute.cause, "begins": dispute.begins, "ends": dispute.ends}
    context = {
        "dispute": dispute,
        "row": row_of(dispute),
        "steps": steps_of(dispute.steps.all()),
        "files": list(files_of(dispute)),
        "granted": list(dispute.adjustments.all()),
        "is_open": is_open,
        "may_decide": is_open and may_decide and not is_own,
        "is_own": is_open and may_decide and is_own,
        "may_add": is_open and may_on_part(request.rights, "dispute.file", dispute),
        "decide_form": forms.get("decide") or DecisionForm(initial=initial),
        "file_form": forms.get("file") or FileForm(),
        "decisions": [str(one) for one in DECISIONS],
        "at": next(iter(forms), ""),
    }
    return django_render(request, "slas/dispute.html", context, status=422 if forms else 200)


def _put(form: Any, error: DomainError) -> None:
    """What is wrong, at its field where there is one."""
    named = {name: str(text) for name, text in error.details.items() if name in form.fields}
    for name, text in named.items():
        form.add_error(name, text)
    if not named:
        form.add_error(None, error.message)
