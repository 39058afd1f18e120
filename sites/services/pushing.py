"""Renewal from the centre's side: what is written down of it."""

from collections.abc import Sequence
from datetime import timedelta

from fleet.kit.clock import database_now
from fleet.kit.signing import Issued
from fleet.kit.tenancy import job, scope
from sites.models import Site, SiteCertificate
from sites.services.enrolment import add_certificates, expect_certificates

RENEWAL = job("renewal")
ROUTE = "pushed"
AGAIN = timedelta(minutes=5)


def offer_certificates(made: Sequence[tuple[int, Issued]]) -> set[int]:
    """Write certificates down before they are handed out; pollers still expect the former ones.

    Returns the identities whose certificates may be handed out.
    """
    with scope(RENEWAL):
        return {pk for pk, _ in add_certificates(made, route=ROUTE)}


def confirm_certificates(made: Sequence[tuple[int, Issued]]) -> None:
    """The sites have taken these certificates: pollers expect them from now on."""
    with scope(RENEWAL):
        expect_certificates(made)


def confirm_name(site_id: int, name: str) -> None:
    """The site answers to this name already, with its accepted key: it took the certificate, and its answer was lost.

    Changes nothing when no certificate of that provider was ever offered.
    """
    with scope(RENEWAL):
        site = Site.objects.select_for_update(no_key=True).get(pk=site_id)
        newest = (
            SiteCertificate.objects.filter(
                site=site, provider_id=site.provider_id, tls_pin=site.tls_pin, revoked_at=None, route=ROUTE
            )
            .order_by("-not_after")
            .first()
        )
        if newest is not None:
            site.tls_name = name
            site.tls_push_at = newest.not_before + (newest.not_after - newest.not_before) / 2
            site.save(update_fields=["tls_name", "tls_push_at"])


def put_off(site_ids: Sequence[int]) -> None:
    """It did not work out: try again in a while."""
    with scope(RENEWAL):
        Site.objects.filter(pk__in=site_ids, tls_push_at__isnull=False).update(tls_push_at=database_now() + AGAIN)
