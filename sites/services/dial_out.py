"""Sites that call in: who they are, and through which gateway they are reached for now."""

from collections.abc import Collection
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.protocol.identity import tls_pin
from fleet.kit.clock import database_now
from fleet.kit.tenancy import job, scope
from sites.models import PollSchedule, Site
from sites.services.enrolment import EnrolmentRefused
from sites.states import Life

GATEWAY = job("gateway")
LEASE = timedelta(seconds=60)


def linked_site(certificate: bytes) -> tuple[str, int]:
    """Name and id of the active site whose accepted key this certificate (DER, its chain checked by TLS) certifies.

    Raises EnrolmentRefused.
    """
    leaf = x509.load_der_x509_certificate(certificate)
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    with scope(GATEWAY):
        site = Site.objects.filter(
            tls_name__in=names.get_values_for_type(x509.DNSName), tls_pin=tls_pin(key), life=Life.ACTIVE
        ).first()
    if site is None:
        raise EnrolmentRefused("not_enrolled", "This certificate is no active site's.")
    return site.tls_name, site.pk


def renew_leases(gateway: str, linked: Collection[int], gone: Collection[int]) -> set[int]:
    """Write that these sites are reached through the gateway until LEASE from now, and that those are no longer.

    Returns the linked sites that may not be: revoked or retired since. Who has just called in is polled at once.
    """
    with scope(GATEWAY):
        now = database_now()
        PollSchedule.objects.filter(site_id__in=gone, gateway=gateway).update(gateway_until=None)
        allowed = set(
            Site.objects.filter(pk__in=linked, life=Life.ACTIVE).exclude(tls_pin="").values_list("pk", flat=True)
        )
        schedules = PollSchedule.objects.filter(site_id__in=allowed)
        schedules.exclude(gateway=gateway, gateway_until__gt=now).update(next_poll_at=now, backoff=1)
        schedules.update(gateway=gateway, gateway_until=now + LEASE)
    return set(linked) - allowed
