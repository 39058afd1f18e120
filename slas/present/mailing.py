"""Schedules of mails in words."""

from typing import Any, Final

from slas.exports.words import period_words
from slas.mails import EachPeriod, MailState, ScheduleState
from slas.models import MailDelivery, MailSchedule

EACH: Final = {EachPeriod.MONTH: "Each month", EachPeriod.QUARTER: "Each quarter"}
LIVES: Final = {
    "provisional": "when it is made (provisional)",
    "final": "when it is final",
    "restated": "whenever it is restated",
}
STATES: Final = {
    MailState.WAITING: ("degraded", "Waiting"),
    MailState.SENT: ("up", "Sent"),
    MailState.REFUSED: ("down", "Refused"),
    MailState.GIVEN_UP: ("down", "Given up"),
    MailState.CANCELLED: ("unknown", "Cancelled"),
}


def row_of(schedule: MailSchedule) -> dict[str, Any]:
    """A schedule with what it says; its recipients have been fetched."""
    return {
        "schedule": schedule,
        "title": title_of(schedule),
        "each": EACH[EachPeriod(schedule.each)],
        "when": ", ".join(LIVES[one] for one in schedule.lives),
        "state": ("up", "On") if schedule.state == ScheduleState.ACTIVE else ("unknown", "Paused"),
        "people": list(schedule.recipients.all()),
    }


def title_of(schedule: MailSchedule) -> str:
    """What it mails: `Shops`, `Shops, the part of Nordlicht`, `all contracts of Nordlicht`."""
    if schedule.contract is None:
        return f"All contracts of {schedule.provider}"
    return f"{schedule.contract}, the part of {schedule.provider}" if schedule.provider else str(schedule.contract)


def mail_row(mail: MailDelivery) -> dict[str, Any]:
    """A line of the log."""
    report = mail.revision.report
    return {
        "mail": mail,
        "look": STATES[MailState(mail.state)],
        "report": report,
        "what": f"{report.contract.name}, {period_words(report.period)}, revision {mail.revision.number}",
    }
