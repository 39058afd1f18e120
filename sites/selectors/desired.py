"""What sites are told to run: what is to be signed, handed over or asked, and how far they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connections
from django.db.models import Count, Q, QuerySet

from agent.protocol.desired import Document
from fleet.kit.errors import Conflict, DomainError, NotFound
from fleet.kit.prepared import prepared
from fleet.kit.tenancy import DEFAULT, Scope, job, scope
from sites.addresses import Network
from sites.models import Blob, DesiredDocument, DesiredReceipt, Site, SiteDesired
from sites.selectors.access import inside
from sites.selectors.polling import networks_of
from sites.states import Answer, BlobKind, Life
from sites.wire import Peer

DELIVERY = job("delivery")
UNDONE = ("failed", "rolled_back")

# A version is signed only for the site's own provider, after all the versions before it, and never while the counters
# of a restored database have not been told by the site.
_TO_SIGN = """
SELECT d.id, d.epoch, d.version, d.prev_sha256, d.content, d.hold, d.issued_at, d.expires_at, s.uuid, s.provider_id,
    d.provider_id = s.provider_id, t.recovering, s.life, d.withdrawn_at IS NULL,
    (d.epoch, d.version) = (t.epoch, t.version)
FROM edge_sites_desireddocument d
JOIN edge_sites_site s ON s.id = d.site_id
JOIN edge_sites_sitedesired t ON t.site_id = d.site_id
WHERE d.id = ANY(%s)
"""

_DUE = """
FROM edge_sites_sitedesired t
JOIN edge_sites_site s ON s.id = t.site_id
JOIN edge_sites_sitestate e ON e.site_id = s.id
JOIN edge_sites_provider p ON p.id = s.provider_id
JOIN edge_sites_pollschedule c ON c.site_id = s.id
JOIN edge_sites_pollershard h ON h.shard = c.shard AND h.poller = %s
JOIN edge_sites_siteidentity i ON i.site_id = s.id AND i.state = 'accepted'
LEFT JOIN edge_sites_desireddocument d ON d.id = t.document_id
WHERE t.due_at <= now() AND s.life = 'active' AND s.tls_pin <> '' AND e.reachability = 'reachable' AND e.misses = 0
    AND s.tls_name LIKE '%%.p' || s.provider_id || '.sites.%%'
"""

# A document of the site's earlier provider is never signed: it is given out anew instead.
_IS_UNSIGNED = """(d.id IS NOT NULL AND d.envelope IS NULL AND d.provider_id = s.provider_id AND NOT t.recovering
    AND d.withdrawn_at IS NULL)"""

_UNSIGNED = f"SELECT d.id {_DUE} AND {_IS_UNSIGNED} ORDER BY t.due_at, s.id LIMIT %s"

_DELIVERIES = f"""
SELECT s.id, s.uuid, s.provider_id, s.address, s.tls_name, s.tls_pin, p.allowed_networks::text,
    CASE WHEN c.gateway_until > now() THEN c.gateway ELSE '' END, i.id, i.signing_key, t.document_id, d.epoch,
    d.version, CASE WHEN d.withdrawn_at IS NULL THEN d.envelope END, t.answer,
    t.recovering, t.reported_epoch, t.reported_version, t.tries,
    d.provider_id IS DISTINCT FROM s.provider_id
{_DUE} AND NOT {_IS_UNSIGNED} ORDER BY t.due_at, s.id LIMIT %s
"""  # noqa: S608  (constants)


def documents_to_sign(document_ids: Sequence[int]) -> dict[int, Document | DomainError]:
    """The documents of these rows, as the signer signs them, or why it must not. Reads within the open scope."""
    found: dict[int, Document | DomainError] = {pk: NotFound("there is no such document") for pk in document_ids}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_TO_SIGN, [list(document_ids)])
        for pk, *row in cursor.fetchall():
            found[pk] = _to_sign(*row)
    return found


def _to_sign(*row: Any) -> Document | DomainError:
    *fields, own, recovering, life, standing, newest = row
    if not own:
        return Conflict("the document belongs to the site's earlier provider")
    if recovering:
        return Conflict("the site has not told its counters since the database was restored")
    if life != "active":
        return Conflict("the site is not active")
    if not standing:
        return Conflict("the document was withdrawn")
    if not newest:
        return Conflict("a newer version of the document was given out")
    try:
        return document_of(*fields)
    except Conflict as error:
        return error


def document_of(
    epoch: int,
    version: int,
    prev_sha256: str,
    content: Any,
    hold: bool,
    issued_at: Any,
    expires_at: Any,
    site: UUID,
    provider_id: int,
) -> Document:
    """The document of a row's values. Raises Conflict for content that is none."""
    fields: Mapping[str, Any] = msgspec.json.decode(content) if isinstance(content, str) else content
    try:
        return msgspec.convert(
            {
                **fields,
                "fleet": settings.FLEET_NAME,
                "provider": provider_id,
                "site": site,
                "epoch": epoch,
                "version": version,
                "prev_sha256": prev_sha256 or None,
                "issued_at": issued_at,
                "expires_at": expires_at,
                "hold": hold,
            },
            Document,
        )
    except msgspec.ValidationError as error:
        raise Conflict(f"the document is not one: {error}") from None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A site with something to hand over or to ask. `envelope` is None where there is no document to hand over.

    `handed_over`: the document names the site's earlier provider, and is to be given out anew.
    """

    site_id: int
    uuid: UUID
    provider_id: int
    peer: Peer
    networks: Sequence[Network]
    identity_id: int
    signing_key: bytes
    document_id: int | None
    document: tuple[int, int] | None
    envelope: bytes | None
    answer: str
    recovering: bool
    reported: tuple[int, int]
    tries: int
    handed_over: bool


def deliveries(*, poller: int, limit: int) -> list[Delivery]:
    """Up to `limit` sites of this poller that are due, the longest due first, but not those that wait for a signature.

    Opens its own scope.
    """
    with scope(DELIVERY):
        return [
            Delivery(
                site_id=row[0],
                uuid=row[1],
                provider_id=row[2],
                peer=Peer(row[3], row[4], row[5], row[7]),
                networks=networks_of(row[6]),
                identity_id=row[8],
                signing_key=bytes(row[9]),
                document_id=row[10],
                document=None if row[10] is None else (row[11], row[12]),
                envelope=None if row[13] is None else bytes(row[13]),
                answer=row[14],
                recovering=row[15],
                reported=(row[16], row[17]),
                tries=row[18],
                handed_over=row[10] is not None and row[19],
            )
            for row in prepared(_DELIVERIES, [poller, limit])
        ]


def to_sign(*, poller: int, limit: int) -> list[int]:
    """Up to `limit` documents for sites of this poller that are to be signed, the longest due first.

    Opens its own scope.
    """
    with scope(DELIVERY):
        return [pk for (pk,) in prepared(_UNSIGNED, [poller, limit])]


def unsigned(document_ids: Sequence[int]) -> dict[int, Document]:
    """The documents of these rows that are not signed yet, as the signer will see them. Opens its own scope."""
    with scope(DELIVERY):
        rows = DesiredDocument.objects.filter(pk__in=document_ids, envelope=None).select_related("site")
        return {
            row.pk: document_of(
                row.epoch,
                row.version,
                row.prev_sha256,
                row.content,
                row.hold,
                row.issued_at,
                row.expires_at,
                row.site.uuid,
                row.provider_id,
            )
            for row in rows
        }


def blobs(digests: Sequence[str]) -> dict[str, bytes]:
    """The bytes of these blobs, by digest; those that are not there are left out. Opens its own scope."""
    with scope(DELIVERY):
        return {row.digest: bytes(row.body) for row in Blob.objects.filter(digest__in=digests)}


# One site ---------------------------------------------------------------------------------------------------
def desired_of(site: Site) -> SiteDesired | None:
    """How far a site that get_site() handed out is with what it was told, with its newest document."""
    found = SiteDesired.objects.filter(site=site).select_related("document").defer("document__envelope")
    return found.first()


def documents_in(site: Site) -> QuerySet[DesiredDocument]:
    """Documents of a site, without their envelopes."""
    return DesiredDocument.objects.filter(site=site).defer("envelope")


def documents_of(site: Site, *, before: int | None = None, limit: int = 20) -> list[DesiredDocument]:
    """Documents of a site, newest first, without their envelopes; from id `before` down."""
    found = documents_in(site)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.order_by("-pk")[:limit])


def get_document(site: Site, version: str) -> DesiredDocument:
    """The document of a site by `epoch.version`, with its envelope. Raises NotFound."""
    epoch, _, number = version.partition(".")
    found = None
    if _is_count(epoch) and _is_count(number):
        found = DesiredDocument.objects.filter(site=site, epoch=int(epoch), version=int(number)).first()
    if found is None:
        raise NotFound("There is no such document of this site.")
    return found


def receipts_in(site: Site) -> QuerySet[DesiredReceipt]:
    """Receipts of a site, without their envelopes."""
    found = DesiredReceipt.objects.filter(site=site).select_related("document")
    return found.defer("envelope", "document__envelope")


def receipts_of(site: Site, *, limit: int = 50) -> list[DesiredReceipt]:
    """Receipts of a site, newest first, without their envelopes."""
    return list(receipts_in(site).order_by("-received_at", "-pk")[:limit])


def get_receipt(site: Site, number: str) -> DesiredReceipt:
    """A receipt of a site by its number, with its envelope. Raises NotFound."""
    found = DesiredReceipt.objects.filter(site=site, pk=int(number)).first() if _is_count(number) else None
    if found is None:
        raise NotFound("There is no such receipt of this site.")
    return found


def standing_of(site: Site, standing: SiteDesired | None) -> DesiredDocument | None:
    """The document that says what the site runs now, as far as is known: the newest, unless that came to nothing.

    Then it is the one that the site says it has, and where that was undone too, the newest that it has applied by its
    own receipt; None where there is none.
    """
    if standing is None or standing.document is None:
        return None
    if not came_to_nothing(standing):
        return standing.document
    if standing.reported_state not in UNDONE:
        says = documents_in(site).filter(epoch=standing.reported_epoch, version=standing.reported_version)
        found = says.exclude(pk=standing.document.pk).first()
        if found is not None:
            return found
    applied = DesiredReceipt.objects.filter(site=site, state="applied").exclude(document=None)
    receipt = applied.select_related("document").defer("envelope", "document__envelope").order_by("-pk").first()
    return receipt.document if receipt else None


def came_to_nothing(standing: SiteDesired) -> bool:
    """Whether the newest document was refused, by the signer or the site, or undone."""
    document = standing.document
    if document is None:
        return False
    is_told = (standing.reported_epoch, standing.reported_version) == (document.epoch, document.version)
    return was_refused(standing) or (is_told and standing.reported_state in UNDONE)


def was_refused(standing: SiteDesired) -> bool:
    """Whether the newest document was refused, by signer or site, or withdrawn: nothing that it says is in force."""
    document = standing.document
    if document is None:
        return False
    return bool(document.refused) or document.withdrawn_at is not None or standing.answer == Answer.REFUSED


def is_unknown_here(standing: SiteDesired | None) -> bool:
    """Whether the site has a version that the database does not: after a restore of an older backup."""
    if standing is None or standing.document is None or standing.recovering:
        return False
    newest = (standing.document.epoch, standing.document.version)
    return (standing.reported_epoch, standing.reported_version) > newest


def configs_of(who: Scope, contents: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """The configurations that these contents name, by digest; none for a viewer of some providers only.

    Blobs are the fleet's, and row-level security gives their bytes to whoever sees all of it.
    """
    named = {one.get("config_sha256") for content in contents for one in content.get("workloads", [])} - {None}
    if not named or not who.wide:
        return {}
    found = Blob.objects.filter(digest__in=named, kind=BlobKind.CONFIG).only("digest", "body")
    return {row.digest: bytes(row.body) for row in found}


def blob_list() -> QuerySet[Blob]:
    """Every blob by what a viewer of some providers may know of it too."""
    return Blob.objects.only("digest", "kind", "size")


def wheels() -> list[Blob]:
    """Wheels of the agent."""
    return list(blob_list().filter(kind=BlobKind.WHEEL).order_by("digest"))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


# After a restore --------------------------------------------------------------------------------------------
def recovering_in(who: Scope) -> QuerySet[SiteDesired]:
    """Sites that have not told their counters since the database was restored."""
    found = SiteDesired.objects.filter(recovering=True, site__life=Life.ACTIVE).select_related("site", "site__provider")
    return found.filter(inside(who.limits, prefix="site__")) if who.limited else found


@dataclass(frozen=True, slots=True)
class Recovery:
    """How far the recovery after a restore is: `told` of `total` sites have told their counters."""

    told: int
    total: int


def recovery_of(who: Scope) -> Recovery | None:
    """How far it is among the sites that the viewer may see; None while none recovers. One query."""
    found = SiteDesired.objects.filter(site__life=Life.ACTIVE)
    if who.limited:
        found = found.filter(inside(who.limits, prefix="site__"))
    counts = found.aggregate(total=Count("pk"), left=Count("pk", filter=Q(recovering=True)))
    return Recovery(counts["total"] - counts["left"], counts["total"]) if counts["left"] else None
