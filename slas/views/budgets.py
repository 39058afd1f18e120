"""Error budgets where people see them: of a contract, of a site, and what of them belongs into the overview."""

from collections.abc import Mapping
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_safe

from fleet.kit.clock import database_now
from fleet.kit.htmx import render
from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import Scope
from sites.selectors.access import get_site
from slas.models import Budget
from slas.present.budgets import Burn, Line, burns_of, lines_of
from slas.present.report_lines import row_of
from slas.selectors.budgets import at_risk, budgets_in, open_alerts, present, spreads_of, worst_of
from slas.selectors.contracts import contracts_in, get_contract
from slas.selectors.site_versions import versions_of_site


@require_safe
def contract_budget(request: ScopedRequest, slug: str) -> HttpResponse:
    """The budgets of a contract: the card of its page, and a page by itself. Raises NotFound."""
    contract = get_contract(scope=request.who, slug=slug)
    context = {
        "lines": contract_lines(request.who, contract=contract.pk),
        "title": contract.name,
        "back": reverse("sla_contract", args=[slug]),
        "here": reverse("sla_contract_budget", args=[slug]),
        "live": "attention:0",
    }
    return render(request, page="slas/budget.html", fragment="slas/_budget.html", context=context)


@require_safe
def site_budget(request: ScopedRequest, slug: str) -> HttpResponse:
    """The budgets of a site, and its versions this month: the card of its page, and a page by itself.

    Raises NotFound.
    """
    site = get_site(scope=request.who, slug=slug)
    found = present(budgets_in(request.who), database_now()).filter(site=site)
    alerts = open_alerts(request.who).filter(contract__in=found.order_by().values("contract"))
    context = {
        "lines": lines_of(found, alerts, {}, {}),
        "site_versions": [
            {**row_of(one), "contract": contract}
            for contract, one in versions_of_site(request.who, site, database_now())
        ],
        "site": site,
        "title": site.name,
        "back": site.get_absolute_url(),
        "here": reverse("sla_site_budget", args=[slug]),
        "live": f"site:{site.pk} attention:0",
        "narrowed": request.who.narrowed,
    }
    return render(request, page="slas/budget.html", fragment="slas/_budget.html", context=context)


def contract_lines(who: Scope, **which: Any) -> list[Line]:
    """Budgets of whole segments, with their worst sites and what burns; `which` narrows contracts or providers."""
    found: QuerySet[Budget] = present(budgets_in(who), database_now()).filter(**which)
    alerts = open_alerts(who).filter(**which)
    return lines_of(found.filter(site=None), alerts, spreads_of(found), worst_of(found))


def lines_by_provider(who: Scope) -> Mapping[int, list[Line]]:
    """Those of all providers, for their scorecards; without the worst sites."""
    found = present(budgets_in(who), database_now())
    lines: dict[int, list[Line]] = {}
    for line in lines_of(found.filter(site=None), open_alerts(who), spreads_of(found), {}):
        lines.setdefault(line.budget.provider_id, []).append(line)
    return lines


# For the overview -------------------------------------------------------------------------------------------
@require_safe
def risk_figure(request: ScopedRequest) -> HttpResponse:
    """How many promises are at risk, in the overview's strip."""
    return django_render(request, "slas/_figure.html", {"risk": risk_of(request.who)})


def risk_of(who: Scope) -> dict[str, Any]:
    """How many promises are at risk, and where to read on: the budgets of the one contract, or all scorecards."""
    found = at_risk(who, database_now())
    contracts = {contract for contract, *_ in found}
    href = reverse("sla_scorecards")
    if len(contracts) == 1:
        slug = contracts_in(who).values_list("slug", flat=True).get(pk=contracts.pop())
        href = f"{reverse('sla_contract', args=[slug])}#budget"
    return {"count": len(found), "href": href}


def burn_rows(who: Scope, *, limit: int) -> list[dict[str, Any]]:
    """Rows of the attention list, the fastest first: one for each contract and provider with all that burns there."""
    together: dict[tuple[int, int], list[Burn]] = {}
    for burn in burns_of(open_alerts(who)):
        together.setdefault((burn.alert.contract_id, burn.alert.provider_id), []).append(burn)
    return [_row(burns) for burns in list(together.values())[:limit]]


def _row(burns: list[Burn]) -> dict[str, Any]:
    first = burns[0].alert
    sites = list(dict.fromkeys(burn.alert.site for burn in burns if burn.alert.site is not None))
    who = sites[0].name if len(sites) == 1 else f"{len(sites)} sites" if sites else "all sites together"
    words = ", ".join(dict.fromkeys(burn.label for burn in burns)).lower()
    return {
        "matter": "burning",
        "contract": first.contract,
        "provider": first.provider,
        "since": min(burn.since for burn in burns),
        "why": f"{burns[0].rate} times as fast as allowed: {words} of {who}",
    }
