"""API operations on schedules by which reports are mailed."""

from typing import Any

from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from slas.models import MailSchedule
from slas.schemas import mailing as schemas
from slas.selectors.mailing import get_schedule, mails_of, schedules_in
from slas.services import mailing

router = Router()


@router.get("/report-schedules", response=schemas.SchedulePage, summary="List schedules of mails")
def list_report_schedules(request: ScopedRequest, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Newest first; a provider reads those that mail to it."""
    found = schedules_in(request.who, request.rights)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.schedule_out)


@router.post("/report-schedules", response={201: schemas.ScheduleOut}, summary="Have reports mailed")
@idempotent
def create_report_schedule(request: ScopedRequest, body: schemas.ScheduleIn) -> Status[dict[str, Any]]:
    """Mail each report of a contract or a provider when a revision is made. Heeds Idempotency-Key."""
    made = mailing.save_schedule(actor=request.who, rights=request.rights, values=body.dict())
    return Status(201, schemas.schedule_out(_get(request, made.pk)))


@router.get("/report-schedules/{schedule}", response=schemas.ScheduleOut, summary="One schedule of mails")
def one_report_schedule(request: ScopedRequest, schedule: int) -> dict[str, Any]:
    """What it mails, when, and to whom."""
    return schemas.schedule_out(_get(request, schedule))


@router.put("/report-schedules/{schedule}", response=schemas.ScheduleOut, summary="Change a schedule of mails")
def change_report_schedule(request: ScopedRequest, schedule: int, body: schemas.ScheduleIn) -> dict[str, Any]:
    """All of it; what was made while it was paused is not sent afterwards."""
    row = _get(request, schedule)
    mailing.save_schedule(actor=request.who, rights=request.rights, values=body.dict(), schedule=row)
    return schemas.schedule_out(_get(request, schedule))


@router.delete("/report-schedules/{schedule}", response={204: None}, summary="Delete a schedule of mails")
def delete_report_schedule(request: ScopedRequest, schedule: int) -> Status[None]:
    """Nothing is mailed by it any more."""
    mailing.delete_schedule(actor=request.who, rights=request.rights, schedule=_get(request, schedule))
    return Status(204, None)


@router.post("/report-schedules/{schedule}/again", response={202: schemas.AgainOut}, summary="Mail the last one again")
def again_report_schedule(request: ScopedRequest, schedule: int) -> Status[dict[str, Any]]:
    """The newest revision that fits, to all of its recipients. 409 where it is paused, or there is none."""
    count = mailing.send_again(actor=request.who, rights=request.rights, schedule=_get(request, schedule))
    return Status(202, {"mails": count})


@router.get("/report-schedules/{schedule}/mails", response=schemas.MailPage, summary="Mails of a schedule")
def list_report_mails(
    request: ScopedRequest, schedule: int, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first, each with how it went; a provider reads its own."""
    found = mails_of(_get(request, schedule))
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.mail_out)


def _get(request: ScopedRequest, pk: int) -> MailSchedule:
    return get_schedule(scope=request.who, rights=request.rights, pk=pk)
