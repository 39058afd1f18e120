"""Schedules of mails as a viewer may see them, and whom they may mail. The scope must be open."""

from collections.abc import Callable
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.module_loading import import_string

from fleet.kit.errors import NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope
from slas.mails import EachPeriod, ScheduleState
from slas.models import MailDelivery, MailSchedule, ReportPart, Segment
from slas.periods import MONTH, QUARTER


class Reader(NamedTuple):
    """A person who may be mailed reports: all of them, or those of one provider."""

    user_id: int
    name: str
    address: str
    provider_id: int | None


def readers() -> list[Reader]:
    """Everybody who may be, by name."""
    find: Callable[[], list[tuple[int, str, str, int | None]]] = import_string(settings.REPORT_READERS_FOUND_BY)
    return [Reader(*one) for one in find()]


def schedules_in(who: Scope, rights: Rights) -> QuerySet[MailSchedule]:
    """Every schedule that the viewer may see: those who may change them all, a provider those that mail to it.

    Addresses are people's: nobody else of the centre sees them. Raises NotAllowed.
    """
    if who.wide and not rights.may("report.schedule"):
        raise NotAllowed("Your role does not include having reports mailed.")
    found = MailSchedule.objects.none() if who.narrowed else MailSchedule.objects.exclude(state=ScheduleState.DELETED)
    return found.select_related("contract", "provider").prefetch_related("recipients__provider").order_by("-id")


def get_schedule(*, scope: Scope, rights: Rights, pk: int) -> MailSchedule:
    """One schedule. Raises NotAllowed, and NotFound, also for one that the viewer may not see."""
    found = schedules_in(scope, rights).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such schedule, or it is not yours to see.")
    return found


def mails_of(schedule: MailSchedule) -> QuerySet[MailDelivery]:
    """Its log, newest first."""
    found = MailDelivery.objects.filter(schedule=schedule)
    return found.select_related("revision__report__contract", "provider").order_by("-id")


def segments_under(schedule: MailSchedule) -> QuerySet[Segment]:
    """Segments of any version that its reports may be about."""
    found = Segment.objects.all()
    if schedule.contract_id:
        found = found.filter(contract=schedule.contract_id)
    return found.filter(provider=schedule.provider_id) if schedule.provider_id else found


def fits(schedule: MailSchedule) -> Q:
    """Which revisions a schedule mails."""
    form = MONTH if schedule.each == EachPeriod.MONTH else QUARTER
    wanted = Q(state__in=schedule.lives, report__period__regex=form)
    if schedule.contract_id:
        wanted &= Q(report__contract=schedule.contract_id)
    if schedule.provider_id:
        wanted &= Q(pk__in=ReportPart.objects.filter(provider=schedule.provider_id).values("revision"))
    return wanted
