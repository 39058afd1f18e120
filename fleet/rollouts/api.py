"""API operations on rollouts: plans, and what is seen of them. What people say to them is in api_commands.py."""

from typing import Annotated, Any

from django.db.models import QuerySet
from ninja import Body, Field, Query, Router, Schema
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.clock import database_now
from fleet.kit.errors import Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from fleet.rollouts import schemas, schemas_plan, schemas_steps
from fleet.rollouts.engine.approvals import people_needed, verdict
from fleet.rollouts.engine.facts import Head
from fleet.rollouts.models import Rollout, SiteStep
from fleet.rollouts.preview import Preview
from fleet.rollouts.selectors.drafting import Drafted, draft, preview_of
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import offered
from fleet.rollouts.selectors.rollouts import (
    approvals_of,
    attempts_of,
    counts_by_wave,
    evaluations_of,
    events_of,
    failures_by_class,
    get_rollout,
    get_step,
    providers_asked,
    rollouts_in,
    sees_whole,
    steps_of,
    waves_of,
)
from fleet.rollouts.services.planning import plan_rollout
from fleet.rollouts.states import ACTIVE, Failure, RolloutState, StepState
from sites.selectors.access import providers_in

router = Router()
Recipe = Annotated[schemas_plan.Recipe, Body(description="A recipe: see docs/rollouts.md, *A recipe*.")]
_ACTIVE = [str(state) for state in ACTIVE]


# Plans ------------------------------------------------------------------------------------------------------
@router.post("/rollouts/preview", response=schemas_plan.PreviewOut, summary="What a recipe would do")
def preview_rollout(request: ScopedRequest, body: Recipe) -> dict[str, Any]:
    """Waves, notes, who is left out and why, the expected end; nothing is written. 422 for what is no recipe."""
    drafted, found = _drafted(request, body)
    slugs = dict(providers_in(request.who).values_list("pk", "slug"))
    return schemas_plan.preview_out(found, drafted.standard.name, len(drafted.sites), drafted.left_out, slugs)


@router.post("/rollouts", response={201: schemas.RolloutDetailOut}, summary="Plan a rollout")
@idempotent
def create_rollout(request: ScopedRequest, body: Recipe) -> Status[dict[str, Any]]:
    """Make a rollout of a recipe; 422 with the preview's faults where it may not start. Heeds Idempotency-Key."""
    return Status(201, detail(request, _planned(request, body)))


@router.put("/rollouts/{rollout}/plan", response=schemas.RolloutDetailOut, summary="Plan it anew")
def change_plan(request: ScopedRequest, rollout: int, body: schemas_plan.PlanIn) -> dict[str, Any]:
    """Another plan for what was not started: what was approved is void. 409 for another plan than `expect`."""
    row = get_rollout(scope=request.who, pk=rollout)
    return detail(request, _planned(request, body.recipe, row, body.expect))


@router.get("/rollouts/{rollout}/plan", response=schemas_plan.PlanOut, summary="The plan to its last byte")
def exact_plan(request: ScopedRequest, rollout: int) -> dict[str, Any]:
    """What approvals are bound to; for those who see the whole fleet."""
    row = get_rollout(scope=request.who, pk=rollout)
    if not sees_whole(request.who):
        raise NotAllowed("A plan tells of the whole fleet; your role does not allow it.")
    return {"plan_hash": row.plan_hash, "text": row.plan, "recipe": row.recipe}


def _drafted(request: ScopedRequest, recipe: dict[str, Any], row: Rollout | None = None) -> tuple[Drafted, Preview]:
    if not request.rights.may("rollout.plan"):
        raise NotAllowed("Your role does not allow to plan rollouts.")
    now = database_now()
    drafted = draft(request.who, recipe, now, but_rollout=row.pk if row else 0)
    found = preview_of(drafted, now)
    if found is None:
        place = drafted.place or "plan"
        raise Invalid(f"{place}: {drafted.fault}", details={place: drafted.fault})
    return drafted, found


def _planned(request: ScopedRequest, recipe: dict[str, Any], row: Rollout | None = None, expect: str = "") -> Rollout:
    drafted, found = _drafted(request, recipe, row)
    faults = [note for note in found.notes if note.level == "fault"]
    if faults:
        details: dict[str, list[str]] = {}
        for note in faults:
            details.setdefault(note.place or "plan", []).append(note.sentence)
        raise Invalid(" ".join(note.sentence for note in faults), details=details)
    made = plan_rollout(
        actor=request.who,
        rights=request.rights,
        values=drafted.values,
        recipe=drafted.recipe,
        rollout=row,
        expect=expect,
    )
    return get_rollout(scope=request.who, pk=made.pk)


# Rollouts ---------------------------------------------------------------------------------------------------
class RolloutFilters(Schema):
    """Filters of the list; each may be left out. `active`: under way, or not. `standard` is a name."""

    state: RolloutState | None = None
    standard: str = ""
    active: bool | None = None


@router.get("/rollouts", response=schemas.RolloutPage, summary="List rollouts")
def list_rollouts(
    request: ScopedRequest, filters: Query[RolloutFilters], limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Rollouts, newest first; a provider sees those that reach its sites, and counts of these alone."""
    found = rollouts_in(request.who)
    if filters.state is not None:
        found = found.filter(state=filters.state)
    if filters.standard:
        found = found.filter(standard__name=filters.standard)
    if filters.active is not None:
        found = found.filter(state__in=_ACTIVE) if filters.active else found.exclude(state__in=_ACTIVE)
    page = page_of(found, key="-id", limit=limit, cursor=cursor, out=lambda row: {"row": row})
    rows = [item["row"] for item in page["items"]]
    counts, whole = counts_by_wave(request.who, rows), sees_whole(request.who)
    return page | {"items": [schemas.rollout_out(row, counts[row.pk], whole=whole) for row in rows]}


@router.get("/rollouts/{rollout}", response=schemas.RolloutDetailOut, summary="One rollout")
def one_rollout(request: ScopedRequest, rollout: int) -> dict[str, Any]:
    """A rollout with its waves, counts, approvals, and what the caller may do now."""
    return detail(request, get_rollout(scope=request.who, pk=rollout))


def detail(request: ScopedRequest, row: Rollout) -> dict[str, Any]:
    """RolloutDetailOut of a row of rollouts_in()."""
    who, now = request.who, database_now()
    whole = sees_whole(who)
    counts = counts_by_wave(who, [row])[row.pk]
    seen = head(row.pk, now) if whole else None
    return {
        **schemas.rollout_out(row, counts, whole=whole),
        "waves": [schemas.wave_out(wave, counts, whole=whole) for wave in waves_of(row, who)],
        "failures": failures_by_class(who, row),
        "asked": _asked(request, row, seen),
        "approvals": [schemas.approval_out(one, row.plan_hash, now) for one in approvals_of(who, row)],
        "effects": [schemas.effect_out(one, row.pk) for one in offered(who, request.rights, row, seen, now)],
        "plan": schemas_plan.plan_out(seen.plan) if seen else None,
    }


def _asked(request: ScopedRequest, row: Rollout, seen: Head | None) -> dict[str, Any]:
    names = dict(providers_in(request.who).values_list("pk", "slug"))
    providers = [names[pk] for pk in providers_asked(request.who, row) if pk in names]
    if seen is None:
        return {"people": None, "providers": providers, "missing": ""}
    said = verdict(seen.plan, seen.plan_hash, seen.approvals, database_now())
    return {"people": people_needed(seen.plan), "providers": providers, "missing": said.missing(names)}


# Steps ------------------------------------------------------------------------------------------------------
class StepFilters(Schema):
    """Filters of the list; each may be left out. `site` is a slug; waves count from 0; `failure` is a class."""

    state: StepState | None = None
    failure: Failure | None = None
    wave: Annotated[int, Field(ge=0, le=32_767)] | None = None
    lane: bool | None = None
    site: str = ""


@router.get("/rollouts/{rollout}/steps", response=schemas_steps.StepPage, summary="Sites of a rollout")
def list_steps(
    request: ScopedRequest,
    rollout: int,
    filters: Query[StepFilters],
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Sites in the order of their waves, filtered."""
    found = _steps(request, rollout, filters)
    return page_of(found, key="id", limit=limit, cursor=cursor, out=schemas_steps.step_out)


def _steps(request: ScopedRequest, rollout: int, filters: StepFilters) -> QuerySet[SiteStep]:
    found = steps_of(request.who, get_rollout(scope=request.who, pk=rollout))
    exact = filters.dict(exclude={"site"}) | {"site__slug": filters.site or None}
    return found.filter(**{name: value for name, value in exact.items() if value is not None})


@router.get("/rollouts/{rollout}/steps/{slug}", response=schemas_steps.StepDetailOut, summary="One site of a rollout")
def one_step(request: ScopedRequest, rollout: int, slug: str) -> dict[str, Any]:
    """A site with the documents that were given out for it."""
    step = get_step(scope=request.who, rollout=get_rollout(scope=request.who, pk=rollout), slug=slug)
    attempts = [schemas_steps.attempt_out(one) for one in attempts_of(step)]
    return {**schemas_steps.step_out(step), "attempts": attempts}


# What happened ----------------------------------------------------------------------------------------------
@router.get("/rollouts/{rollout}/events", response=schemas_steps.EventPage, summary="What happened in a rollout")
def list_events(
    request: ScopedRequest, rollout: int, site: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first, of one site on request; who does not see the whole fleet reads of their own sites."""
    found = events_of(request.who, get_rollout(scope=request.who, pk=rollout))
    if site:
        found = found.filter(step__site__slug=site)
    whole = sees_whole(request.who)
    return page_of(
        found, key="-id", limit=limit, cursor=cursor, out=lambda row: schemas_steps.event_out(row, whole=whole)
    )


@router.get("/rollouts/{rollout}/evaluations", response=schemas_steps.EvaluationPage, summary="What gates answered")
def list_evaluations(
    request: ScopedRequest, rollout: int, limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Newest first, with all that they saw; for those who see the whole fleet."""
    found = evaluations_of(request.who, get_rollout(scope=request.who, pk=rollout))
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas_steps.evaluation_out)


@router.get("/rollouts/{rollout}/approvals", response=schemas.ApprovalPage, summary="Who said what of a plan")
def list_approvals(request: ScopedRequest, rollout: int) -> dict[str, Any]:
    """Oldest first, those of former plans too; a provider reads the words of its own people."""
    row, now = get_rollout(scope=request.who, pk=rollout), database_now()
    found = [schemas.approval_out(one, row.plan_hash, now) for one in approvals_of(request.who, row)]
    return {"items": found, "next": None}
