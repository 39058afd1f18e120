"""Plans: made of what a person wrote, held against what is there, and kept as rows of waves and steps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import connections

from fleet.kit import audit
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import DEFAULT, Rights, Scope, scope
from fleet.rollouts.engine import commands
from fleet.rollouts.models import OPEN_STEPS, ProviderAsked, Rollout, SiteStep, Wave
from fleet.rollouts.plan import Plan, PlanError, canonical, plan_hash, plan_of
from fleet.rollouts.plan_check import faults
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.planning import plannable
from fleet.rollouts.services.carrying import carry_out
from fleet.rollouts.states import ACTIVE, WAITING
from fleet.standards.contents import ARCHITECTURE_LABEL
from fleet.standards.models import Standard
from fleet.standards.selectors.standards import content_for
from sites.models import Site
from sites.states import Life

# Not a person's to write: they are who plans, and what the standard is.
GIVEN = ("author", "standard_sha256")
_NAMED = 5

_STEPS = """
INSERT INTO rollouts_sitestep (rollout_id, wave, site_id, provider_id, region, state, since, wait, failure, reason,
    lease, tries, lane, slot, frozen, undoing, escalated, origin, origin_components, boot_before)
SELECT %s, v.wave, s.id, s.provider_id, s.region, 'queued', %s, '', '', '',
    0, 0, false, false, false, false, false, 'none', '', ''
FROM unnest(%s::int[], %s::int[]) WITH ORDINALITY AS v(site_id, wave, n) JOIN edge_sites_site s ON s.id = v.site_id
ORDER BY v.n
"""

# One row a site of the plan; an array in place of as many parameters.
_THERE = """
SELECT v.id, s.id, COALESCE(s.labels ->> %s, '') FROM unnest(%s::int[]) AS v(id)
LEFT JOIN edge_sites_site s ON s.id = v.id AND s.life = %s
"""
_ELSEWHERE = """
SELECT r.name, count(*) FROM rollouts_sitestep x JOIN rollouts_rollout r ON r.id = x.rollout_id
WHERE x.site_id = ANY(%s) AND x.state = ANY(%s) AND r.state = ANY(%s) GROUP BY r.id, r.name ORDER BY r.id
"""


def plan_rollout(
    *,
    actor: Scope,
    rights: Rights,
    values: Mapping[str, Any],
    rollout: Rollout | None = None,
    expect: str = "",
    recipe: Mapping[str, Any] | None = None,
) -> Rollout:
    """Make a rollout of a plan, or give one that was not started another plan: then approvals are void. Audited.

    `values` is plan.Plan without GIVEN; `standard` names a published one. `expect` is the plan hash that the person
    began from; `recipe`, of which the values were made, is kept to begin from next time.
    Raises NotAllowed, Invalid (what is wrong, with its place in `details`), Conflict.
    """
    if not rights.may("rollout.plan") or actor.user_id is None:
        raise NotAllowed("Your role does not allow to plan rollouts.")
    with scope(actor):
        standard = plannable(values.get("standard"))
        plan = _read(values, standard, actor.user_id)
        _check(plan, standard)
        now = database_now()
        columns = {**_columns(plan, standard), "recipe": recipe or {}}
        row = _make(columns, now) if rollout is None else _change(rollout, columns, expect, actor, now)
        _make_rows(row, plan, now)
        seen = head(row.pk, now)
        carry_out(seen, commands.plan(seen, now), actor=actor, now=now)
        audit.record(actor, "rollout.plan", **object_of(row), after={"plan": row.plan_hash, "sites": row.sites})
        row.refresh_from_db()
    return row


def object_of(row: Rollout) -> dict[str, Any]:
    """The rollout's part of an audit row."""
    return {"object_type": "rollout", "object_id": row.pk, "object_name": row.name, "provider_id": None}


def lock_rollout(rollout: Rollout, expect: str) -> Rollout:
    """The rollout's row, locked in the open scope. Raises NotFound, Conflict for another plan than `expect`."""
    row = Rollout.objects.select_for_update().defer("plan").filter(pk=rollout.pk).first()
    if row is None:
        raise NotFound("There is no such rollout, or it is not yours to see.")
    if row.plan_hash != expect:
        raise Conflict("Somebody changed the plan meanwhile; look at it first.")
    return row


# ------------------------------------------------------------------------------------------------------------
def _read(values: Mapping[str, Any], standard: Standard, author: int) -> Plan:
    try:
        plan = plan_of({**values, "author": author, "standard_sha256": standard.sha256})
    except PlanError as error:
        raise Invalid(str(error), details={error.place or "plan": error.reason}) from None
    found = faults(plan)
    if found:
        raise Invalid(" ".join(found), details={"plan": found})
    return plan


def _check(plan: Plan, standard: Standard) -> None:
    """Every site is there, is active, has an image in the standard, and is not at work in another rollout."""
    wanted = [site for wave in plan.waves for site in wave.sites]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_THERE, [ARCHITECTURE_LABEL, wanted, str(Life.ACTIVE)])
        rows = cursor.fetchall()
    missing = sorted({pk for pk, found, _ in rows if found is None})
    if missing:
        listed = ", ".join(str(pk) for pk in missing[:_NAMED])
        raise Invalid(f"{len(missing)} sites are not there, or not active: {listed}.", details={"waves": missing})
    one_of = {architecture: pk for pk, _, architecture in rows}
    counts = Counter(architecture for _, _, architecture in rows)
    for site in Site.objects.filter(pk__in=one_of.values()).order_by("pk"):
        try:
            content_for(standard, site)
        except Conflict as error:
            count = counts[site.labels.get(ARCHITECTURE_LABEL, "")]
            raise Invalid(f"{count} sites: {error.message}", details={"standard": error.message}) from None
    _check_others(wanted)


def _check_others(wanted: Sequence[int]) -> None:
    states = [str(state) for state in (*WAITING, *OPEN_STEPS)]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_ELSEWHERE, [list(wanted), states, [str(state) for state in ACTIVE]])
        found = cursor.fetchall()
    if found:
        sentences = [f"{count} of these sites are in {name!r}, which still runs." for name, count in found]
        raise Invalid(" ".join(sentences), details={"waves": sentences})


def _make(columns: dict[str, Any], now: datetime) -> Rollout:
    row = Rollout(since=now, is_live=False, **columns)
    row.save(force_insert=True)
    return row


def _columns(plan: Plan, standard: Standard) -> dict[str, Any]:
    return {
        "author_id": plan.author,
        "name": plan.name,
        "standard": standard,
        "plan": canonical(plan).decode(),
        "plan_hash": plan_hash(plan),
        "sites": plan.site_count,
    }


def _change(rollout: Rollout, columns: dict[str, Any], expect: str, actor: Scope, now: datetime) -> Rollout:
    row = lock_rollout(rollout, expect)
    seen = head(row.pk, now)
    try:
        said = commands.edit(seen, now)
    except commands.RefusedError as error:
        raise Conflict(str(error)) from None
    carry_out(seen, said, actor=actor, now=now)
    for rows in (SiteStep, Wave, ProviderAsked):
        rows.objects.filter(rollout=row).delete()
    Rollout.objects.filter(pk=row.pk).update(**columns)
    row.refresh_from_db()
    return row


def _make_rows(row: Rollout, plan: Plan, now: datetime) -> None:
    Wave.objects.bulk_create(
        [Wave(rollout=row, index=index, name=wave.name, since=now) for index, wave in enumerate(plan.waves)]
    )
    ProviderAsked.objects.bulk_create(
        [
            ProviderAsked(rollout=row, provider_id=provider, approval_s=plan.expiries.approval_s)
            for provider in sorted(set(plan.approvals.providers))
        ]
    )
    pairs = [(site, index) for index, wave in enumerate(plan.waves) for site in wave.sites]
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_STEPS, [row.pk, now, [site for site, _ in pairs], [index for _, index in pairs]])


def plan_values(plan: Plan) -> dict[str, Any]:
    """A plan as a person may write it again: what plan_rollout() takes."""
    values: dict[str, Any] = msgspec.to_builtins(plan)
    return {name: value for name, value in values.items() if name not in GIVEN}
