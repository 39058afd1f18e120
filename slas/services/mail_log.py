"""The log of mails: written in the transaction that makes a revision, claimed by senders, and how each try went.

A claim counts as a try and holds for LEASE_S by the database's clock. A sender that dies loses it, and another sends
the mail again: what SMTP forces is that the one mail which the server took while its sender died, before that was
written here, comes twice, both times with the same Message-ID. None is lost. What a late sender writes touches no row.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connections
from django.db.models import Q

from fleet.kit import live
from fleet.kit.clock import database_now
from fleet.kit.tenancy import DEFAULT, job, scope
from slas.mails import GIVE_UP_AFTER, EachPeriod, MailState, ScheduleState, next_try
from slas.models import MailDelivery, MailSchedule, ReportFile, ReportPart, ReportRevision
from slas.periods import is_month, is_quarter
from slas.reporting.paper import Paper
from slas.selectors.mailing import readers
from slas.selectors.reports import whole
from slas.states import FileKind

MAILER: Final = job("mails")
# Longer than a try may take: Django's timeout for each of a handful of answers of the server.
LEASE_S: Final = 180

# One at a time: a server that hangs must not take every worker, since those have outages to derive. A mail waits for
# the signed documents of its revision while they are being made; where that takes long they are on the page.
_CLAIM: Final = """
UPDATE slas_maildelivery d
SET lease = lease + 1, attempts = attempts + 1, leased_until = now() + make_interval(secs => %s)
WHERE d.id = (SELECT id FROM slas_maildelivery WHERE state = 'waiting' AND next_at <= now()
    AND NOT EXISTS (SELECT 1 FROM slas_maildelivery b WHERE b.state = 'waiting' AND b.leased_until > now())
    AND (made_at < now() - interval '10 min' OR NOT EXISTS (
        SELECT 1 FROM slas_reportfile f JOIN slas_reportpart p ON p.id = f.part_id
        WHERE p.revision_id = slas_maildelivery.revision_id AND f.kind = 'pdf' AND f.due_at IS NOT NULL))
    ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING d.id, d.lease
"""


@dataclass(frozen=True, slots=True)
class Sending:
    """A mail to send now: a revision's parts, all of them or one provider's, to an address.

    `papers` are what the parts say, `signed` their signed documents that are made.
    """

    pk: int
    lease: int
    rounds: int
    address: str
    revision: ReportRevision
    parts: tuple[ReportPart, ...]
    papers: tuple[Paper, ...]
    signed: tuple[ReportFile, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """How a try went. `is_final`: to try again would not help."""

    is_sent: bool = False
    is_final: bool = False
    problem: str = ""


def write_mails(revision: ReportRevision, now: datetime, schedules: Iterable[MailSchedule] | None = None) -> int:
    """Write a mail for each recipient of the schedules (none named: of all active ones that fit); how many.

    Within the caller's transaction and wide scope: a revision that is rolled back was never mailed. Whoever has one of
    it already gets none.
    """
    report = revision.report
    providers = set(ReportPart.objects.filter(revision=revision).values_list("provider", flat=True))
    if schedules is None:
        each = EachPeriod.MONTH if is_month(report.period) else EachPeriod.QUARTER
        if not (is_month(report.period) or is_quarter(report.period)):
            return 0
        whose = Q(contract=report.contract_id) | Q(contract=None, provider__in=providers)
        found = MailSchedule.objects.filter(
            whose, state=ScheduleState.ACTIVE, each=each, lives__contains=[str(revision.state)]
        )
        schedules = found.prefetch_related("recipients")
    made = [
        MailDelivery(
            schedule=schedule,
            revision=revision,
            provider_id=to.provider_id,
            user_id=to.user_id,
            address=to.address,
            made_at=now,
            next_at=now,
            give_up_at=now + GIVE_UP_AFTER,
        )
        for schedule in schedules
        if schedule.provider_id is None or schedule.provider_id in providers
        for to in schedule.recipients.all()
        if to.provider_id is None or to.provider_id in providers
    ]
    before = MailDelivery.objects.filter(revision=revision).count()
    MailDelivery.objects.bulk_create(made, ignore_conflicts=True)
    live.publish(hints=[(("schedule", one.schedule_id), one.provider_id) for one in made])
    return MailDelivery.objects.filter(revision=revision).count() - before


def claim() -> Sending | None:
    """Take the mail that is due longest, or None. One to whom it may not go any more is cancelled, and the next taken.

    Opens its own scopes.
    """
    while True:
        with scope(MAILER):
            with connections[DEFAULT].cursor() as cursor:
                cursor.execute(_CLAIM, [LEASE_S])
                taken = cursor.fetchone()
            if taken is None:
                return None
            row = MailDelivery.objects.select_related("schedule", "revision__report__contract").get(pk=taken[0])
            problem = _problem(row)
            parts = _parts(row)
            if not problem and parts:
                return _sending(row, taken[1], parts)
            row.state, row.next_at, row.leased_until = MailState.CANCELLED, None, None
            row.problem = problem or "There is no part of it for this address."
            row.save(update_fields=["state", "next_at", "leased_until", "problem"])
            live.publish(hints=[(("schedule", row.schedule_id), row.provider_id)])


def record_told(sending: Sending, told: Told) -> bool:
    """Write how a try went, unless the lease is lost. Opens its own scope."""
    with scope(MAILER):
        row = MailDelivery.objects.select_for_update().filter(pk=sending.pk, lease=sending.lease).first()
        if row is None or row.state != MailState.WAITING:
            return False
        now = database_now()
        row.tried_at, row.leased_until, row.problem, row.next_at = now, None, told.problem[:300], None
        if told.is_sent:
            row.state = MailState.SENT
        elif told.is_final:
            row.state = MailState.REFUSED
        else:
            row.next_at = next_try(now, row.attempts, random.random(), row.give_up_at)
            row.state = MailState.WAITING if row.next_at else MailState.GIVEN_UP
        row.save(update_fields=["state", "next_at", "tried_at", "leased_until", "problem"])
        live.publish(hints=[(("schedule", row.schedule_id), row.provider_id)])
    return True


# ------------------------------------------------------------------------------------------------------------
def _problem(row: MailDelivery) -> str:
    """Why it may not go any more, or nothing."""
    if row.schedule.state != ScheduleState.ACTIVE:
        return f"The schedule was {row.schedule.state} before it was sent."
    to = row.schedule.recipients.filter(address=row.address).first()
    if to is None or to.provider_id != row.provider_id:
        return "The address was taken off the schedule before it was sent."
    if to.user_id and (to.user_id, to.provider_id) not in {(one.user_id, one.provider_id) for one in readers()}:
        return "The person may not read it any more."
    return ""


def _sending(row: MailDelivery, lease: int, parts: tuple[ReportPart, ...]) -> Sending:
    papers = tuple(paper for _, paper in whole(parts))
    signed = ReportFile.objects.filter(part__in=parts, kind=FileKind.PDF, made_at__isnull=False)
    signed = signed.select_related("provider").order_by("provider__name")
    return Sending(row.pk, lease, row.rounds, row.address, row.revision, parts, papers, tuple(signed))


def _parts(row: MailDelivery) -> tuple[ReportPart, ...]:
    """What goes to the recipient: its provider's part, or the schedule's, or all."""
    found = ReportPart.objects.filter(revision=row.revision_id).order_by("provider__name")
    found = found.select_related("provider", "revision__report__contract")
    side = row.provider_id or row.schedule.provider_id
    return tuple(found.filter(provider=side) if side else found)
