"""Making, changing, publishing and withdrawing standards."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from fleet.kit import audit
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.standards.contents import architectures_of, expected_components, sha256_of
from fleet.standards.models import RingStandard, Standard
from fleet.standards.selectors.standards import missing_blobs
from fleet.standards.states import StandardState
from sites.drafts import Draft
from sites.services.desired import keep_configs

EDITABLE = ("name", "notes", "severity", "deadline_h", "extras")
_CONTENT = ("content", "sha256", "components", "by_architecture")


def create_standard(*, actor: Scope, rights: Rights, draft: Draft, values: Mapping[str, Any]) -> Standard:
    """Make a draft of a standard; `values` are names of EDITABLE. Keeps the configurations written in it. Audited.

    Raises NotAllowed, Invalid (fields in `details`).
    """
    _allow(rights, "standard.change")
    with scope(actor):
        keep_configs(actor=actor, rights=rights, configs=draft.configs)
        row = Standard(made_by=actor.name[:150])
        _set(row, draft, values)
        _insert(row)
        _record(actor, "standard.create", row, after=_snapshot(row))
    return row


def change_standard(
    *, actor: Scope, rights: Rights, standard: Standard, draft: Draft, values: Mapping[str, Any], expect: str
) -> Standard:
    """Change a draft; `expect` is the sha256 that the person began from. Audited.

    Raises NotAllowed, Invalid, Conflict (published, or changed by somebody else meanwhile).
    """
    _allow(rights, "standard.change")
    with scope(actor):
        row = _lock(standard)
        _expect(row, StandardState.DRAFT, "It is published, and stays as it is; make another one.")
        if row.sha256 != expect:
            raise Conflict("Somebody else changed it meanwhile; look at it first.")
        before = _snapshot(row)
        keep_configs(actor=actor, rights=rights, configs=draft.configs)
        _set(row, draft, values)
        try:
            with transaction.atomic():
                row.save(update_fields=[*EDITABLE, *_CONTENT])
        except IntegrityError as error:
            raise _taken(error) from None
        _record(actor, "standard.change", row, before=before, after=_snapshot(row))
    return row


def delete_standard(*, actor: Scope, rights: Rights, standard: Standard) -> None:
    """Throw a draft away. Audited. Raises NotAllowed, Conflict."""
    _allow(rights, "standard.change")
    with scope(actor):
        row = _lock(standard)
        _expect(row, StandardState.DRAFT, "It is published, and is kept; withdraw it.")
        _record(actor, "standard.delete", row, before=_snapshot(row))
        Standard.objects.filter(pk=row.pk).delete()


def publish_standard(*, actor: Scope, rights: Rights, standard: Standard, expect: str) -> Standard:
    """Publish a draft: from now on it stays as it is, and rings may have it. Audited.

    `expect` is the sha256 that the person saw. Raises NotAllowed, Conflict (no draft, another content than was seen),
    Invalid (a blob that it names is not here).
    """
    _allow(rights, "standard.publish")
    with scope(actor):
        row = _lock(standard)
        _expect(row, StandardState.DRAFT, "It is published already.")
        if row.sha256 != expect:
            raise Conflict("It was changed since you looked at it; look again before you publish it.")
        missing = missing_blobs(row)
        if missing:
            raise Invalid(f"There is no blob {missing[0]} here; put it first.", details={"blobs": missing})
        row.state, row.published_at, row.published_by = StandardState.PUBLISHED, timezone.now(), actor.name[:150]
        row.save(update_fields=["state", "published_at", "published_by"])
        _record(actor, "standard.publish", row, after={"sha256": row.sha256})
    return row


def withdraw_standard(*, actor: Scope, rights: Rights, standard: Standard, reason: str) -> Standard:
    """Take a published standard out of use: no ring may have it from now on. Audited.

    Raises NotAllowed, Invalid, Conflict (a ring has it, or it is not published).
    """
    _allow(rights, "standard.publish")
    why = reason_of(reason)
    with scope(actor):
        row = _lock(standard)
        _expect(row, StandardState.PUBLISHED, "It is not published.")
        ring = RingStandard.objects.filter(standard=row, until=None).select_related("ring").first()
        if ring is not None:
            raise Conflict(f"The ring {ring.ring.name} has it; give that another one first.")
        row.state = StandardState.WITHDRAWN
        row.save(update_fields=["state"])
        _record(actor, "standard.withdraw", row, note=why)
    return row


def reason_of(text: str) -> str:
    """Why, as people say it. Raises Invalid."""
    reason = text.strip()
    if not 3 <= len(reason) <= 300 or not reason.isprintable():
        raise Invalid("Say why, in 3 to 300 characters on one line.", details={"reason": "missing"})
    return reason


# ------------------------------------------------------------------------------------------------------------
def _allow(rights: Rights, action: str) -> None:
    if not rights.may(action):
        raise NotAllowed("Standards are the fleet's; your role does not allow this.")


def _lock(standard: Standard) -> Standard:
    row = Standard.objects.select_for_update().filter(pk=standard.pk).first()
    if row is None:
        raise NotFound("There is no such standard, or it is not yours to see.")
    return row


def _expect(row: Standard, state: StandardState, otherwise: str) -> None:
    if row.state != state:
        raise Conflict(otherwise)


def _set(row: Standard, draft: Draft, values: Mapping[str, Any]) -> None:
    for name in EDITABLE:
        if name in values:
            setattr(row, name, values[name])
    row.content = dict(draft.content)
    row.sha256 = sha256_of(row.content)
    row.components = expected_components(row.content)
    row.by_architecture = bool(architectures_of(row.content))
    try:
        row.full_clean(validate_unique=False, validate_constraints=False, exclude=["published_by", "published_at"])
    except ValidationError as error:
        details = {name: " ".join(messages) for name, messages in error.message_dict.items()}
        raise Invalid("Some values cannot be taken.", details=details) from None


def _insert(row: Standard) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        raise _taken(error) from None


def _taken(error: IntegrityError) -> Invalid:
    if "name" not in str(error):
        raise error
    return Invalid("That name is taken.", details={"name": "Another standard has this name."})


def _snapshot(row: Standard) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*EDITABLE, "sha256")}


def _record(
    actor: Scope,
    action: str,
    row: Standard,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    audit.record(
        actor,
        action,
        object_type="standard",
        object_id=row.pk,
        object_name=row.name,
        provider_id=None,
        before=before,
        after=after,
        note=note,
    )
