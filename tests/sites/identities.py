"""Sites that joined, made for tests; and a signer that knows nothing but its root."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from django.utils import timezone

from sites.models import JoinToken, Site, SiteCertificate, SiteIdentity

ROOT_SHA256 = "ab" * 32
FINGERPRINT = "0123-4567-89ab-cdef-0123-4567-89ab-cdef"
_numbers = count(1)


def keys(site: Site, state: str = "pending", **values: Any) -> SiteIdentity:
    """Keys of a site in any state, with a used token of their own."""
    number = next(_numbers)
    token = JoinToken.objects.using("owner").create(
        site_id=site.pk,
        provider_id=site.provider_id,
        mac=number.to_bytes(32, "big"),
        made_by="nina",
        expires_at=timezone.now() + timedelta(hours=24),
        withdrawn_at=timezone.now(),
    )
    row = {
        "tls_key": b"t" * 91,
        "signing_key": b"s" * 32,
        "fingerprint": FINGERPRINT,
        "agent": "archipelago-agent/1.0",
        "host": "edge-1",
        "remote": "198.51.100.7",
    }
    if state != "pending":
        row |= {"decided_at": timezone.now(), "decided_by": "nina"}
    return SiteIdentity.objects.using("owner").create(
        site_id=site.pk, provider_id=site.provider_id, token_id=token.pk, state=state, **row | values
    )


def certificate(identity: SiteIdentity, *, ends: datetime | None = None, **values: Any) -> SiteCertificate:
    """A certificate of these keys, valid for four more days unless `ends` says otherwise."""
    number = next(_numbers)
    ends = ends or timezone.now() + timedelta(days=4)
    row = {"serial": f"{number:040x}", "sha256": f"{number:064x}", "tls_pin": "0" * 64, "route": "enrol"}
    return SiteCertificate.objects.using("owner").create(
        site_id=identity.site_id,
        provider_id=identity.provider_id,
        identity_id=identity.pk,
        not_before=ends - timedelta(days=7),
        not_after=ends,
        **row | values,
    )


def enrolled(site: Site, *, ends: datetime | None = None) -> SiteIdentity:
    """A site with accepted keys and a certificate."""
    identity = keys(site, "accepted")
    certificate(identity, ends=ends)
    return identity


def freeze_row(site: Site, reason: str = "Other keys came") -> None:
    """Freeze a site behind everybody's back."""
    Site.objects.using("owner").filter(pk=site.pk).update(
        identity_frozen_at=timezone.now(), identity_frozen_reason=reason
    )


def forget_identity(site: Site) -> None:
    """As if the site had never joined."""
    for model in (SiteCertificate, SiteIdentity, JoinToken):
        model.objects.using("owner").filter(site_id=site.pk).delete()
    Site.objects.using("owner").filter(pk=site.pk).update(identity_frozen_at=None, identity_frozen_reason="")


def ready_for(step: str, site: Site) -> None:
    """Bring a site to where `step` (join, accept, reject, revoke, freeze, thaw) may be done to it."""
    forget_identity(site)
    if step in {"accept", "reject"}:
        keys(site)
    elif step == "revoke":
        enrolled(site)
    elif step == "thaw":
        freeze_row(site)


class _Door(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert json.loads(self.rfile.readline()) == {"op": "roots"}
        answer = {"roots": ["pem"], "fleet": "archipelago.internal", "root_sha256": ROOT_SHA256}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


@contextmanager
def signer_at(path: Path) -> Iterator[None]:
    """A signer at a socket that answers `roots`, and nothing else."""
    with socketserver.ThreadingUnixStreamServer(str(path), _Door) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()
