"""Rings: which sites they hold, in which order they are asked, and which standard they have."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.db.models import Max
from django.utils import timezone

from fleet.kit import audit, live
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import DEFAULT, Rights, Scope, scope
from fleet.standards.models import Ring, RingStandard, SiteCompliance, Standard
from fleet.standards.selectors.judgement import FACTS, parameters
from fleet.standards.services.standards import reason_of
from fleet.standards.states import StandardState
from sites.models import Provider

EDITABLE = ("name", "slug", "labels", "regions", "providers", "note")

NOTE_ALL = """
INSERT INTO standards_duesite (site_id, provider_id) SELECT id, provider_id FROM edge_sites_site WHERE life = 'active'
"""
NOTE_RING = f"""
WITH {FACTS} INSERT INTO standards_duesite (site_id, provider_id)
SELECT site_id, provider_id FROM facts WHERE ring_id = %(ring)s
"""  # noqa: S608  (constants)
# Positions are unique at every moment, so they are moved out of the way first.
REORDER = """
UPDATE standards_ring SET position = position + 1000000;
UPDATE standards_ring r SET position = n.position, changed_at = now()
FROM unnest(%s::text[]) WITH ORDINALITY AS n(slug, position) WHERE r.slug = n.slug
"""


def save_ring(*, actor: Scope, rights: Rights, values: Mapping[str, Any], ring: Ring | None = None) -> Ring:
    """Make a ring, last in the order, or change one; `values` are names of EDITABLE. Audited. Sites are judged anew.

    Raises NotAllowed, Invalid (fields in `details`).
    """
    _allow(rights)
    with scope(actor):
        row = Ring() if ring is None else _lock(ring)
        before = None if ring is None else _snapshot(row)
        for name in EDITABLE:
            if name in values:
                setattr(row, name, values[name])
        _check(row)
        row.changed_at = timezone.now()
        if before is None:
            row.position = 1 + (Ring.objects.aggregate(last=Max("position"))["last"] or 0)
        try:
            with transaction.atomic():
                if before is None:
                    row.save(force_insert=True)
                else:
                    row.save(update_fields=[*EDITABLE, "changed_at"])
        except IntegrityError as error:
            field = "slug" if "slug" in str(error) else "name"
            raise Invalid("That is taken.", details={field: "Another ring has this."}) from None
        if before is None or any(before[name] != getattr(row, name) for name in ("labels", "regions", "providers")):
            _note_all()
        _record(actor, "ring.create" if before is None else "ring.change", row, before=before, after=_snapshot(row))
    return row


def order_rings(*, actor: Scope, rights: Rights, slugs: Sequence[str]) -> None:
    """Put the rings into this order; every one must be named, once. Audited. Raises NotAllowed, Invalid."""
    _allow(rights)
    with scope(actor):
        now = list(Ring.objects.select_for_update().order_by("position").values_list("slug", flat=True))
        if sorted(slugs) != sorted(now):
            raise Invalid("Name every ring, once.", details={"rings": f"there are {', '.join(now) or 'none'}"})
        if list(slugs) == now:
            return
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(REORDER, [list(slugs)])
        _note_all()
        for row in Ring.objects.order_by("position")[:1]:
            _record(actor, "ring.order", row, before={"order": now}, after={"order": list(slugs)})


def delete_ring(*, actor: Scope, rights: Rights, ring: Ring) -> None:
    """Remove a ring that never had a standard. Audited. Raises NotAllowed, Conflict."""
    _allow(rights)
    with scope(actor):
        row = _lock(ring)
        if RingStandard.objects.filter(ring=row).exists():
            raise Conflict("What this ring had is history, which is kept. Take its standard away, or change its sites.")
        SiteCompliance.objects.filter(ring=row).update(ring=None)
        _record(actor, "ring.delete", row, before=_snapshot(row))
        Ring.objects.filter(pk=row.pk).delete()
        _note_all()


def set_ring_standard(
    *,
    actor: Scope,
    rights: Rights,
    ring: Ring,
    standard: Standard | None,
    reason: str,
    expect: int | None,
) -> RingStandard | None:
    """Give a ring a standard from now on, or none. Audited. Its sites are judged anew within seconds.

    Nothing is sent to any site: what differs is drift until somebody, or a rollout, brings it to the standard.
    `expect` is the id of the standard that the person saw it have. Returns the row that is open now. Raises NotAllowed,
    Invalid, Conflict (not published, already so, or changed by somebody else meanwhile).
    """
    _allow(rights)
    why = reason_of(reason)
    with scope(actor):
        row = _lock(ring)
        chosen = None if standard is None else Standard.objects.select_for_update().get(pk=standard.pk)
        if chosen is not None and chosen.state != StandardState.PUBLISHED:
            raise Conflict(f"{chosen.name} is {chosen.get_state_display().lower()}; a ring has a published standard.")
        standing = RingStandard.objects.filter(ring=row, until=None).select_related("standard").first()
        had = standing.standard_id if standing else None
        if had != expect:
            raise Conflict(f"{row.name} has got another standard since you looked; look again.")
        if had == (chosen.pk if chosen else None):
            raise Conflict(f"{row.name} has it already.")
        now = timezone.now()
        if standing is not None:
            RingStandard.objects.filter(pk=standing.pk).update(until=max(now, standing.since))
        made = RingStandard.objects.create(ring=row, standard=chosen, since=now, set_by=actor.name[:150], reason=why)
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(NOTE_RING, parameters(None) | {"ring": row.pk})
        before = {"standard": standing.standard.name if standing and standing.standard else None}
        after = {"standard": chosen.name if chosen else None}
        _record(actor, "ring.standard", row, before=before, after=after, note=why)
        live.publish(hints=[(("standards", 0), None)])
    return made


# ------------------------------------------------------------------------------------------------------------
def _allow(rights: Rights) -> None:
    if not rights.may("ring.change"):
        raise NotAllowed("Rings are the fleet's; your role does not allow this.")


def _lock(ring: Ring) -> Ring:
    row = Ring.objects.select_for_update().filter(pk=ring.pk).first()
    if row is None:
        raise NotFound("There is no such ring, or it is not yours to see.")
    return row


def _check(row: Ring) -> None:
    try:
        row.full_clean(validate_unique=False, validate_constraints=False, exclude=["position", "changed_at"])
    except ValidationError as error:
        details = {name: " ".join(messages) for name, messages in error.message_dict.items()}
        raise Invalid("Some values cannot be taken.", details=details) from None
    regions, providers = row.regions, row.providers
    if not isinstance(regions, list) or len(regions) > 100 or not all(_is_region(one) for one in regions):
        raise Invalid("Some values cannot be taken.", details={"regions": "at most 100 names of regions"})
    if not isinstance(providers, list) or not all(type(one) is int for one in providers):
        raise Invalid("Some values cannot be taken.", details={"providers": "ids of providers"})
    if Provider.objects.filter(pk__in=providers).count() != len(set(providers)) or len(set(providers)) != len(
        providers
    ):
        raise Invalid("Some values cannot be taken.", details={"providers": "there is no such provider"})


def _is_region(one: object) -> bool:
    return isinstance(one, str) and 0 < len(one) <= 64 and one.isprintable()


def _note_all() -> None:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(NOTE_ALL)
    live.publish(hints=[(("standards", 0), None)])


def _snapshot(row: Ring) -> dict[str, Any]:
    return {name: getattr(row, name) for name in EDITABLE}


def _record(
    actor: Scope,
    action: str,
    row: Ring,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    audit.record(
        actor,
        action,
        object_type="ring",
        object_id=row.pk,
        object_name=row.name,
        provider_id=None,
        before=before,
        after=after,
        note=note,
    )
