"""Enrols a benchmark's sites in bulk: `python -m bench.enrol`, with the stack's environment.

It writes what the gateway would have written and hands agents what it would have answered, a thousand sites at once:
enrolling 20,000 sites through the door takes longer than measuring them.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from django.conf import settings  # noqa: E402  (after django.setup)

from agent.identity import Identity, IdentityFile, Keys  # noqa: E402
from agent.protocol.identity import Certificates, key_fingerprint  # noqa: E402
from agent.state import IDENTITIES  # noqa: E402
from fleet.kit import signing  # noqa: E402
from fleet.kit.tenancy import job, scope  # noqa: E402
from fleet.stack.demo.company import HOST_SITE_UUID  # noqa: E402
from fleet.stack.demo.fleet import agent_folder  # noqa: E402
from fleet.stack.demo.sites import demo_sites  # noqa: E402
from fleet.stack.state import open_state  # noqa: E402
from sites.models import JoinToken, Site, SiteIdentity  # noqa: E402
from sites.services.enrolment import record_certificates  # noqa: E402
from sites.services.joining import new_token  # noqa: E402

ACTOR = job("bench")
BATCH = 1_000


def main(number: int) -> None:
    """Enrol every active site that has not enrolled, and put its identity where its agent looks for it."""
    state = open_state()  # ARCHIPELAGO_STATE_DIR names it
    folders: dict[str, Path] = {str(site.uuid): agent_folder(state, site.process) for site in demo_sites(number)}
    folders[HOST_SITE_UUID] = agent_folder(state, None)
    with scope(ACTOR):
        waiting = list(Site.objects.filter(life="active", tls_pin="").order_by("pk"))
    roots = signing.roots()
    for begin in range(0, len(waiting), BATCH):
        _enrol(waiting[begin : begin + BATCH], folders, roots)


def _enrol(sites: Sequence[Site], folders: dict[str, Path], roots: signing.Roots) -> None:
    keys = {site.pk: Keys.make() for site in sites}
    now = datetime.now(UTC)
    with scope(ACTOR):
        JoinToken.objects.filter(site__in=sites, withdrawn_at=None).update(withdrawn_at=now)
        tokens = [new_token(site, made_by="bench", pre_authorised=True, now=now)[0] for site in sites]
        JoinToken.objects.bulk_create(tokens)
        identities = SiteIdentity.objects.bulk_create(
            [_identity(site, token, keys[site.pk], now) for site, token in zip(sites, tokens, strict=True)]
        )
    answers = signing.issue_sites([identity.pk for identity in identities])
    issued = [answer for answer in answers if isinstance(answer, signing.Issued)]
    assert len(issued) == len(identities), "the signer refused a site"
    record_certificates([(row.pk, one) for row, one in zip(identities, issued, strict=True)], route="bench")
    files: dict[Path, list[Identity]] = {}
    for site, one in zip(sites, issued, strict=True):
        certificates = Certificates(
            gateway=settings.GATEWAY_ADDRESS,
            chain=one.chain_pem,
            roots=roots.roots,
            fleet=roots.fleet,
            documents=roots.documents,
        )
        files.setdefault(folders[str(site.uuid)], []).append(Identity(site.uuid, keys[site.pk], certificates))
    for folder, found in files.items():
        IdentityFile(folder / IDENTITIES).put(*found)


def _identity(site: Site, token: JoinToken, keys: Keys, now: datetime) -> SiteIdentity:
    tls_key, signing_key = keys.public()
    return SiteIdentity(
        site=site,
        provider_id=site.provider_id,
        token=token,
        state="accepted",
        tls_key=tls_key,
        signing_key=signing_key,
        fingerprint=key_fingerprint(tls_key, signing_key),
        decided_at=now,
        decided_by="bench",
    )


if __name__ == "__main__":
    main(int(os.environ["SITES"]))
