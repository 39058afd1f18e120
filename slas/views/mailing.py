"""Reports by e-mail: the schedules, one with its log, and what is done to them."""

from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.models import Provider
from slas.forms.mailing import faults_of, groups_of, recipients_of
from slas.mails import EachPeriod
from slas.models import MailSchedule
from slas.present.mailing import EACH, LIVES, mail_row, row_of, title_of
from slas.selectors.contracts import contracts_in
from slas.selectors.mailing import get_schedule, mails_of, readers, schedules_in, segments_under
from slas.services import mailing

PER_PAGE: Final = 25


@require_safe
def schedule_list(request: ScopedRequest) -> HttpResponse:
    """All schedules that the viewer may see; of a contract where one is named. Raises NotAllowed."""
    return _list(request)


def _list(request: ScopedRequest) -> HttpResponse:
    contract = request.GET.get("contract", "")[:64]
    found = schedules_in(request.who, request.rights)
    if contract:
        found = found.filter(contract__slug=contract)
    context = {
        "rows": [row_of(one) for one in found],
        "contract": contract,
        "contracts": contracts_in(request.who),
        "providers": _providers(MailSchedule()),
        "may_change": request.rights.may(mailing.SCHEDULE),
        "narrowed": request.who.narrowed,
        **_where(request),
    }
    return render(request, page="slas/schedules.html", fragment="slas/_schedules.html", context=context)


@require_http_methods(["GET", "HEAD", "POST"])
def schedule_new(request: ScopedRequest) -> HttpResponse:
    """Make a schedule for the contract and the provider that the address names. Raises NotAllowed."""
    _allow(request)
    given = request.POST if request.method == "POST" else request.GET
    draft = MailSchedule(
        contract=contracts_in(request.who).filter(slug=given.get("contract", "")[:64]).first(),
        provider=Provider.objects.filter(slug=given.get("provider", "")[:64]).first(),
        each=EachPeriod.MONTH,
        lives=["final", "restated"],
    )
    if draft.contract is None and draft.provider is None:
        return _list(request)
    return _form(request, draft, None)


@require_safe
def schedule_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """One schedule with its log, newest first. Raises NotFound, NotAllowed."""
    row = get_schedule(scope=request.who, rights=request.rights, pk=pk)
    page = Paginator(mails_of(row), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        **row_of(row),
        "page": page,
        "mails": [mail_row(one) for one in page.object_list],
        "may_change": request.rights.may(mailing.SCHEDULE),
        **_where(request),
    }
    return render(request, page="slas/schedule.html", fragment="slas/_schedule.html", context=context)


@require_http_methods(["GET", "HEAD", "POST"])
def schedule_edit(request: ScopedRequest, pk: int) -> HttpResponse:
    """Change when and whom it mails. Raises NotFound, NotAllowed."""
    row = get_schedule(scope=request.who, rights=request.rights, pk=pk)
    _allow(request)
    return _form(request, row, row)


@require_POST
def schedule_switch(request: ScopedRequest, pk: int) -> HttpResponse:
    """Pause it, or let it go on. Raises NotFound, NotAllowed."""
    row = get_schedule(scope=request.who, rights=request.rights, pk=pk)
    on = request.POST.get("on") == "1"
    mailing.switch_schedule(actor=request.who, rights=request.rights, schedule=row, on=on)
    return _done(request, pk, "It goes on; the next revision is mailed." if on else "It is paused.")


@require_POST
def schedule_again(request: ScopedRequest, pk: int) -> HttpResponse:
    """Have the newest revision mailed once more. Raises NotFound, NotAllowed."""
    row = get_schedule(scope=request.who, rights=request.rights, pk=pk)
    try:
        count = mailing.send_again(actor=request.who, rights=request.rights, schedule=row)
    except Conflict as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(reverse("sla_report_schedule", args=[pk]))
    return _done(request, pk, f"{count} {'mail is' if count == 1 else 'mails are'} on the way; below is how it goes.")


@require_POST
def schedule_delete(request: ScopedRequest, pk: int) -> HttpResponse:
    """Nothing is mailed by it any more. Raises NotFound, NotAllowed."""
    row = get_schedule(scope=request.who, rights=request.rights, pk=pk)
    mailing.delete_schedule(actor=request.who, rights=request.rights, schedule=row)
    messages.success(request, "It is deleted.")
    return HttpResponseRedirect(reverse("sla_report_schedules"))


# ------------------------------------------------------------------------------------------------------------
def _allow(request: ScopedRequest) -> None:
    if not request.rights.may(mailing.SCHEDULE):
        raise NotAllowed("Your role does not include having reports mailed.")


def _form(request: ScopedRequest, draft: MailSchedule, row: MailSchedule | None) -> HttpResponse:
    typed = request.POST if request.method == "POST" else None
    groups = groups_of(readers(), _providers(draft), row, typed)
    each, lives = (draft.each, draft.lives) if typed is None else (typed.get("each", ""), typed.getlist("lives"))
    faults: list[str] = []
    if typed is not None:
        recipients = recipients_of(groups)
        values = {
            "contract": draft.contract.slug if draft.contract else "",
            "provider": draft.provider.slug if draft.provider else "",
            "each": each,
            "lives": lives,
            "paused": row is not None and not row.is_active,
            "recipients": recipients,
        }
        try:
            saved = mailing.save_schedule(actor=request.who, rights=request.rights, values=values, schedule=row)
        except Invalid as error:
            faults = faults_of(error, recipients)
        except Conflict as error:
            faults = [error.message]
        else:
            return _done(request, saved.pk, "It is saved; the next revision is mailed.")
    context: dict[str, Any] = {
        "row": row,
        "draft": draft,
        "title": title_of(draft),
        "groups": groups,
        "each": [(str(key), words, key == each) for key, words in EACH.items()],
        "lives": [(key, words, key in lives) for key, words in LIVES.items()],
        "faults": faults,
        **_where(request),
    }
    return django_render(request, "slas/schedule_form.html", context, status=422 if faults else 200)


def _providers(draft: MailSchedule) -> list[Provider]:
    """Those whose parts it may mail."""
    return list(Provider.objects.filter(pk__in=segments_under(draft).values("provider")).order_by("name"))


def _where(request: ScopedRequest) -> dict[str, Any]:
    """Where mails go while no server is named: said to those who run it alone."""
    into = settings.EMAIL_FILE_PATH if not settings.EMAIL_HOST and request.rights.may(mailing.SCHEDULE) else ""
    return {"mail_files": into}


def _done(request: ScopedRequest, pk: int, text: str) -> HttpResponse:
    messages.success(request, text)
    return HttpResponseRedirect(reverse("sla_report_schedule", args=[pk]))
