"""What the API gives about error budgets and their alerts."""

from datetime import datetime
from typing import Any

from ninja import Schema

from slas.models import Budget, BurnAlert


class BudgetOut(Schema):
    """What the present period allows, and what of it is spent, in milliseconds; what is left is signed. `site` null: of
    all sites of the segment together."""

    id: int
    contract: str
    provider: str
    site: str | None
    measure: str
    scope: str
    begins: datetime
    ends: datetime
    allowed_ms: int
    spent_ms: int
    left_ms: int
    as_of: datetime


class BudgetPage(Schema):
    """A page of budgets; `next` is the cursor of the next one, or null."""

    items: list[BudgetOut]
    next: str | None


class BurnAlertOut(Schema):
    """A budget went too fast: burn rates over both windows when it began, and the threshold that they reached."""

    id: int
    contract: str
    provider: str
    site: str | None
    measure: str
    short_ms: int
    long_ms: int
    threshold: float
    rate_short: float
    rate_long: float
    began_at: datetime
    ended_at: datetime | None


class BurnAlertPage(Schema):
    """A page of alerts, newest first; `next` is the cursor of the next one, or null."""

    items: list[BurnAlertOut]
    next: str | None


def budget_out(row: Budget) -> dict[str, Any]:
    """A budget as the API gives it."""
    names = ("id", "measure", "begins", "ends", "allowed_ms", "spent_ms", "left_ms", "as_of")
    return _whose(row) | {"scope": row.reach} | {name: getattr(row, name) for name in names}


def alert_out(row: BurnAlert) -> dict[str, Any]:
    """An alert as the API gives it."""
    names = ("id", "measure", "short_ms", "long_ms", "threshold", "rate_short", "rate_long", "began_at", "ended_at")
    return _whose(row) | {name: getattr(row, name) for name in names}


def _whose(row: Budget | BurnAlert) -> dict[str, Any]:
    site = row.site.slug if row.site is not None else None
    return {"contract": row.contract.slug, "provider": row.provider.slug, "site": site}
