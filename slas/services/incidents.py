"""What people do about outages: they take them, comment on them, and correct why they were. Nothing is overwritten."""

import contextlib
from collections.abc import Iterable
from typing import Any, Final

from django.core.exceptions import ValidationError

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import Site
from sites.selectors.access import sites_in
from sites.services.sites import take_trouble
from slas.models import Finding, Incident, IncidentNote, IncidentSpan
from slas.selectors.incidents import NOT_KNOWN, spans_in, traits_at, why_of
from slas.services.contracts import reason_of
from slas.services.events import note_outages
from slas.states import CHARGED, Cause, Charged, Note, Side, Told

# The right by which each side speaks; where somebody has both, they speak for those who run the fleet.
ACKNOWLEDGE: Final = ((Side.OPERATOR, "outage.acknowledge"), (Side.PROVIDER, "outage.respond"))
COMMENT: Final = ((Side.OPERATOR, "outage.comment"), (Side.PROVIDER, "outage.respond"))
CORRECT: Final = ((Side.OPERATOR, "outage.correct"),)


def acknowledge_incident(*, actor: Scope, rights: Rights, incident: Incident, text: str = "") -> IncidentNote:
    """Take an outage that lasts, from whoever had it, and the trouble of its site. Audited.

    Raises NotFound, NotAllowed, Conflict where it is over, Invalid for a text that is too long.
    """
    with scope(actor):
        part = _newest(actor, incident)
        side = side_of(rights, ACKNOWLEDGE, part)
        if part.valid_to is not None:
            raise Conflict("It is over; there is nothing to take.")
        made = _note(actor, part, Note.ACKNOWLEDGED, side, text)
        _take_site(actor, rights, part, text)
    return made


def take_outages(*, actor: Scope, rights: Rights, site: Site, text: str = "") -> list[IncidentNote]:
    """Take every outage of a site that lasts and that the actor may take, since they take its trouble. Audited."""
    made = []
    with scope(actor):
        for part in spans_in(actor).filter(site=site, valid_to=None):
            if may_as(rights, ACKNOWLEDGE, [part]):
                made.append(_note(actor, part, Note.ACKNOWLEDGED, side_of(rights, ACKNOWLEDGE, part), text))
    return made


def comment_incident(*, actor: Scope, rights: Rights, incident: Incident, text: str) -> IncidentNote:
    """Say something about an outage, to be read by both sides. Audited. Raises NotFound, NotAllowed, Invalid."""
    with scope(actor):
        part = _newest(actor, incident)
        side = side_of(rights, COMMENT, part)
        if not text.strip():
            raise Invalid("Write something.", details={"text": "empty"})
        return _note(actor, part, Note.COMMENT, side, text)


def correct_cause(
    *, actor: Scope, rights: Rights, incident: Incident, cause: str, reason: str, charged_to: str = ""
) -> list[Finding]:
    """Say why an outage was, in place of what a rule found; `charged_to` where that does not follow from the cause.

    Adds a finding for each provider that had the site meanwhile; what was found before stays readable. Audited.
    Raises NotFound, NotAllowed, Invalid, Conflict where that counts already.
    """
    why = reason_of(reason)
    if cause not in set(Cause) or (charged_to and charged_to not in set(Charged)):
        field = "charged_to" if cause in set(Cause) else "cause"
        known = Charged if cause in set(Cause) else Cause
        raise Invalid("Some values cannot be taken.", details={field: f"This is one of {', '.join(known)}."})
    chosen, charged = Cause(cause), Charged(charged_to) if charged_to else CHARGED[Cause(cause)]
    with scope(actor):
        parts = list(spans_in(actor).filter(incident=incident))
        if not parts:
            raise NotFound("There is no such outage, or it is not yours to see.")
        for part in parts:
            side_of(rights, CORRECT, part)
        before = why_of([incident.pk])
        made = []
        for provider in sorted({part.provider_id for part in parts}):
            was = before.get((incident.pk, provider), NOT_KNOWN)
            if (was.cause, was.charged_to, was.is_correction) != (chosen, charged, True):
                made.append(add_correction(actor, incident, provider, chosen, charged, why))
        if not made:
            raise Conflict("That is what counts already.")
        _publish(parts)
    return made


def may_as(
    rights: Rights, by: tuple[tuple[Side, str], ...], parts: Iterable[IncidentSpan], *, strict: bool = False
) -> bool:
    """Whether the viewer may do this about all of these parts: which buttons to draw. `strict` raises NotAllowed."""
    try:
        for part in parts:
            side_of(rights, by, part)
    except NotAllowed:
        if strict:
            raise
        return False
    return True


def add_correction(
    actor: Scope,
    incident: Incident,
    provider: int,
    cause: Cause,
    charged: Charged,
    why: str,
    proof: dict[str, Any] | None = None,
) -> Finding:
    """Write down and audit what counts as the cause of a provider's part from now on; the caller has asked for rights,
    and holds the scope open. `proof` names the dispute that it comes of."""
    was = why_of([incident.pk]).get((incident.pk, provider), NOT_KNOWN)
    made = Finding.objects.create(
        incident=incident,
        provider_id=provider,
        cause=cause,
        charged_to=charged,
        is_correction=True,
        proof=proof or {},
        reason=why,
        author_id=actor.user_id,
        author_name=actor.name[:150],
        at=database_now(),
    )
    newest = IncidentSpan.objects.filter(incident=incident, provider=provider).order_by("superseded_at", "-valid_from")
    spans = newest.filter(superseded_at=None) or newest
    note_outages({spans[0].pk: Told.OUTAGE_CORRECTED}, made.at, actor=actor.name[:150], reason=why)
    _record(
        actor,
        "incident.correct",
        incident,
        provider,
        before={"cause": was.cause, "charged_to": was.charged_to},
        after={"cause": cause, "charged_to": charged},
        note=why,
    )
    return made


# ------------------------------------------------------------------------------------------------------------
def _newest(actor: Scope, incident: Incident) -> IncidentSpan:
    part = spans_in(actor).filter(incident=incident).first()
    if part is None:
        raise NotFound("There is no such outage, or it is not yours to see.")
    return part


def side_of(rights: Rights, by: tuple[tuple[Side, str], ...], part: IncidentSpan) -> Side:
    """For whom the actor speaks about a part of an outage, by rights of each side. Raises NotAllowed."""
    traits = traits_at(part.site_id, part.provider_id, part.valid_from)
    region, labels = (traits.region, traits.labels) if traits else ("", {})
    for side, action in by:
        if rights.may_on(action, provider_id=part.provider_id, region=region, labels=labels):
            return side
    raise NotAllowed("Your role does not allow this on this outage.")


def _take_site(actor: Scope, rights: Rights, part: IncidentSpan, text: str) -> None:
    """Whoever takes an outage that lasts takes its site's trouble, as far as there is any."""
    site = sites_in(actor).filter(pk=part.site_id, provider=part.provider_id).first()
    if site is None or getattr(site, "state", None) is None:
        return
    with contextlib.suppress(Conflict, NotAllowed):
        take_trouble(actor=actor, rights=rights, site=site, note=text.strip()[:500])


def _note(actor: Scope, part: IncidentSpan, kind: Note, side: Side, text: str) -> IncidentNote:
    if actor.user_id is None:
        raise NotAllowed("Only a person can say this.")
    note = IncidentNote(
        incident_id=part.incident_id,
        provider_id=part.provider_id,
        kind=kind,
        side=side,
        text=text.strip(),
        author_id=actor.user_id,
        author_name=actor.name[:150],
        at=database_now(),
    )
    try:
        note.clean_fields(exclude=["incident", "provider", "author"])
    except ValidationError as error:
        raise Invalid("Some values cannot be taken.", details={"text": " ".join(error.messages)}) from None
    note.save(force_insert=True)
    _record(actor, f"incident.{kind}", part.incident, part.provider_id, after={"side": side}, note=note.text)
    _publish([part])
    return note


def _publish(parts: list[IncidentSpan]) -> None:
    live.publish(
        hints=[(hint, part.provider_id) for part in parts for hint in (("attention", 0), ("site", part.site_id))]
    )


def _record(
    actor: Scope,
    action: str,
    incident: Incident,
    provider: int,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    audit.record(
        actor,
        action,
        object_type="incident",
        object_id=incident.pk,
        object_name=f"{incident.kind} {incident.pk}",
        provider_id=provider,
        before=before,
        after=after,
        note=note,
    )
