"""record(): every change writes one audit row in its own transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Scope


def record(
    scope: Scope,
    action: str,
    *,
    object_type: str,
    object_id: object,
    object_name: str,
    provider_id: int | None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> AuditEntry:
    """Append one audit row; call it inside the transaction of the change, under an open scope.

    `before` and `after` are JSON-ready; with both given, only what differs is kept.
    """
    entry = _entry(scope, action, object_type, object_id, object_name, provider_id)
    if before is not None and after is not None:
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        before = {key: value for key, value in before.items() if key in changed}
        after = {key: value for key, value in after.items() if key in changed}
    entry.before, entry.after, entry.note = before, after, note
    entry.save(force_insert=True)
    return entry


def record_many(scope: Scope, action: str, made: Sequence[tuple[Mapping[str, Any], dict[str, Any]]]) -> None:
    """The same for many objects that were made at once: pairs of (the object's part of record(), `after`)."""
    entries = []
    for which, after in made:
        entry = _entry(scope, action, **which)
        entry.after = after
        entries.append(entry)
    AuditEntry.objects.bulk_create(entries, batch_size=1000)


def _entry(
    scope: Scope, action: str, object_type: str, object_id: object, object_name: str, provider_id: int | None
) -> AuditEntry:
    return AuditEntry(
        actor_id=scope.user_id,
        actor=scope.name,
        action=action,
        object_type=object_type,
        object_id=str(object_id),
        object_name=object_name[:200],
        provider_id=provider_id,
        address=scope.address,
        request_id=scope.request_id,
    )
