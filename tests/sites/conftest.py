"""Certificates for sites of the test database, without a signer's process."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connections

from agent.journal import Journal
from fleet.kit.signing import Issued
from fleet.signer.authority import certify_site
from sites.models import Site, SiteIdentity, SiteTenure
from sites.services.enrolment import record_certificates
from tests.pki import Fleet, now
from tests.sites.joined import owned
from tests.sites.journaled import NOW, OWNER, SiteWithJournal


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


@pytest.fixture
def told(make_site: Callable[..., Site], tmp_path: Path) -> Iterator[SiteWithJournal]:
    """A site that was up by polls until 720 minutes ago, then silent, and up again since 10 minutes ago."""
    site = make_site()
    with connections[OWNER].cursor() as cursor:
        cursor.execute("TRUNCATE edge_sites_stateinterval")
        cursor.execute("UPDATE edge_sites_sitestate SET availability = 'up', reachability = 'reachable', shown = 'up'")
        for state, begin, end, source in (
            ("up", 1500, 720, "poll"),
            ("unknown", 720, 10, "poll"),
            ("up", 10, None, "poll"),
        ):
            cursor.execute(
                "INSERT INTO edge_sites_stateinterval (site_id, provider_id, axis, state, valid_from, valid_to,"
                " recorded_at, closed_at, source, evidence) VALUES (%s, %s, 'availability', %s, %s, %s, now(), %s, %s,"
                " '{}')",
                [
                    *(site.pk, site.provider_id, state, NOW - timedelta(minutes=begin)),
                    None if end is None else NOW - timedelta(minutes=end),
                    *(None if end is None else NOW, source),
                ],
            )
    SiteTenure.objects.using(OWNER).filter(site=site).update(valid_from=NOW - timedelta(days=9))
    journal = Journal.open(tmp_path / "journal.sqlite", bound_bytes=32 << 20)
    yield SiteWithJournal(site, journal)
    journal.close()
