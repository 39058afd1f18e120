"""What the API takes and gives about schedules of mails."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema

from slas.models import MailDelivery, MailSchedule

Slug = Annotated[str, Field(min_length=1, max_length=64)]
Life = Literal["provisional", "final", "restated"]


class RecipientIn(Schema):
    """A person by name in `user`, with an address where another is kept, or none; or an address outside, which belongs
    to a provider. With `provider` it is that provider's part alone that is mailed."""

    user: Annotated[str, Field(max_length=150)] = ""
    provider: Annotated[str, Field(max_length=64)] = ""
    name: Annotated[str, Field(max_length=150)] = ""
    address: Annotated[str, Field(max_length=254)] = ""


class ScheduleIn(Schema):
    """What is mailed when to whom: reports of a contract, of all contracts of a provider, or both: that part of it."""

    contract: Slug | None = None
    provider: Slug | None = None
    each: Literal["month", "quarter"] = "month"
    lives: Annotated[list[Life], Field(min_length=1, max_length=3)] = ["final", "restated"]
    paused: bool = False
    recipients: Annotated[list[RecipientIn], Field(min_length=1, max_length=50)]


class RecipientOut(Schema):
    """Whom a schedule mails; `user` is null for an address outside."""

    user: str | None
    provider: str | None
    name: str
    address: str


class ScheduleOut(Schema):
    """A schedule; a provider reads its own recipients alone."""

    id: int
    contract: str | None
    provider: str | None
    each: str
    lives: list[str]
    paused: bool
    made_by: str
    made_at: datetime
    recipients: list[RecipientOut]


class SchedulePage(Schema):
    """A page of schedules, newest first; `next` is the cursor of the next one, or null."""

    items: list[ScheduleOut]
    next: str | None


class MailOut(Schema):
    """A mail: waiting, sent, refused, given_up or cancelled; `problem` is of the last try, `again` how often somebody
    had it sent once more."""

    id: int
    report: int
    revision: int
    provider: str | None
    address: str
    state: str
    again: int
    attempts: int
    made_at: datetime
    tried_at: datetime | None
    problem: str


class MailPage(Schema):
    """A page of mails, newest first; `next` is the cursor of the next one, or null."""

    items: list[MailOut]
    next: str | None


class AgainOut(Schema):
    """How many mails are on the way."""

    mails: int


def schedule_out(row: MailSchedule) -> dict[str, Any]:
    """A schedule as ScheduleOut has it; its recipients have been fetched by the selector."""
    return {
        **{name: getattr(row, name) for name in ("id", "each", "lives", "made_by", "made_at")},
        "contract": row.contract.slug if row.contract else None,
        "provider": row.provider.slug if row.provider else None,
        "paused": not row.is_active,
        "recipients": [
            {
                "user": one.name if one.user_id else None,
                "provider": one.provider.slug if one.provider else None,
                "name": one.name,
                "address": one.address,
            }
            for one in row.recipients.all()
        ],
    }


def mail_out(row: MailDelivery) -> dict[str, Any]:
    """A mail as MailOut has it."""
    same = ("id", "address", "state", "attempts", "made_at", "tried_at", "problem")
    return {
        **{name: getattr(row, name) for name in same},
        "report": row.revision.report_id,
        "revision": row.revision.number,
        "provider": row.provider.slug if row.provider else None,
        "again": row.rounds,
    }
