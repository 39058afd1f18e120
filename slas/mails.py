"""What mails of reports go by: states, which addresses are taken, when to try again. Pure."""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

GIVE_UP_AFTER: Final = timedelta(days=3)
MOST_CHARS: Final = 254
_FIRST_S, _FACTOR, _MOST_S = 60.0, 3.0, 4 * 3600.0
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})+")


class EachPeriod(StrEnum):
    """Of which periods reports are mailed."""

    MONTH = "month"
    QUARTER = "quarter"


class ScheduleState(StrEnum):
    """Whether a schedule mails; a deleted one stays with its log."""

    ACTIVE = "active"
    PAUSED = "paused"
    DELETED = "deleted"


class MailState(StrEnum):
    """How a mail is. `refused`: the server said that it takes none for that address, or not this one."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    CANCELLED = "cancelled"


class AddressError(ValueError):
    """An address cannot be taken; says why."""


def address_of(text: str) -> str:
    """An address as mails carry it: one plain `name@domain` in ASCII, its domain in lower case. Raises AddressError.

    Nothing that could begin another header, name a second address or quote anything gets through.
    """
    found = text.strip(" \t")
    local, _, domain = found.rpartition("@")
    if len(found) > MOST_CHARS or len(local) > 64 or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise AddressError("An address is like name@example.com, without anything around it.")
    return f"{local}@{domain.lower()}"


def next_try(now: datetime, attempts: int, luck: float, give_up_at: datetime) -> datetime | None:
    """When to try again after so many: a minute, three times as long each time, up to 4 h, a fifth more or less by
    `luck` from 0 to 1. None: it is given up."""
    base = min(_FIRST_S * _FACTOR ** min(max(attempts, 1) - 1, 20), _MOST_S)
    at = now + timedelta(seconds=base * (0.8 + 0.4 * luck))
    return at if at <= give_up_at else None
