"""API operations on what sites are told to run: versions, receipts, freezes; and the blobs that versions name."""

import json
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse
from ninja import Router
from ninja.responses import Status

from agent.protocol.desired import DOCUMENT_TYPE, MAX_BLOB_BYTES, RECEIPT_TYPE
from fleet.kit.api import page_of
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from sites import schemas_desired as schemas
from sites.models import Site
from sites.schemas_identity import ReasonIn
from sites.selectors.access import get_site
from sites.selectors.desired import (
    blob_list,
    desired_of,
    documents_in,
    get_document,
    get_receipt,
    receipts_in,
)
from sites.services import desired

router = Router()
_OCTETS = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}}


@router.get("/sites/{slug}/desired", response=schemas.DesiredOut, summary="Where a site stands with what it was told")
def state(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """The newest version, whether it is signed, what the site said to it, and how far the site is."""
    return _out(get_site(scope=request.who, slug=slug))


@router.post("/sites/{slug}/desired", response={201: schemas.DesiredOut}, summary="Apply a document")
@dangerous("site.apply")
def apply(request: ScopedRequest, slug: str, body: schemas.ApplyIn) -> Status[dict[str, Any]]:
    """Give the site its next version; 409 when another one than `expect` is the newest, or it is not to be had now."""
    site = get_site(scope=request.who, slug=slug)
    desired.apply(
        actor=request.who,
        rights=request.rights,
        site=site,
        content=body.content,
        reason=body.reason,
        expect=body.expect,
    )
    return Status(201, _out(site))


@router.post("/sites/{slug}/desired/freeze", response=schemas.DesiredOut, summary="Freeze what a site runs")
@dangerous("site.freeze")
def freeze(request: ScopedRequest, slug: str, body: ReasonIn) -> dict[str, Any]:
    """The next version says `hold`: what runs goes on, and changes stop at the next safe point."""
    return _hold(request, slug, body, hold=True)


@router.post("/sites/{slug}/desired/thaw", response=schemas.DesiredOut, summary="Thaw what a site runs")
@dangerous("site.thaw")
def thaw(request: ScopedRequest, slug: str, body: ReasonIn) -> dict[str, Any]:
    """End a freeze: the site goes on to the newest document."""
    return _hold(request, slug, body, hold=False)


@router.get("/sites/{slug}/desired/documents", response=schemas.DocumentPage, summary="List a site's documents")
def documents(request: ScopedRequest, slug: str, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Every version that was given out, newest first, without content."""
    found = documents_in(get_site(scope=request.who, slug=slug))
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.document_out)


@router.get("/sites/{slug}/desired/documents/{version}", response=schemas.DocumentDetailOut, summary="One document")
def document(request: ScopedRequest, slug: str, version: str) -> dict[str, Any]:
    """A version (`1.7`) with its content."""
    return schemas.document_detail_out(get_document(get_site(scope=request.who, slug=slug), version))


@router.get("/sites/{slug}/desired/documents/{version}/envelope", summary="A document as it was signed")
def document_envelope(request: ScopedRequest, slug: str, version: str) -> HttpResponse:
    """The very bytes that the site is handed; 409 until they are signed."""
    site = get_site(scope=request.who, slug=slug)
    found = get_document(site, version)
    if found.envelope is None:
        raise Conflict("This version is not signed.")
    return envelope(bytes(found.envelope), f"{site.slug}-desired-{version}.json", DOCUMENT_TYPE)


@router.get("/sites/{slug}/desired/receipts", response=schemas.ReceiptPage, summary="List a site's receipts")
def receipts(request: ScopedRequest, slug: str, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """What the site signed about its documents, newest first."""
    found = receipts_in(get_site(scope=request.who, slug=slug))
    return page_of(found, key="-id", limit=limit, cursor=cursor, out=schemas.receipt_out)


@router.get("/sites/{slug}/desired/receipts/{number}/envelope", summary="A receipt as the site signed it")
def receipt_envelope(request: ScopedRequest, slug: str, number: str) -> HttpResponse:
    """The evidence: bytes that anybody can check with the site's signing key."""
    site = get_site(scope=request.who, slug=slug)
    receipt = get_receipt(site, number)
    return envelope(bytes(receipt.envelope), f"{site.slug}-receipt-{receipt.pk}.json", RECEIPT_TYPE)


@router.get("/blobs", response=schemas.BlobPage, summary="List blobs")
def blobs(request: ScopedRequest, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
    """Configurations and wheels that documents may name, without their bytes; for whoever may apply or put."""
    if not request.rights.may("site.apply") and not request.rights.may("blob.put"):
        raise NotAllowed("Blobs are for those who give out documents; your role does not allow this.")
    return page_of(blob_list(), key="digest", limit=limit, cursor=cursor, out=schemas.blob_out)


@router.post("/blobs/configs", response={201: schemas.PutOut}, openapi_extra=_OCTETS, summary="Keep a configuration")
def put_config(request: ScopedRequest) -> Status[dict[str, str]]:
    """A workload's configuration as JSON, in any form; it is kept in its one form, under the digest of that."""
    body = _bytes(request)
    try:
        config = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("This is no JSON.", details={"config": "invalid"}) from None
    if not isinstance(config, dict):
        raise Invalid("This is no configuration of a workload: it is no object.", details={"config": "invalid"})
    return Status(201, {"digest": desired.put_config(actor=request.who, rights=request.rights, config=config)})


@router.post(
    "/blobs/wheels", response={201: schemas.PutOut}, openapi_extra=_OCTETS, summary="Keep a wheel of the agent"
)
@dangerous("blob.put")
def put_wheel(request: ScopedRequest) -> Status[dict[str, str]]:
    """The bytes of a wheel, at most 16 MiB."""
    return Status(201, {"digest": desired.put_wheel(actor=request.who, rights=request.rights, body=_bytes(request))})


# ------------------------------------------------------------------------------------------------------------
def envelope(body: bytes, name: str, media_type: str) -> HttpResponse:
    """Signed bytes as a file to be kept."""
    response = HttpResponse(body, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _hold(request: ScopedRequest, slug: str, body: ReasonIn, *, hold: bool) -> dict[str, Any]:
    site = get_site(scope=request.who, slug=slug)
    desired.set_hold(actor=request.who, rights=request.rights, site=site, hold=hold, reason=body.reason)
    return _out(site)


def _bytes(request: ScopedRequest) -> bytes:
    """The body, up to the size of a blob, whatever other bodies are held to. Whoever may not put sends in vain."""
    length = request.headers.get("Content-Length") or ""
    if length.isdigit() and int(length) > MAX_BLOB_BYTES:
        raise RequestDataTooBig("a blob has at most 16 MiB")
    if not request.rights.may("blob.put"):
        raise NotAllowed("Configurations and wheels are the fleet's; your role does not allow this.")
    body = request.read(MAX_BLOB_BYTES + 1)
    if len(body) > MAX_BLOB_BYTES:
        raise RequestDataTooBig("a blob has at most 16 MiB")
    return body


def _out(site: Site) -> dict[str, Any]:
    return schemas.desired_out(desired_of(site))
