"""Certificates for sites of the test database, without a signer's process."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.conf import settings

from fleet.kit.signing import Issued
from fleet.signer.authority import certify_site
from sites.models import Site, SiteIdentity
from sites.services.enrolment import record_certificates
from tests.pki import Fleet, now
from tests.sites.joined import owned


@pytest.fixture
def issued() -> Callable[..., Issued]:
    """Makes what the signer would for a site's accepted keys."""
    fleet = Fleet(settings.FLEET_NAME)

    def issue(site: Site, at: datetime | None = None) -> Issued:
        made = certify_site(
            fleet.issuer(site.provider_id),
            fleet=fleet.name,
            provider_id=site.provider_id,
            site=site.uuid,
            tls_key=bytes(owned(SiteIdentity).get(site=site, state="accepted").tls_key),
            now=at or now(),
        )
        return Issued(made.chain_pem, made.serial, made.not_before, made.not_after, made.sha256, made.name)

    return issue


@pytest.fixture
def certified(issued: Callable[..., Issued]) -> Callable[..., Issued]:
    """The same, written down."""

    def certify(site: Site, at: datetime | None = None) -> Issued:
        made = issued(site, at)
        identity = owned(SiteIdentity).get(site=site, state="accepted")
        record_certificates([(identity.pk, made)], route="enrol")
        return made

    return certify
