"""A manager's word on a dispute, and the facts that come of it."""

from datetime import datetime
from typing import Any, Final

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.tenancy import Rights, Scope, scope
from slas.models import Adjustment, Dispute, IncidentSpan
from slas.services.contracts import reason_of
from slas.services.disputes import close, lock_open, note_step, span_faults
from slas.services.incidents import add_correction, side_of
from slas.states import CHARGED, Cause, Charged, DisputeState, Side, Step

DECIDE: Final = ((Side.OPERATOR, "dispute.decide"),)
DECISIONS: Final = (DisputeState.ACCEPTED, DisputeState.ADJUSTED, DisputeState.REJECTED)


def decide_dispute(
    *,
    actor: Scope,
    rights: Rights,
    dispute: Dispute,
    decision: str,
    reason: str,
    cause: str = "",
    begins: datetime | None = None,
    ends: datetime | None = None,
) -> Dispute:
    """Accept an open dispute, adjust it (another cause, or a part of its time), or reject it; why is told. Audited.

    What is granted is written as adjustments, and for all of the provider's part as a correction of its cause, too.
    Raises NotFound, NotAllowed (also whoever filed it), Conflict, Invalid (fields in `details`).
    """
    why = reason_of(reason)
    if decision not in DECISIONS:
        raise Invalid("Some values cannot be taken.", details={"decision": f"This is one of {', '.join(DECISIONS)}."})
    with scope(actor):
        row = lock_open(actor, dispute)
        parts = list(_parts(row))
        side_of(rights, DECIDE, parts[0])
        if actor.user_id is None or actor.user_id == row.filed_by_id:
            raise NotAllowed("Somebody else than who filed it decides on it.")
        now = database_now()
        came: dict[str, Any] = {}
        if decision != DisputeState.REJECTED:
            chosen, first, last = row.cause, row.begins, row.ends
            if decision == DisputeState.ADJUSTED:
                chosen, first, last = _adjusted(row, cause, begins, ends)
            came = _grant(actor, row, parts, Cause(chosen), first, last, why, now)
        close(row, DisputeState(decision))
        note_step(actor, row, Step(decision), Side.OPERATOR, why, now, after=came)
    return row


# ------------------------------------------------------------------------------------------------------------
def _parts(row: Dispute) -> list[IncidentSpan]:
    """What stands of the provider's part, by time; else the last that did, to ask for rights."""
    found = IncidentSpan.objects.filter(incident=row.incident_id, provider=row.provider_id)
    standing = list(found.filter(superseded_at=None).order_by("valid_from"))
    return standing or list(found.order_by("-id")[:1])


def _adjusted(
    row: Dispute, cause: str, begins: datetime | None, ends: datetime | None
) -> tuple[str, datetime, datetime]:
    """What is granted in place of what was claimed. Raises Invalid."""
    chosen, first, last = cause or row.cause, begins or row.begins, ends or row.ends
    details = span_faults(first, last, row.begins, row.ends, "claim")
    if chosen not in set(Cause):
        details["cause"] = f"This is one of {', '.join(Cause)}."
    if details:
        raise Invalid("Some values cannot be taken.", details=details)
    if (chosen, first, last) == (row.cause, row.begins, row.ends):
        raise Invalid("That is all of the claim: accept it.", details={"decision": "nothing is adjusted"})
    return chosen, first, last


def _grant(
    actor: Scope,
    row: Dispute,
    parts: list[IncidentSpan],
    cause: Cause,
    begins: datetime,
    ends: datetime,
    why: str,
    now: datetime,
) -> dict[str, Any]:
    """Write what a decision means, and return it for the trail. Raises Conflict, Invalid."""
    charged, said = CHARGED[cause], f"Dispute {row.pk}: {why}"[:300]
    standing = [part for part in parts if part.superseded_at is None]
    pieces = [
        (max(begins, part.valid_from), min(ends, part.valid_to or ends))
        for part in standing
        if part.valid_from < ends and (part.valid_to is None or part.valid_to > begins)
    ]
    if not pieces:
        raise Conflict("Nothing of that time is an outage any more: the site's journal has corrected it.")
    is_all = all(part.valid_to is not None and begins <= part.valid_from and part.valid_to <= ends for part in standing)
    came: dict[str, Any] = {"cause": cause, "charged_to": charged}
    came |= {"begins": begins.isoformat(), "ends": ends.isoformat()}
    if charged != Charged.PROVIDER:
        made = Adjustment.objects.bulk_create(
            [_adjustment(actor, row, piece, cause, charged, said, now) for piece in pieces]
        )
        came["adjustments"] = [one.pk for one in made]
    elif not is_all:
        raise Invalid(
            "A part of the time for a cause of the provider's own grants nothing: reject it.",
            details={"cause": "the provider's own"},
        )
    if is_all:
        proof = {"dispute": row.pk}
        came["correction"] = add_correction(actor, row.incident, row.provider_id, cause, charged, said, proof).pk
    return came


def _adjustment(
    actor: Scope,
    row: Dispute,
    piece: tuple[datetime, datetime],
    cause: Cause,
    charged: Charged,
    said: str,
    now: datetime,
) -> Adjustment:
    assert actor.user_id is not None  # only a person decides
    return Adjustment(
        dispute=row,
        incident_id=row.incident_id,
        site_id=row.site_id,
        provider_id=row.provider_id,
        kind=row.incident.kind,
        valid_from=piece[0],
        valid_to=piece[1],
        cause=cause,
        charged_to=charged,
        reason=said,
        author_id=actor.user_id,
        author_name=actor.name[:150],
        recorded_at=now,
    )
