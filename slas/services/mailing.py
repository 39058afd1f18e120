"""What people do about schedules of mails: make, change, pause, delete them, and have the last one sent again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.models import F

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import Provider
from slas.mails import GIVE_UP_AFTER, AddressError, EachPeriod, MailState, ScheduleState, address_of
from slas.models import MailDelivery, MailRecipient, MailSchedule, ReportRevision
from slas.selectors.contracts import contracts_in
from slas.selectors.mailing import Reader, fits, readers, segments_under
from slas.services.mail_log import write_mails
from slas.states import Life

SCHEDULE: Final = "report.schedule"
MOST_RECIPIENTS: Final = 50
MOST_SCHEDULES: Final = 200
_SAVED: Final = ("contract", "provider", "each", "lives", "state")


def save_schedule(
    *, actor: Scope, rights: Rights, values: Mapping[str, Any], schedule: MailSchedule | None = None
) -> MailSchedule:
    """Make a schedule, or change one. Audited.

    `values`: contract and provider (their slugs, either may be empty), each, lives, paused, and recipients: mappings
    with user (a name) or provider and name, and address. Raises NotAllowed, NotFound, Invalid, Conflict.
    """
    _allow(actor, rights)
    with scope(actor):
        row = _lock(schedule) if schedule else MailSchedule(made_by=actor.name[:150], made_at=database_now())
        if schedule is None and MailSchedule.objects.exclude(state=ScheduleState.DELETED).count() >= MOST_SCHEDULES:
            raise Conflict(f"There are at most {MOST_SCHEDULES} schedules.")
        before = snapshot(row) if schedule else None
        _set(row, actor, values)
        recipients = _recipients(row, values.get("recipients") or ())
        row.save(update_fields=_SAVED if schedule else None, force_insert=not schedule)
        row.recipients.all().delete()
        for one in recipients:
            one.schedule = row
        MailRecipient.objects.bulk_create(recipients)
        _record(actor, "report.schedule" if before else "report.schedule_new", row, before=before, after=snapshot(row))
        return row


def switch_schedule(*, actor: Scope, rights: Rights, schedule: MailSchedule, on: bool) -> MailSchedule:
    """Pause it, or let it go on; what was made meanwhile is not sent afterwards. Audited. Raises NotAllowed."""
    _allow(actor, rights)
    with scope(actor):
        row = _lock(schedule)
        before = row.state
        row.state = ScheduleState.ACTIVE if on else ScheduleState.PAUSED
        if row.state != before:
            row.save(update_fields=["state"])
            _record(actor, "report.schedule", row, before={"state": before}, after={"state": str(row.state)})
        return row


def delete_schedule(*, actor: Scope, rights: Rights, schedule: MailSchedule) -> None:
    """Nothing is mailed by it any more; what was mailed stays in the log. Audited. Raises NotAllowed, NotFound."""
    _allow(actor, rights)
    with scope(actor):
        row = _lock(schedule)
        before = snapshot(row)
        row.state = ScheduleState.DELETED
        row.save(update_fields=["state"])
        _record(actor, "report.schedule_delete", row, before=before)


def send_again(*, actor: Scope, rights: Rights, schedule: MailSchedule) -> int:
    """Have the newest revision that fits mailed once more, also to who got it; how many mails. Audited.

    Raises NotAllowed, NotFound, Conflict where it is paused or nothing was made yet that fits.
    """
    _allow(actor, rights)
    with scope(actor):
        row = _lock(schedule)
        if not row.is_active:
            raise Conflict("It is paused; let it go on first.")
        revision = ReportRevision.objects.filter(fits(row)).order_by("-made_at", "-id").first()
        if revision is None:
            raise Conflict("There is no report yet that it would mail.")
        now = database_now()
        done = MailDelivery.objects.filter(schedule=row, revision=revision)
        wanted = set(row.recipients.values_list("address", flat=True))
        count = done.filter(address__in=wanted).exclude(state=MailState.WAITING).update(
            state=MailState.WAITING, rounds=F("rounds") + 1, attempts=0, next_at=now,
            give_up_at=now + GIVE_UP_AFTER, leased_until=None, lease=F("lease") + 1, problem="",
        )  # fmt: skip
        count += write_mails(revision, now, schedules=[row])
        what = f"{revision.report.contract.name}, {revision.report.period}, revision {revision.number}"
        _record(actor, "report.mail_again", row, after={"mails": count}, note=what[:300])
        return count


def snapshot(row: MailSchedule) -> dict[str, Any]:
    """A schedule as the audit keeps it."""
    return {
        "contract": row.contract.slug if row.contract else None,
        "provider": row.provider.slug if row.provider else None,
        "each": str(row.each),
        "lives": list(row.lives),
        "state": str(row.state),
        "recipients": sorted(row.recipients.values_list("address", flat=True)),
    }


# ------------------------------------------------------------------------------------------------------------
def _allow(actor: Scope, rights: Rights) -> None:
    if not rights.may(SCHEDULE) or not actor.wide or actor.narrowed:
        raise NotAllowed("Your role does not include having reports mailed.")


def _lock(schedule: MailSchedule) -> MailSchedule:
    found = MailSchedule.objects.select_for_update().exclude(state=ScheduleState.DELETED).filter(pk=schedule.pk).first()
    if found is None:
        raise NotFound("There is no such schedule, or it is not yours to see.")
    return found


def _set(row: MailSchedule, actor: Scope, values: Mapping[str, Any]) -> None:
    details: dict[str, str] = {}
    slug, owner = values.get("contract") or "", values.get("provider") or ""
    row.contract = contracts_in(actor).filter(slug=slug).first() if slug else None
    row.provider = Provider.objects.filter(slug=owner).first() if owner else None
    if slug and row.contract is None:
        details["contract"] = "There is no such contract."
    if owner and row.provider is None:
        details["provider"] = "There is no such provider."
    if not slug and not owner:
        details["contract"] = "Name a contract, a provider, or both."
    elif not details and not segments_under(row).exists():
        details["provider"] = "It is in no such contract."
    lives = [str(one) for one in Life if one in (values.get("lives") or ())]
    if not lives or len(lives) != len(set(values["lives"])):
        details["lives"] = "Say which revisions are mailed."
    if values.get("each") not in list(EachPeriod):
        details["each"] = "Month or quarter."
    if details:
        raise Invalid("Some values cannot be taken.", details=details)
    row.each, row.lives = values["each"], lives
    row.state = ScheduleState.PAUSED if values.get("paused") else ScheduleState.ACTIVE


def _recipients(row: MailSchedule, given: Sequence[Mapping[str, Any]]) -> list[MailRecipient]:
    """Checked; each names its place in `details` by its number. Raises Invalid."""
    known = readers()
    providers = {one.slug: one for one in Provider.objects.filter(pk__in=segments_under(row).values("provider"))}
    details: dict[str, str] = {}
    found: dict[str, MailRecipient] = {}
    for number, one in enumerate(given[: MOST_RECIPIENTS + 1]):
        try:
            made = _recipient(one, known, providers)
        except ValueError as error:
            details[f"recipients.{number}"] = str(error)
            continue
        if made.address.lower() in (address.lower() for address in found):
            details[f"recipients.{number}"] = "This address stands twice."
        found[made.address] = made
    if not given or len(given) > MOST_RECIPIENTS:
        details["recipients"] = f"Name 1 to {MOST_RECIPIENTS} recipients."
    if details:
        raise Invalid("Some recipients cannot be taken.", details=details)
    return list(found.values())


def _recipient(one: Mapping[str, Any], known: Sequence[Reader], providers: Mapping[str, Provider]) -> MailRecipient:
    """Raises ValueError, which says why it cannot be."""
    provider = providers.get(one.get("provider") or "")
    if one.get("provider") and provider is None:
        raise ValueError("This provider is not in it.")
    side = provider.pk if provider else None
    address, name = str(one.get("address") or ""), " ".join(str(one.get("name") or "").split())[:150]
    user = None
    if one.get("user"):
        reader = next((row for row in known if row.name == one["user"] and row.provider_id == side), None)
        if reader is None:
            raise ValueError("There is nobody of that name who may read it.")
        user, name, address = reader.user_id, reader.name, address or reader.address
    elif provider is None:
        raise ValueError("An address outside belongs to a provider, and gets its part alone.")
    if not name.isprintable():
        raise ValueError("A name has no control characters.")
    try:
        address = address_of(address)
    except AddressError as error:
        raise ValueError(str(error)) from None
    return MailRecipient(provider=provider, user_id=user, name=name or address, address=address)


def _record(
    actor: Scope,
    word: str,
    row: MailSchedule,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    name = " of ".join(str(one) for one in (row.contract, row.provider) if one)
    audit.record(
        actor,
        word,
        object_type="report_schedule",
        object_id=row.pk,
        object_name=name,
        provider_id=None,
        before=before,
        after=after,
        note=note,
    )
    live.publish(hints=[(("schedules", 0), None), (("schedule", row.pk), None)])
