"""Webhooks: the list, one with its messages, the form, its secret, tests, and sending a message again.

For administrators of the whole fleet alone.
"""

import json
from datetime import timedelta
from urllib.parse import urlsplit

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.rollouts.forms_webhooks import WebhookForm, choices_of, webhook_initial
from fleet.rollouts.hooks import spelled
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.models_webhooks import DeliveryState
from fleet.rollouts.selectors.webhooks import (
    allow_webhooks,
    deliveries_of,
    endpoints_in,
    get_delivery,
    get_endpoint,
    secrets_of,
)
from fleet.rollouts.services import webhooks as services
from sites.forms import add_errors

PER_PAGE = 25
SOON = timedelta(seconds=10)
LOOKS = {DeliveryState.WAITING: "degraded", DeliveryState.DELIVERED: "up", DeliveryState.GIVEN_UP: "down"}


@require_safe
def webhook_list(request: ScopedRequest) -> HttpResponse:
    """All webhooks and how they are. Raises NotAllowed."""
    allow_webhooks(request.rights)
    rows = [{"webhook": row, "host": urlsplit(row.url).hostname, **_standing(row)} for row in endpoints_in(request.who)]
    return render(request, page="webhooks/list.html", fragment="webhooks/_list.html", context={"rows": rows})


def _standing(row: WebhookEndpoint) -> dict[str, str]:
    """How it is, in a word, and the look of that."""
    if not row.is_active:
        return {"word": "Off", "look": "unknown"}
    return {"word": "Failing", "look": "degraded"} if row.failing_since else {"word": "On", "look": "up"}


@require_safe
def webhook_detail(request: ScopedRequest, pk: int) -> HttpResponse:
    """One webhook with its messages, newest first. Raises NotFound, NotAllowed."""
    row = _get(request, pk)
    state = request.GET.get("state", "")
    state = state if state in DeliveryState.values else ""
    page = Paginator(deliveries_of(row, state), PER_PAGE).get_page(request.GET.get("page"))
    now = database_now()
    context = {
        "webhook": row,
        **_standing(row),
        "page": page,
        "rows": [{"message": one, **_look(one)} for one in page.object_list],
        "state": state,
        "states": [("", "All"), *DeliveryState.choices],
        # A page that is fetched while a message is sent may miss the hint that it has arrived.
        "is_sending": any(one.next_at is not None and one.next_at <= now + SOON for one in page.object_list),
        "old_until": row.old_until if len(secrets_of(row, now)) > 1 else None,
    }
    return render(request, page="webhooks/detail.html", fragment="webhooks/_detail.html", context=context)


def _look(message: WebhookDelivery) -> dict[str, str]:
    answer = str(message.status) if message.status is not None else ""
    return {"look": LOOKS[DeliveryState(message.state)], "answer": answer or ("no answer" if message.tried_at else "—")}


@require_safe
def webhook_message(request: ScopedRequest, pk: int, delivery: int) -> HttpResponse:
    """One message: its body, and the last answer. Raises NotFound, NotAllowed."""
    row = _get(request, pk)
    message = get_delivery(row, delivery)
    body = json.dumps(json.loads(message.body), indent=2, ensure_ascii=False)
    context = {"webhook": row, "message": message, **_look(message), "body": body}
    return django_render(request, "webhooks/message.html", context)


# Changes ----------------------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@dangerous("webhook.create")
def webhook_create(request: ScopedRequest) -> HttpResponse:
    """Make a webhook, and show its secret: this answer is the only one that holds it. Raises NotAllowed, Conflict."""
    allow_webhooks(request.rights)
    form = WebhookForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.save_endpoint(actor=request.who, rights=request.rights, values=form.cleaned_data)
        except Invalid as error:
            add_errors(form, error)
        else:
            return _secret(request, made, is_new=True)
    return _form(request, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
@dangerous("webhook.change")
def webhook_edit(request: ScopedRequest, pk: int) -> HttpResponse:
    """Change a webhook. Raises NotFound, NotAllowed."""
    row = _get(request, pk)
    form = WebhookForm(request.POST if request.method == "POST" else None, initial=webhook_initial(row))
    if request.method == "POST" and form.is_valid():
        try:
            services.save_endpoint(actor=request.who, rights=request.rights, values=form.cleaned_data, endpoint=row)
        except Invalid as error:
            add_errors(form, error)
        else:
            return _done(request, pk, "It is saved.")
    return _form(request, form, row)


def _form(request: ScopedRequest, form: WebhookForm, row: WebhookEndpoint | None) -> HttpResponse:
    context = {"form": form, "webhook": row, "groups": choices_of(form)}
    return django_render(request, "webhooks/form.html", context, status=422 if form.errors else 200)


def _secret(request: ScopedRequest, row: WebhookEndpoint, *, is_new: bool) -> HttpResponse:
    context = {"webhook": row, "secret": spelled(secrets_of(row, database_now())[0]), "is_new": is_new}
    return django_render(request, "webhooks/secret.html", context)


@require_POST
@never_cache
@dangerous("webhook.rotate")
def webhook_rotate(request: ScopedRequest, pk: int) -> HttpResponse:
    """Give it a new secret, and show it: this answer is the only one that holds it. Raises NotFound, NotAllowed."""
    row = services.rotate_secret(actor=request.who, rights=request.rights, endpoint=_get(request, pk))
    return _secret(request, row, is_new=False)


@require_POST
@dangerous("webhook.change")
def webhook_switch(request: ScopedRequest, pk: int) -> HttpResponse:
    """Switch it on or off. Raises NotFound, NotAllowed."""
    on = request.POST.get("on") == "1"
    services.switch_endpoint(actor=request.who, rights=request.rights, endpoint=_get(request, pk), on=on)
    return _done(request, pk, "It is on, and hears of what happens from now on." if on else "It is off.")


@require_POST
def webhook_delete(request: ScopedRequest, pk: int) -> HttpResponse:
    """Remove it, with its messages. Raises NotFound, NotAllowed."""
    row = _get(request, pk)
    services.delete_endpoint(actor=request.who, rights=request.rights, endpoint=row)
    messages.success(request, f"{row.name} is gone.")
    return HttpResponseRedirect(reverse("webhook_list"))


@require_POST
def webhook_test(request: ScopedRequest, pk: int) -> HttpResponse:
    """Have a test sent. Raises NotFound, NotAllowed."""
    row = _get(request, pk)
    try:
        services.send_test(actor=request.who, rights=request.rights, endpoint=row)
    except Conflict as error:
        return _refused(request, pk, error)
    return _done(request, pk, "A test is on its way; below is how it goes.")


@require_POST
def webhook_redeliver(request: ScopedRequest, pk: int, delivery: int) -> HttpResponse:
    """Send a message again. Raises NotFound, NotAllowed."""
    message = get_delivery(_get(request, pk), delivery)
    try:
        services.redeliver(actor=request.who, rights=request.rights, message=message)
    except Conflict as error:
        return _refused(request, pk, error)
    return _done(request, pk, "It is on its way again.")


# ------------------------------------------------------------------------------------------------------------
def _get(request: ScopedRequest, pk: int) -> WebhookEndpoint:
    return get_endpoint(scope=request.who, rights=request.rights, pk=pk)


def _done(request: ScopedRequest, pk: int, text: str) -> HttpResponse:
    messages.success(request, text)
    return HttpResponseRedirect(reverse("webhook_detail", args=[pk]))


def _refused(request: ScopedRequest, pk: int, error: Conflict) -> HttpResponse:
    messages.error(request, error.message)
    return HttpResponseRedirect(reverse("webhook_detail", args=[pk]))
