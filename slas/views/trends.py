"""Trends: each objective over the newest twelve months, of a contract, of a provider, or of all."""

from typing import Final

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from slas.present.trends import rows_of
from slas.selectors.trends import months_until, trends_in

MOST: Final = 24


@require_safe
def trends(request: ScopedRequest) -> HttpResponse:
    """The card of other pages, and a page by itself; `contract` and `provider` narrow it."""
    months = months_until(database_now())
    contract, provider = (request.GET.get(name, "")[:64].replace("\x00", "") for name in ("contract", "provider"))
    rows = rows_of(trends_in(request.who, months, contract=contract, provider=provider), months)
    context = {
        "rows": rows[:MOST],
        "more": max(0, len(rows) - MOST),
        "contract": contract,
        "provider": provider,
        "narrowed": request.who.narrowed,
    }
    return render(request, page="slas/trends.html", fragment="slas/_trends.html", context=context)
