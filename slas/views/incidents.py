"""Outages: the list, one of them with what proves it, and what people do about it."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.selectors.access import get_site, providers_in
from slas.forms.incidents import CauseForm, ClaimForm, TextForm
from slas.models import Incident
from slas.periods import PeriodError, period_of
from slas.present.incidents import CAUSES, CHARGED_TO, KINDS, cause_words, charged_words, csv_lines, row_of, timeline_of
from slas.selectors.disputes import disputes_of, granted_of
from slas.selectors.incidents import Outage, get_incident, outage_of, response_s
from slas.selectors.outages import Asked, outages_in, outages_of_site
from slas.selectors.proofs import evidence_of
from slas.services.disputes import FILE
from slas.services.incidents import (
    ACKNOWLEDGE,
    COMMENT,
    CORRECT,
    acknowledge_incident,
    comment_incident,
    correct_cause,
    may_as,
)

PER_PAGE: Final = 50
SPANS: Final = {"24h": ("Last 24 h", 1), "7d": ("Last 7 d", 7), "30d": ("Last 30 d", 30)}
STATES: Final = {"open": "Lasting", "over": "Over"}
SITE_DAYS: Final = 30
SITE_SHOWN: Final = 20
_MONTH: Final = re.compile(r"\d{4}(-\d{2}|-Q[1-4])?")


# The list ---------------------------------------------------------------------------------------------------
@require_safe
def outage_list(request: ScopedRequest) -> HttpResponse:
    """Outages that pass the filters, newest first; every choice lies in the URL."""
    now = database_now()
    asked = asked_of(request, now)
    page = Paginator(outages_in(request.who, asked), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [row_of(part, now) for part in page.object_list],
        "asked": asked,
        "period": request.GET.get("period", ""),
        "filtered": any(request.GET.get(name) for name in FILTERS),
        "choices": _choices(request),
        "query": request.GET.urlencode(),
    }
    return render(request, page="slas/outages.html", fragment="slas/_outages.html", context=context)


@require_safe
def outage_export(request: ScopedRequest) -> HttpResponse:
    """All outages that pass the filters, newest first, as CSV."""
    now = database_now()
    response = HttpResponse("\ufeff" + "".join(csv_lines(outages_in(request.who, asked_of(request, now)), now)))
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Content-Disposition"] = 'attachment; filename="outages.csv"'
    return response


@require_safe
def site_outages(request: ScopedRequest, slug: str) -> HttpResponse:
    """A site's outages of the last 30 days: the card of its page, and a page by itself. Raises NotFound."""
    site = get_site(scope=request.who, slug=slug)
    now = database_now()
    found = outages_of_site(request.who, site, since=now - timedelta(days=SITE_DAYS), limit=SITE_SHOWN)
    context = {"site": site, "rows": [row_of(part, now) for part in found], "days": SITE_DAYS}
    return render(request, page="slas/site_outages.html", fragment="slas/_site_outages.html", context=context)


FILTERS: Final = ("state", "kind", "provider", "cause", "charged", "site", "unowned", "period")


def asked_of(request: ScopedRequest, now: datetime) -> Asked:
    """The filters in the URL; what is none of the choices lets everything through."""
    given = {name: request.GET.get(name, "").strip()[:120] for name in FILTERS}
    known: dict[str, Iterable[str]] = {"state": STATES, "kind": KINDS, "cause": CAUSES, "charged": CHARGED_TO}
    for name, choices in known.items():
        given[name] = given[name] if given[name] in set(choices) else ""
    begin, end = _period(given.pop("period"), now)
    unowned = bool(given.pop("unowned"))
    return Asked(**given, unowned=unowned, begin=begin, end=end)


def _period(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    if text in SPANS:
        return now - timedelta(days=SPANS[text][1]), None
    try:
        return period_of(text, "UTC")
    except PeriodError:
        return None, None


def _choices(request: ScopedRequest) -> list[dict[str, Any]]:
    """What the selects of the filter hold."""
    period = request.GET.get("period", "")
    periods = [(name, label) for name, (label, _) in SPANS.items()]
    if period and period not in SPANS and _MONTH.fullmatch(period):
        periods.append((period, period))
    known = (
        ("state", "Lasting or over", list(STATES.items())),
        ("kind", "Any kind", list(KINDS.items())),
        ("provider", "All providers", list(providers_in(request.who).values_list("slug", "name"))),
        ("cause", "Any cause", list(CAUSES.items())),
        ("charged", "Charged to anybody", list(CHARGED_TO.items())),
        ("period", "Any time", periods),
    )
    return [
        {"name": name, "chosen": request.GET.get(name, ""), "choices": [("", every), *choices]}
        for name, every, choices in known
    ]


# One outage -------------------------------------------------------------------------------------------------
@require_safe
def outage_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """An outage with everything that proves it, and what can be done. Raises NotFound."""
    return show_outage(request, get_incident(scope=request.who, pk=pk))


@require_POST
def outage_take(request: ScopedRequest, pk: int) -> HttpResponse:
    """Take an outage that lasts. Raises NotFound, NotAllowed."""
    incident = get_incident(scope=request.who, pk=pk)
    form = TextForm(request.POST)
    text = form.cleaned_data["text"] if form.is_valid() else ""
    try:
        acknowledge_incident(actor=request.who, rights=request.rights, incident=incident, text=text)
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "It is yours from now on; the other side sees that.")
    return HttpResponseRedirect(reverse("sla_outage", args=[pk]))


@require_POST
def outage_comment(request: ScopedRequest, pk: int) -> HttpResponse:
    """Say something about an outage. Raises NotFound, NotAllowed."""
    incident = get_incident(scope=request.who, pk=pk)
    form = TextForm(request.POST)
    if form.is_valid():
        try:
            text = form.cleaned_data["text"]
            comment_incident(actor=request.who, rights=request.rights, incident=incident, text=text)
        except Invalid as error:
            form.add_error("text", error.message)
        else:
            return HttpResponseRedirect(reverse("sla_outage", args=[pk]) + "#talk")
    return show_outage(request, incident, comment=form)


@require_POST
@dangerous("incident.correct")
def outage_correct(request: ScopedRequest, pk: int) -> HttpResponse:
    """Say why an outage was. Raises NotFound, NotAllowed."""
    incident = get_incident(scope=request.who, pk=pk)
    form = CauseForm(request.POST)
    if form.is_valid():
        try:
            correct_cause(actor=request.who, rights=request.rights, incident=incident, **form.cleaned_data)
        except (Conflict, Invalid) as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, "The cause is corrected; what was found before stays readable.")
            return HttpResponseRedirect(reverse("sla_outage", args=[pk]))
    else:
        correct_cause_allowed(request, incident)
    return show_outage(request, incident, correct=form)


def correct_cause_allowed(request: ScopedRequest, incident: Incident) -> None:
    """Raises NotAllowed for who may not correct it, before anything is said about what was typed."""
    may_as(request.rights, CORRECT, outage_of(request.who, incident).parts, strict=True)


def show_outage(request: ScopedRequest, incident: Incident, **forms: Any) -> HttpResponse:
    """The page of an outage, with forms as they were typed."""
    now = database_now()
    found = outage_of(request.who, incident)
    evidence = evidence_of(request.who, incident)
    disputes, granted = list(disputes_of([incident.pk])), list(granted_of(incident.pk))
    may = {
        "take": found.is_open and may_as(request.rights, ACKNOWLEDGE, found.parts[-1:]),
        "comment": may_as(request.rights, COMMENT, found.parts[-1:]),
        "correct": may_as(request.rights, CORRECT, found.parts),
        "file": any(may_as(request.rights, FILE, [part]) for part in found.parts)
        and not any(row.state == "open" for row in disputes),
    }
    last = found.parts[-1]
    why = found.why[last.provider_id]
    context = {
        "incident": incident,
        "site": evidence.site,
        "title": evidence.site.name if evidence.site else f"Site {incident.site_id}",
        "kind": incident.kind,
        "is_open": found.is_open,
        "begin": found.parts[0].valid_from,
        "end": None if found.is_open else last.valid_to,
        "lasted_s": ((now if found.is_open else last.valid_to or now) - found.parts[0].valid_from).total_seconds(),
        "owner": found.owner,
        "parts": _parts(found, now),
        "cause": cause_words(why.cause),
        "charged": charged_words(why.charged_to),
        "why": why,
        "notes": found.notes,
        "disputes": disputes,
        "lines": timeline_of(evidence, found.findings, found.notes, disputes, granted),
        "is_cut": evidence.is_cut,
        "may": may,
        "comment_form": forms.get("comment") or TextForm(),
        "correct_form": forms.get("correct") or CauseForm(initial={"cause": why.cause}),
        "claim_form": forms.get("claim") or ClaimForm(),
        "at": next(iter(forms), ""),
    }
    return django_render(request, "slas/outage.html", context, status=422 if forms else 200)


def _parts(found: Outage, now: datetime) -> list[dict[str, Any]]:
    rows = []
    for part in found.parts:
        why = found.why[part.provider_id]
        rows.append(
            {
                "part": part,
                "lasted_s": part.lasted_s(now),
                "cause": cause_words(why.cause),
                "charged": charged_words(why.charged_to),
                "why": why,
                "response_s": response_s(part),
            }
        )
    return rows
