"""Giving out versions of what sites run: by people, one site at a time, and in bulk. Nothing here signs or sends.

A version is a row; the deliverer beside the pollers has it signed and hands it over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from agent.protocol import ProtocolError
from agent.protocol.desired import (
    MAX_BLOB_BYTES,
    Document,
    WorkloadConfig,
    blobs_of,
    decode_config,
    digest,
    encode_config,
    encode_document,
)
from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.rows import write_back, write_new
from fleet.kit.tenancy import Rights, Scope, scope
from sites.drafts import Draft
from sites.models import Blob, DesiredDocument, Site, SiteDesired
from sites.selectors.desired import document_of, is_unknown_here, standing_of, was_refused
from sites.services.sites import allow, lock, object_of
from sites.states import BlobKind, Life

VALID_FOR = timedelta(days=7)
# What a document is given out with; the rest comes with its signature and its way to the site.
_GIVEN_OUT = (
    *("site", "provider", "epoch", "version", "prev_sha256", "content", "hold", "issued_at", "expires_at"),
    *("reason", "made_by", "sha256", "refused"),
)
EMPTY: Mapping[str, Any] = {
    "standard": None,
    "workloads": [],
    "agent": None,
    "os": None,
    "policy": {},
    "rollout": None,
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a site is to run: `content` as in DesiredDocument; members that are left out are as in EMPTY.

    `expires_at`: VALID_FOR from now where it is None.
    """

    site: Site
    content: Mapping[str, Any]
    hold: bool = False
    expires_at: datetime | None = None


def put_config(*, actor: Scope, rights: Rights, config: Mapping[str, Any]) -> str:
    """Keep a workload's configuration; returns its digest. The same one again changes nothing.

    Raises NotAllowed, Invalid.
    """
    _allow_blobs(rights)
    try:
        body = encode_config(msgspec.convert(dict(config), WorkloadConfig))
        decode_config(body)
    except (ProtocolError, msgspec.ValidationError) as error:
        raise Invalid(f"This is no configuration of a workload: {error}", details={"config": "invalid"}) from None
    return _put_blob(actor, BlobKind.CONFIG, body)


def put_wheel(*, actor: Scope, rights: Rights, body: bytes) -> str:
    """Keep a wheel of the agent; returns its digest. Raises NotAllowed, Invalid."""
    _allow_blobs(rights)
    if not body.startswith(b"PK") or len(body) > MAX_BLOB_BYTES:
        raise Invalid("This is no wheel of at most 16 MiB.", details={"wheel": "invalid"})
    return _put_blob(actor, BlobKind.WHEEL, body)


def _allow_blobs(rights: Rights) -> None:
    if not rights.may("blob.put"):
        raise NotAllowed("Configurations and wheels are the fleet's; your role does not allow this.")


def _put_blob(actor: Scope, kind: BlobKind, body: bytes) -> str:
    name = digest(body)
    with scope(actor):
        blob = Blob(digest=name, kind=kind, size=len(body), body=body, made_by=actor.name[:150])
        if not Blob.objects.filter(digest=name).exists():
            Blob.objects.bulk_create([blob], ignore_conflicts=True)
            audit.record(
                actor,
                "blob.put",
                object_type="blob",
                object_id=name.removeprefix("sha256:"),
                object_name=f"{kind} {name[:19]}",
                provider_id=None,
                after={"size": len(body)},
            )
    return name


def apply(
    *, actor: Scope, rights: Rights, site: Site, content: Mapping[str, Any], reason: str, expect: int | None = None
) -> DesiredDocument:
    """Give one site the next version of what it runs. Audited.

    `expect` is the version that the orderer saw as the newest: another one since is a Conflict. Raises NotAllowed,
    Invalid (no document, a blob that is not here), Conflict (not active, the version before is not signed yet,
    counters not known since a restore).
    """
    reason = _reason(reason)
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.apply", locked)
        standing = SiteDesired.objects.filter(site=locked).first()
        if expect is not None and (standing.version if standing else 0) != expect:
            raise Conflict("Somebody else has given this site another version meanwhile; look at it first.")
        hold = standing.document.hold if standing and standing.document else False
        (document,) = give_out([Order(locked, content, hold)], made_by=actor.name, reason=reason, now=database_now())
        audit.record(
            actor,
            "site.apply",
            **object_of(locked),
            after={"version": f"{document.epoch}.{document.version}", "content": document.content},
            note=reason,
        )
        _tell(locked)
    return document


def apply_draft(
    *, actor: Scope, rights: Rights, site: Site, draft: Draft, reason: str, expect: int | None = None
) -> DesiredDocument:
    """The same for a draft: the configurations that are written in it are kept, where they are not yet.

    All or nothing. Raises what apply() and put_config() raise; a new configuration needs the right to keep one.
    """
    with scope(actor):
        allow(rights, "site.apply", lock(site))
        keep_configs(actor=actor, rights=rights, configs=draft.configs)
        return apply(actor=actor, rights=rights, site=site, content=draft.content, reason=reason, expect=expect)


def keep_configs(*, actor: Scope, rights: Rights, configs: Mapping[str, bytes]) -> None:
    """Keep the configurations of a draft, by digest, where they are not yet.

    Writes within the open scope. Raises NotAllowed where there is a new one and the right to keep it is not there.
    """
    known = set(Blob.objects.filter(digest__in=list(configs)).values_list("digest", flat=True))
    for name, body in configs.items():
        if name not in known:
            _allow_blobs(rights)
            _put_blob(actor, BlobKind.CONFIG, body)


def set_hold(*, actor: Scope, rights: Rights, site: Site, hold: bool, reason: str) -> DesiredDocument:
    """Freeze what a site runs (`hold`), or thaw it: the next version says so, and repeats what stands. Audited.

    Running workloads go on; what was refused or undone is not tried again. Raises NotAllowed, Invalid, Conflict.
    """
    reason = _reason(reason)
    with scope(actor):
        locked = lock(site)
        allow(rights, "site.hold", locked)
        standing = SiteDesired.objects.select_related("document").filter(site=locked).first()
        if standing is None or standing.document is None:
            raise Conflict("This site was never told what to run; there is nothing to freeze.")
        if standing.document.hold == hold and not was_refused(standing):
            raise Conflict(f"It is {'frozen' if hold else 'not frozen'} already.")
        order = Order(locked, _content_that_stands(locked, standing), hold)
        (document,) = give_out([order], made_by=actor.name, reason=reason, now=database_now())
        after = {"version": f"{document.epoch}.{document.version}", "hold": hold}
        audit.record(actor, "site.freeze" if hold else "site.thaw", **object_of(locked), after=after, note=reason)
        _tell(locked)
    return document


def _content_that_stands(site: Site, standing: SiteDesired) -> Mapping[str, Any]:
    """What a version that only freezes or thaws must repeat, so that the site changes nothing. Raises Conflict."""
    if standing.recovering:
        raise Conflict(f"{site.name} has not told its counters since the database was restored.")
    if is_unknown_here(standing):  # to repeat what is known would undo what is not
        number = f"{standing.reported_epoch}.{standing.reported_version}"
        raise Conflict(f"{site.name} has version {number}, which is not known here; apply a document to it first.")
    stands = standing_of(site, standing)
    if stands is None:
        raise Conflict(
            f"The newest version came to nothing, and {site.name} has applied none before it; apply one first."
        )
    return stands.content  # type: ignore[no-any-return]  # JSON that _next() has checked


def give_out(
    orders: Sequence[Order],
    *,
    made_by: str,
    reason: str,
    now: datetime,
    standing: Mapping[int, SiteDesired] | None = None,
) -> list[DesiredDocument]:
    """The next version for each of these sites, within the open scope; sites must differ. The caller audits.

    Locks their SiteDesired in the order of their ids, unless the caller has: `standing`, by site, from
    lock_standing(). Raises Invalid, Conflict, having changed nothing.
    """
    by_site = {order.site.pk: order for order in orders}
    if len(by_site) != len(orders):
        raise ValueError("one order a site")
    locked = lock_standing([order.site for order in orders]) if standing is None else standing
    rows = {pk: row for pk, row in locked.items() if pk in by_site}
    documents = [_next(by_site[pk], row, made_by, reason, now) for pk, row in rows.items()]
    _check_blobs(documents)
    made = [row for row, _ in documents]
    write_new(made, _GIVEN_OUT)
    for document in made:
        row = rows[document.site_id]
        row.version, row.document, row.due_at, row.tries = document.version, document, now, 0
        row.answer = row.answer_reason = row.answer_detail = ""
        row.answered_at, row.done, row.total = None, 0, 0
    fields = ["version", "document", "due_at", "tries", "answer", "answer_reason", "answer_detail", "answered_at"]
    write_back(rows.values(), [*fields, "done", "total"])
    return made


def lock_standing(sites: Sequence[Site]) -> dict[int, SiteDesired]:
    """How far these sites are, by id, in the order of ids: locked, and made where there is none, in the open scope."""
    found = _locked_standing(sites)
    new = [SiteDesired(site=site, provider_id=site.provider_id) for site in sites if site.pk not in found]
    if new:
        SiteDesired.objects.bulk_create(new, ignore_conflicts=True, batch_size=1000)
        found = _locked_standing(sites)
    return found


def _locked_standing(sites: Sequence[Site]) -> dict[int, SiteDesired]:
    standing = SiteDesired.objects.select_for_update(of=("self",)).select_related("document")
    found = standing.filter(site__in=[site.pk for site in sites]).order_by("site_id")
    return {row.site_id: row for row in found}


def is_unsigned(row: SiteDesired) -> bool:
    """Whether the newest document waits for its signature: until it has it, there is no other."""
    document = row.document
    return document is not None and document.envelope is None and not document.refused and document.withdrawn_at is None


def _next(order: Order, row: SiteDesired, made_by: str, reason: str, now: datetime) -> tuple[DesiredDocument, Document]:
    site = order.site
    if site.life != Life.ACTIVE:
        raise Conflict(f"{site.name} is not active.")
    if row.recovering:
        raise Conflict(f"{site.name} has not told its counters since the database was restored.")
    if is_unsigned(row):
        raise Conflict(f"The version before of {site.name} is not signed yet; try again in a moment.")
    unknown = set(order.content) - set(EMPTY)
    if unknown:
        raise Invalid(f"A document has no member {min(unknown)!r}.", details={min(unknown): "unknown"})
    made = DesiredDocument(
        site=site,
        provider_id=site.provider_id,
        epoch=row.epoch,
        version=row.version + 1,
        prev_sha256=row.last_sha256,
        content={**EMPTY, **order.content},
        hold=order.hold,
        issued_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        expires_at=(order.expires_at or now + VALID_FOR).replace(microsecond=0),
        reason=reason,
        made_by=made_by[:150],
    )
    try:
        document = document_of(
            made.epoch,
            made.version,
            made.prev_sha256,
            made.content,
            made.hold,
            made.issued_at,
            made.expires_at,
            site.uuid,
            site.provider_id,
        )
        encode_document(document)
    except (Conflict, ProtocolError) as error:
        raise Invalid(str(error), details={"document": "invalid"}) from None
    return made, document


def _check_blobs(documents: Sequence[tuple[DesiredDocument, Document]]) -> None:
    named = {name for _, document in documents for name in blobs_of(document)}
    missing = named - set(Blob.objects.filter(digest__in=named).values_list("digest", flat=True))
    if missing:
        raise Invalid(f"There is no blob {min(missing)} here; put it first.", details={"blobs": sorted(missing)})


def _reason(text: str) -> str:
    reason = text.strip()
    if not 3 <= len(reason) <= 300 or not reason.isprintable():
        raise Invalid("Say why, in 3 to 300 characters on one line.", details={"reason": "missing"})
    return reason


def _tell(site: Site) -> None:
    live.publish(hints=[(("site", site.pk), site.provider_id)])
