"""What both sides do about disputes: a provider files, attaches and withdraws, a manager decides. Nothing is
overwritten; what is granted becomes facts, so that figures and reports follow by themselves."""

import hashlib
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from slas.attachments import MOST_FILES, AttachmentError, kind_of, safe_name
from slas.models import Dispute, DisputeFile, DisputeStep, Incident, IncidentSpan
from slas.selectors.disputes import disputes_in
from slas.selectors.incidents import spans_in, why_of
from slas.services.events import note_dispute
from slas.services.incidents import side_of
from slas.states import CHARGED, Cause, Charged, DisputeState, Side, Step

FILE: Final = ((Side.PROVIDER, "dispute.file"),)
# Filed and withdrawn again and again, evidence would fill the disk: everything of a trail is kept.
MOST_CLAIMS: Final = 5
# What a provider may claim: a cause that is its own is no claim, and neither is one that nobody knows.
CLAIMABLE: Final = tuple(one for one in Cause if CHARGED[one] != Charged.PROVIDER and one != Cause.UNKNOWN)


def file_dispute(
    *,
    actor: Scope,
    rights: Rights,
    incident: Incident,
    cause: str,
    text: str,
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> Dispute:
    """Claim that an outage was for another cause, over all of the provider's part, or `[begins, ends)` of it. Audited.

    Raises NotFound, NotAllowed, Invalid (fields in `details`), Conflict where a dispute is open or that cause counts.
    """
    with scope(actor):
        parts = _own_parts(actor, rights, incident)
        person = _person(actor)
        now = database_now()
        first, last = parts[0].valid_from, max(part.valid_to or now for part in parts)
        row = Dispute(
            incident=incident,
            site_id=incident.site_id,
            provider_id=parts[0].provider_id,
            begins=begins or first,
            ends=ends or last,
            cause=cause,
            text=text.strip(),
            filed_by_id=person,
            filed_name=actor.name[:150],
            filed_at=now,
        )
        row.is_whole = row.begins == first and row.ends == last and all(part.valid_to for part in parts)
        _check(row, first, last)
        why = why_of([incident.pk]).get((incident.pk, row.provider_id))
        if row.is_whole and why is not None and why.cause == cause:
            raise Conflict("That is the cause that counts already.")
        if Dispute.objects.filter(incident=incident, provider=row.provider_id).count() >= MOST_CLAIMS:
            raise Conflict(f"This outage was disputed {MOST_CLAIMS} times: speak of it in the comments.")
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            raise Conflict("A dispute on this outage is open already; add to that, or withdraw it.") from None
        note_step(actor, row, Step.FILED, Side.PROVIDER, row.text, now, after={"cause": cause} | _span(row))
    return row


def may_file(rights: Rights, actor: Scope, incident: Incident) -> None:
    """Raises NotFound, or NotAllowed for who may not dispute an outage; the scope must be open."""
    _own_parts(actor, rights, incident)


def attach_file(*, actor: Scope, rights: Rights, dispute: Dispute, name: str, body: bytes) -> DisputeFile:
    """Add a file to an open dispute, as evidence. The same file again is the one that is there. Audited.

    Raises NotFound, NotAllowed, Conflict (not open; too many), Invalid for a file that is not taken.
    """
    try:
        kind = kind_of(body)
    except AttachmentError as error:
        raise Invalid(str(error), details={"file": str(error)}) from None
    with scope(actor):
        row = lock_open(actor, dispute)
        side_of(rights, FILE, _part_of(actor, row))
        digest = hashlib.sha256(body).hexdigest()
        found = DisputeFile.objects.filter(dispute=row, sha256=digest).defer("body").first()
        if found is not None:
            return found
        if DisputeFile.objects.filter(dispute=row).count() >= MOST_FILES:
            raise Conflict(f"A dispute has at most {MOST_FILES} files.")
        _person(actor)
        now = database_now()
        made = DisputeFile.objects.create(
            dispute=row,
            provider_id=row.provider_id,
            name=safe_name(name),
            content_type=kind,
            size_bytes=len(body),
            sha256=digest,
            body=body,
            author_name=actor.name[:150],
            at=now,
        )
        note_step(actor, row, Step.EVIDENCE, Side.PROVIDER, made.name, now, after={"sha256": digest})
    return made


def withdraw_dispute(*, actor: Scope, rights: Rights, dispute: Dispute, reason: str = "") -> Dispute:
    """Take an open dispute back, for the provider. Audited. Raises NotFound, NotAllowed, Conflict, Invalid."""
    with scope(actor):
        row = lock_open(actor, dispute)
        side_of(rights, FILE, _part_of(actor, row))
        _person(actor)
        close(row, DisputeState.WITHDRAWN)
        note_step(actor, row, Step.WITHDRAWN, Side.PROVIDER, reason.strip(), database_now())
    return row


# What deciding shares -----------------------------------------------------------------------------------------
def lock_open(actor: Scope, dispute: Dispute) -> Dispute:
    """The dispute, locked. Raises NotFound, Conflict where it is not open any more."""
    if not disputes_in(actor).filter(pk=dispute.pk).exists():
        raise NotFound("There is no such dispute, or it is not yours to see.")
    row = Dispute.objects.select_for_update().get(pk=dispute.pk)
    if row.state != DisputeState.OPEN:
        raise Conflict(f"It is {row.state} already.")
    return row


def close(row: Dispute, state: DisputeState) -> None:
    """Give a dispute its last state."""
    row.state = state
    row.save(update_fields=["state"])


def note_step(
    actor: Scope,
    row: Dispute,
    kind: Step,
    side: Side,
    text: str,
    at: datetime,
    *,
    after: dict[str, Any] | None = None,
) -> DisputeStep:
    """Keep what was done, for the trail and the audit, and have pages ask again. Raises Invalid for its text."""
    step = DisputeStep(
        dispute=row,
        provider_id=row.provider_id,
        kind=kind,
        side=side,
        text=text,
        proof=after or {},
        author_id=_person(actor),
        author_name=actor.name[:150],
        at=at,
    )
    try:
        step.clean_fields(exclude=["dispute", "provider", "author", "proof"])
    except ValidationError as error:
        raise Invalid("Some values cannot be taken.", details={"text": " ".join(error.messages)}) from None
    step.save(force_insert=True)
    note_dispute(row, step)
    audit.record(
        actor,
        f"dispute.{kind}",
        object_type="dispute",
        object_id=row.pk,
        object_name=f"dispute {row.pk}",
        provider_id=row.provider_id,
        after=after,
        note=text[:300],
    )
    live.publish(hints=[(hint, row.provider_id) for hint in (("attention", 0), ("site", row.site_id))])
    return step


# ------------------------------------------------------------------------------------------------------------
def _own_parts(actor: Scope, rights: Rights, incident: Incident) -> list[IncidentSpan]:
    """The parts of the newest provider for whom the actor may file, by time."""
    found = list(spans_in(actor).filter(incident=incident))
    if not found:
        raise NotFound("There is no such outage, or it is not yours to see.")
    for part in found:
        try:
            side_of(rights, FILE, part)
        except NotAllowed:
            continue
        mine = [one for one in found if one.provider_id == part.provider_id]
        return sorted(mine, key=lambda one: one.valid_from)
    raise NotAllowed("A dispute is filed by the provider whose outage it was.")


def _part_of(actor: Scope, row: Dispute) -> IncidentSpan:
    """A part of the provider's; one that no longer stands will do, to ask for rights."""
    part = IncidentSpan.objects.filter(incident=row.incident_id, provider=row.provider_id).first()
    if part is None:
        raise NotFound("There is no such outage, or it is not yours to see.")
    return part


def _person(actor: Scope) -> int:
    if actor.user_id is None:
        raise NotAllowed("Only a person can do this.")
    return actor.user_id


def _check(row: Dispute, first: datetime, last: datetime) -> None:
    details = span_faults(row.begins, row.ends, first, last, "outage")
    if row.cause not in CLAIMABLE:
        details["cause"] = f"What a provider can claim is one of {', '.join(CLAIMABLE)}."
    if not row.text:
        details["text"] = "Say what speaks for it."
    try:
        row.clean_fields(exclude={field.name for field in Dispute._meta.fields} - {"text"})
    except ValidationError as error:
        details |= {name: " ".join(found) for name, found in error.message_dict.items() if name not in details}
    if details:
        raise Invalid("Some values cannot be taken.", details=details)


def span_faults(begins: datetime, ends: datetime, first: datetime, last: datetime, what: str) -> dict[str, str]:
    """What is wrong with a time that must lie within `[first, last)`, by field."""
    details = {
        name: "Name the time zone." for name, at in (("begins", begins), ("ends", ends)) if timezone.is_naive(at)
    }
    if details:
        return details
    if begins < first:
        details["begins"] = f"The {what} begins later."
    if ends > last:
        details["ends"] = f"The {what} ends earlier."
    if ends <= begins:
        details["ends"] = "It ends before it begins."
    return details


def _span(row: Dispute) -> dict[str, Any]:
    return {"begins": row.begins.isoformat(), "ends": row.ends.isoformat()}
