"""Sites that were told what to run, made for tests without a signer's process or a site."""

import time
from datetime import timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import ProtectedError
from django.utils import timezone

from agent.protocol.desired import Document, digest
from fleet.kit.errors import DomainError
from sites.models import Blob, DesiredDocument, DesiredReceipt, Site, SiteDesired, SiteIdentity
from sites.selectors.desired import documents_to_sign
from sites.services.desired import EMPTY
from tests.sites.identities import keys

IMAGE = "registry.example/pos@sha256:" + "a" * 64
WORKLOADS = [{"name": "pos", "image": IMAGE, "version": "4.2.0"}]


def blob(body: bytes, kind: str = "config") -> str:
    """A blob that is there; returns its digest."""
    name = digest(body)
    rows = Blob.objects.using("owner")
    if not rows.filter(pk=name).exists():
        rows.create(digest=name, kind=kind, size=len(body), body=body, made_by="nina")
    return name


def document_to_sign(document_id: int) -> Document:
    """What the signer signs. Raises what it refuses with."""
    found = documents_to_sign([document_id])[document_id]
    if isinstance(found, DomainError):
        raise found
    return found


def document(site: Site, version: int = 1, content: dict[str, Any] | None = None, **values: Any) -> DesiredDocument:
    """A version of a site, signed unless `envelope=None`; it is the newest."""
    now = timezone.now().replace(microsecond=0)
    signed = {"envelope": b'{"payload": "%d"}' % version, "signed_at": now}
    values = signed | values
    if values["envelope"] is None:
        values["signed_at"] = None
    else:
        values["sha256"] = digest(values["envelope"])
    row = DesiredDocument.objects.using("owner").create(
        site_id=site.pk,
        provider_id=site.provider_id,
        epoch=1,
        version=version,
        content={**EMPTY, "workloads": WORKLOADS, **(content or {})},
        issued_at=now,
        expires_at=now + timedelta(days=7),
        **{"reason": "as ordered", "made_by": "nina", **values},
    )
    standing(site, document_id=row.pk, version=version, last_sha256=row.sha256)
    return row


def standing(site: Site, **values: Any) -> None:
    """How far the site is; `values` are of its SiteDesired."""
    rows = SiteDesired.objects.using("owner")
    rows.update_or_create(site_id=site.pk, defaults={"provider_id": site.provider_id, **values})


def receipt(site: Site, version: int = 1, state: str = "applied", **values: Any) -> DesiredReceipt:
    """What the site signed about a version."""
    row = DesiredDocument.objects.using("owner").filter(site_id=site.pk, version=version).first()
    accepted = SiteIdentity.objects.using("owner").filter(site_id=site.pk, state="accepted").first()
    body = b'{"receipt": "%d %s of %d"}' % (version, state.encode(), site.pk)
    return DesiredReceipt.objects.using("owner").create(
        site_id=site.pk,
        provider_id=site.provider_id,
        identity_id=(accepted or keys(site, "accepted")).pk,
        document_id=row.pk if row else None,
        epoch=1,
        version=version,
        document_sha256=row.sha256 if row else "sha256:" + "0" * 64,
        state=state,
        digest=digest(body),
        envelope=body,
        **{"at": timezone.now(), "boot": "boot-1", "changed": ["pos"], **values},
    )


def forget_desired(site: Site) -> None:
    """As if the site had never been told anything. A round of a running poller may still bring a receipt."""
    for left in range(9, -1, -1):
        try:
            for model in (SiteDesired, DesiredReceipt, DesiredDocument):
                model.objects.using("owner").filter(site_id=site.pk).delete()
            return
        except (ProtectedError, IntegrityError):
            if not left:
                raise
            time.sleep(0.2)


def told_for(step: str, site: Site) -> None:
    """Bring a site to where `step` (freeze, thaw, or anything that needs a document and a receipt) may be done."""
    forget_desired(site)
    document(site, hold=step == "thaw")
    number = {} if DesiredReceipt.objects.using("owner").filter(pk=1).exists() else {"pk": 1}
    receipt(site, **number)
