"""Scorecards: how each provider keeps what it promised, the worst first; and some of them side by side."""

import re
from typing import Any, Final

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from sites.selectors.access import providers_in
from slas.exports.words import month_words
from slas.periods import month_of, month_text
from slas.present.scorecards import cards_of
from slas.selectors.contracts import contracts_in
from slas.selectors.scorecards import cards_in, months_in, open_outages, windows_ahead
from slas.views.budgets import lines_by_provider

MOST: Final = 6
_MONTH: Final = re.compile(r"2[01]\d{2}-(0[1-9]|1[0-2])")


@require_safe
def scorecards(request: ScopedRequest) -> HttpResponse:
    """Each provider's month beside its last; with two or more `provider`s, those side by side."""
    now = database_now()
    this = month_text(month_of(now, "UTC"))
    months = months_in(request.who)
    month = request.GET.get("month", "")
    if not _MONTH.fullmatch(month):
        month = this if this in months or not months else months[0]
    number = int(month[:4]) * 12 + int(month[5:]) - 1
    cards = cards_of(
        cards_in(request.who, [month, month_text(number - 1)]),
        month,
        providers=providers_in(request.who),
        outages=open_outages(request.who),
        windows=windows_ahead(request.who, now),
        budgets=lines_by_provider(request.who) if month == this else None,
    )
    picked = request.GET.getlist("provider")[:MOST]
    beside = [card for card in cards if card.provider.slug in picked]
    context: dict[str, Any] = {
        "cards": cards,
        "month": month,
        "month_words": month_words(month),
        "before_words": month_words(month_text(number - 1)),
        "months": [(one, month_words(one)) for one in dict.fromkeys([*months, month])],
        "as_of": min((card.as_of for card in cards if card.as_of), default=None),
        "goes_on": month == this,
        "has_contracts": contracts_in(request.who).exists(),
        "narrowed": request.who.narrowed,
        "beside": beside if len(picked) > 1 else [],
        "measures": _measures(beside),
        "may_change": request.rights.may("contract.change"),
    }
    return render(request, page="slas/scorecards.html", fragment="slas/_scorecards.html", context=context)


def _measures(cards: list[Any]) -> list[dict[str, Any]]:
    """Rows of the comparison: each objective that any of them has, with each card's line or None."""
    labels = dict.fromkeys(line.label for card in cards for line in card.lines)
    return [
        {"label": label, "lines": [next((one for one in card.lines if one.label == label), None) for card in cards]}
        for label in labels
    ]
