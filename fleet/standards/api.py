"""API operations on standards and rings."""

from typing import Any

from ninja import Router
from ninja.responses import Status

from fleet.kit.api import page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.kit.idempotency import idempotent
from fleet.standards import schemas
from fleet.standards.contents import architectures_of, changes_between, read_value
from fleet.standards.models import Ring, Standard
from fleet.standards.reading import read_text
from fleet.standards.selectors.judgement import outcome_of
from fleet.standards.selectors.standards import (
    bodies_of,
    content_of_site,
    current_standards,
    get_ring,
    get_standard,
    history_of,
    rings_in,
    standards_in,
)
from fleet.standards.services import rings, standards
from sites.drafts import Draft, DraftError
from sites.selectors.access import get_provider, get_site, providers_in

router = Router()


# Standards --------------------------------------------------------------------------------------------------
@router.get("/standards", response=schemas.StandardPage, summary="List standards")
def list_standards(
    request: ScopedRequest, state: str = "", limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Standards, newest first; a provider sees those that its sites follow, or did."""
    found = standards_in(request.who)
    if state:
        found = found.filter(state=state)
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.standard_out)


@router.post("/standards", response={201: schemas.StandardDetailOut}, summary="Make a standard")
@idempotent
def create_standard(request: ScopedRequest, body: schemas.StandardIn) -> Status[dict[str, Any]]:
    """Make a draft, of content, a text of JSON or YAML, or what a site runs now. Heeds Idempotency-Key."""
    values = body.dict(include={"name", "notes", "severity", "deadline_h", "extras"})
    draft = _draft(request, body)
    made = standards.create_standard(actor=request.who, rights=request.rights, draft=draft, values=values)
    return Status(201, _detail(made))


@router.get("/standards/{standard}", response=schemas.StandardDetailOut, summary="One standard")
def one_standard(request: ScopedRequest, standard: str) -> dict[str, Any]:
    """A standard with its exact content."""
    return _detail(get_standard(scope=request.who, name=standard))


@router.patch("/standards/{standard}", response=schemas.StandardDetailOut, summary="Change a draft")
def change_standard(request: ScopedRequest, standard: str, body: schemas.StandardChange) -> dict[str, Any]:
    """Change what is given; 409 for what is published, or another content than `expect`."""
    row = get_standard(scope=request.who, name=standard)
    values = body.dict(exclude_unset=True, exclude={"expect", "content"})
    kept = {name: value for name, value in values.items() if value is not None or name == "deadline_h"}
    draft = _read(body.content) if body.content is not None else Draft(row.content)
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights}
    changed = standards.change_standard(**common, standard=row, draft=draft, values=kept, expect=body.expect)
    return _detail(changed)


@router.delete("/standards/{standard}", response={204: None}, summary="Throw a draft away")
def delete_standard(request: ScopedRequest, standard: str) -> Status[None]:
    """Only drafts go; what was published is kept."""
    row = get_standard(scope=request.who, name=standard)
    standards.delete_standard(actor=request.who, rights=request.rights, standard=row)
    return Status(204, None)


@router.post("/standards/{standard}/publish", response=schemas.StandardDetailOut, summary="Publish a standard")
@dangerous("standard.publish")
def publish_standard(request: ScopedRequest, standard: str, body: schemas.ExpectIn) -> dict[str, Any]:
    """From now on it stays as it is, and rings may have it; 409 for another content than `expect`."""
    row = get_standard(scope=request.who, name=standard)
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights}
    return _detail(standards.publish_standard(**common, standard=row, expect=body.expect))


@router.post("/standards/{standard}/withdraw", response=schemas.StandardDetailOut, summary="Withdraw a standard")
@dangerous("standard.withdraw")
def withdraw_standard(request: ScopedRequest, standard: str, body: schemas.WhyIn) -> dict[str, Any]:
    """No ring may have it from now on; 409 while one has."""
    row = get_standard(scope=request.who, name=standard)
    common: dict[str, Any] = {"actor": request.who, "rights": request.rights}
    return _detail(standards.withdraw_standard(**common, standard=row, reason=body.reason))


@router.get("/standards/{standard}/diff", response=schemas.DiffOut, summary="The difference of two standards")
def diff_standards(request: ScopedRequest, standard: str, to: str) -> dict[str, Any]:
    """What the standard `to` changes of this one, exactly and in words."""
    before, after = (get_standard(scope=request.who, name=name) for name in (standard, to))
    found = changes_between(before.content, after.content, bodies_of(request.who, before, after))
    items = [
        {
            "kind": one.kind,
            "name": one.name,
            "verb": one.verb,
            "words": one.words,
            "lines": [[line.what, line.before, line.after] for line in one.lines],
        }
        for one in found
    ]
    return {"before": before.name, "to": after.name, "items": items}


def _draft(request: ScopedRequest, body: schemas.StandardIn) -> Draft:
    given = [name for name in ("content", "text", "site") if getattr(body, name) is not None]
    if len(given) != 1:
        raise Invalid("Give one of content, text and site.", details={"content": "give one of these"})
    if body.site is not None:
        content, _ = content_of_site(request.who, get_site(scope=request.who, slug=body.site))
        return _read(content)
    if body.text is not None:
        try:
            return read_text(body.text, body.form)
        except DraftError as error:
            raise Invalid(str(error), details={"text": str(error)}) from None
    return _read(body.content)


def _read(content: Any) -> Draft:
    try:
        return read_value(content)
    except DraftError as error:
        raise Invalid(str(error), details={"content": str(error)}) from None


def _detail(row: Standard) -> dict[str, Any]:
    return {
        **schemas.standard_out(row),
        "content": row.content,
        "architectures": list(architectures_of(row.content)),
    }


# Rings ------------------------------------------------------------------------------------------------------
@router.get("/rings", response=schemas.RingPage, summary="List rings")
def list_rings(request: ScopedRequest) -> dict[str, Any]:
    """Rings in the order in which they are asked; a provider sees those of its own sites."""
    return {"items": _rings(request, list(rings_in(request.who))), "next": None}


@router.post("/rings", response={201: schemas.RingOut}, summary="Make a ring")
@idempotent
def create_ring(request: ScopedRequest, body: schemas.RingIn) -> Status[dict[str, Any]]:
    """Make a ring, the last in the order. Heeds Idempotency-Key."""
    values = _values(request, body.dict())
    return Status(201, _ring(request, rings.save_ring(actor=request.who, rights=request.rights, values=values)))


@router.post("/rings/order", response=schemas.RingPage, summary="Order the rings")
def order_rings(request: ScopedRequest, body: schemas.OrderIn) -> dict[str, Any]:
    """Put all rings into this order; a site follows the first that holds it."""
    rings.order_rings(actor=request.who, rights=request.rights, slugs=body.rings)
    return list_rings(request)


@router.patch("/rings/{ring}", response=schemas.RingOut, summary="Change a ring")
def change_ring(request: ScopedRequest, ring: str, body: schemas.RingChange) -> dict[str, Any]:
    """Change what is given."""
    row = get_ring(scope=request.who, slug=ring)
    given = {name: value for name, value in body.dict(exclude_unset=True).items() if value is not None}
    values = _values(request, given)
    return _ring(request, rings.save_ring(actor=request.who, rights=request.rights, values=values, ring=row))


@router.delete("/rings/{ring}", response={204: None}, summary="Remove a ring")
def delete_ring(request: ScopedRequest, ring: str) -> Status[None]:
    """Only one that never had a standard; 409 otherwise."""
    row = get_ring(scope=request.who, slug=ring)
    rings.delete_ring(actor=request.who, rights=request.rights, ring=row)
    return Status(204, None)


@router.get("/rings/{ring}/history", response=schemas.SpanPage, summary="What a ring has had")
def ring_history(request: ScopedRequest, ring: str) -> dict[str, Any]:
    """Newest first."""
    found = history_of(get_ring(scope=request.who, slug=ring))
    return {"items": [schemas.span_out(row, wide=request.who.wide) for row in found], "next": None}


@router.get("/rings/{ring}/outcome", response=schemas.OutcomeOut, summary="What a standard would do to a ring")
def ring_outcome(request: ScopedRequest, ring: str, standard: str) -> dict[str, Any]:
    """How the ring's sites would compare with the standard, in numbers; nothing is written."""
    row = get_ring(scope=request.who, slug=ring)
    chosen = get_standard(scope=request.who, name=standard)
    if not request.rights.may("ring.change"):
        raise NotAllowed("This counts the whole fleet; your role does not allow it.")
    found = outcome_of(ring_id=row.pk, standard_id=chosen.pk)
    return {name: getattr(found, name) for name in schemas.OutcomeOut.model_fields}


@router.post("/rings/{ring}/standard", response=schemas.RingOut, summary="Give a ring a standard")
@dangerous("ring.standard")
def give_standard(request: ScopedRequest, ring: str, body: schemas.GiveIn) -> dict[str, Any]:
    """From now on its sites are compared with this one; nothing is sent to them. 409 for another than `expect`."""
    row = get_ring(scope=request.who, slug=ring)
    names = (body.standard, body.expect)
    chosen, seen = (get_standard(scope=request.who, name=name) if name else None for name in names)
    rings.set_ring_standard(
        actor=request.who,
        rights=request.rights,
        ring=row,
        standard=chosen,
        reason=body.reason,
        expect=seen.pk if seen else None,
    )
    return _ring(request, row)


def _values(request: ScopedRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Values of a ring, with providers by id."""
    if "providers" in given:
        given["providers"] = [get_provider(scope=request.who, slug=slug).pk for slug in given["providers"]]
    return given


def _ring(request: ScopedRequest, row: Ring) -> dict[str, Any]:
    return _rings(request, [row])[0]


def _rings(request: ScopedRequest, found: list[Ring]) -> list[dict[str, Any]]:
    standing = current_standards(found)
    slugs = dict(providers_in(request.who).values_list("pk", "slug"))
    wide = request.who.wide
    return [schemas.ring_out(row, standing.get(row.pk), slugs, wide=wide) for row in found]
