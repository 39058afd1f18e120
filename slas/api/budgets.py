"""API operations on error budgets and their alerts."""

from typing import Any

from ninja import Router

from fleet.kit.api import page_of
from fleet.kit.clock import database_now
from fleet.kit.http import ScopedRequest
from slas.schemas import budgets as schemas
from slas.selectors.budgets import alerts_in, budgets_in, present

router = Router()


@router.get("/budgets", response=schemas.BudgetPage, summary="List error budgets")
def list_budgets(
    request: ScopedRequest,
    contract: str = "",
    site: str = "",
    whole: bool | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Of segments and sites in the present period, as last worked out; `whole` ones alone, or those of sites."""
    found = present(budgets_in(request.who), database_now())
    if contract:
        found = found.filter(contract__slug=contract)
    if site:
        found = found.filter(site__slug=site)
    if whole is not None:
        found = found.filter(site__isnull=whole)
    return page_of(found, key="id", limit=limit, cursor=cursor, out=schemas.budget_out)


@router.get("/burn-alerts", response=schemas.BurnAlertPage, summary="List burn alerts")
def list_burn_alerts(
    request: ScopedRequest, active: bool | None = None, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first; those that go on, or those that are over."""
    found = alerts_in(request.who)
    if active is not None:
        found = found.filter(ended_at__isnull=active)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.alert_out)
