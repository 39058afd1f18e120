"""What the API takes and gives about maintenance."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Field, Schema
from pydantic import AwareDatetime

from slas.models import Window

Name = Annotated[str, Field(min_length=1, max_length=64)]


class WindowIn(Schema):
    """Maintenance at sites of one provider, by slug; moments have their zone, and lie ahead."""

    sites: Annotated[list[Name], Field(min_length=1, max_length=5000)]
    title: Annotated[str, Field(max_length=120)]
    note: Annotated[str, Field(max_length=2000)] = ""
    begins: AwareDatetime
    ends: AwareDatetime


class DecideIn(Schema):
    """Why: wanted to refuse, and to approve what has begun or was asked for at short notice."""

    reason: Annotated[str, Field(max_length=300)] = ""


class CancelIn(Schema):
    """Why, in 3 to 300 characters."""

    reason: Annotated[str, Field(max_length=300)]


class EffectOut(Schema):
    """What it means for a contract: hours of notice, and milliseconds of the cap at the site with the least left."""

    contract: str
    sites: int
    counts: str
    notice_h: float
    given_h: float
    cap_h: float | None
    cap_per: str
    used_ms: int
    excess_ms: int


class WindowOut(Schema):
    """A window. `side` is who asked; `state` is requested, approved, refused or cancelled."""

    id: int
    provider: str
    title: str
    note: str
    begins: datetime
    ends: datetime
    state: str
    side: str
    requested_by: str
    requested_at: datetime
    decided_by: str
    decided_at: datetime | None
    decided_reason: str
    cancelled_by: str
    cancelled_at: datetime | None
    cancelled_reason: str


class WindowDetailOut(WindowOut):
    """A window with its sites, as far as the viewer may see them, and what it means for each contract."""

    sites: list[str]
    effects: list[EffectOut]


class WindowPage(Schema):
    """A page of windows, newest first; `next` is the cursor of the next one, or null."""

    items: list[WindowOut]
    next: str | None


def window_out(row: Window) -> dict[str, Any]:
    """A window as WindowOut has it."""
    same = ("id", "title", "note", "begins", "ends", "state", "side", "requested_at", "decided_at", "decided_reason")
    return {
        **{name: getattr(row, name) for name in (*same, "cancelled_by", "cancelled_at", "cancelled_reason")},
        "provider": row.provider.slug,
        "requested_by": row.requested_name,
        "decided_by": row.decided_name,
    }
