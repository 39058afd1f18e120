"""What the API takes and gives about holds and the calendars of providers."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import AwareDatetime

from fleet.rollouts.models import Hold, ProviderCalendar

Name = Annotated[str, Field(min_length=1, max_length=120)]


class HoldIn(Schema):
    """A site, or else a region (of a provider, or whole), a provider, or, with none of these, all; slugs.

    `until` has its zone, and is at most 30 days away; `reason` has 3 to 300 characters.
    """

    site: Name | None = None
    provider: Name | None = None
    region: Annotated[str, Field(max_length=64)] = ""
    reason: Annotated[str, Field(max_length=300)]
    until: AwareDatetime


class OverrideIn(Schema):
    """Why standards of security severity do not wait for it, in 3 to 300 characters."""

    reason: Annotated[str, Field(max_length=300)]


class HoldOut(Schema):
    """A hold. `active`: neither lifted nor over. `overridden_by` counts people who agreed to override it."""

    id: int
    site: str | None
    provider: str | None
    region: str
    reason: str
    until: datetime
    active: bool
    made_by: str
    made_at: datetime
    lifted_by: str
    lifted_at: datetime | None
    overridden_by: int


class HoldPage(Schema):
    """A page of holds, newest first; `next` is the cursor of the next one, or null."""

    items: list[HoldOut]
    next: str | None


class WeeklyOut(Schema):
    """Open on these days (0 is Monday) from `begin` to `end` on the site's clock; past midnight if `end` is earlier."""

    days: list[int]
    begin: str
    end: str


class FreezeOut(Schema):
    """Closed from `begin` to `end` on the site's clock; for ever where `end` is null."""

    begin: str
    end: str | None
    reason: str


class CalendarOut(Schema):
    """When a provider's sites may be changed; without windows always, but for the freezes."""

    windows: list[WeeklyOut]
    freezes: list[FreezeOut]
    changed_by: str
    changed_at: datetime | None


def hold_out(row: Hold, now: datetime) -> dict[str, Any]:
    """HoldOut of a row."""
    names = ("id", "region", "reason", "until", "made_by", "made_at", "lifted_by", "lifted_at")
    return {
        **{name: getattr(row, name) for name in names},
        "site": row.site.slug if row.site else None,
        "provider": row.provider.slug if row.provider else None,
        "active": row.lifted_at is None and row.until > now,
        "overridden_by": len(row.overridden_by),
    }


def calendar_out(row: ProviderCalendar | None, *, wide: bool) -> dict[str, Any]:
    """CalendarOut of a row, or of none; who changed it is for those who see several providers."""
    if row is None:
        return {"windows": [], "freezes": [], "changed_by": "", "changed_at": None}
    return {
        "windows": row.calendar.get("windows", []),
        "freezes": row.calendar.get("freezes", []),
        "changed_by": row.changed_by if wide else "",
        "changed_at": row.changed_at,
    }
