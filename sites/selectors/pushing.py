"""Which sites the centre renews from its side."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import connections

from agent.protocol.identity import site_name
from fleet.kit.tenancy import DEFAULT, job, scope
from sites.addresses import Network
from sites.selectors.polling import networks_of
from sites.wire import Peer

RENEWAL = job("renewal")

# A site that is handed over is asked even if it is not reached: it may have taken the certificate of which we lost
# the confirmation, and answer to the new name alone.
_DUE = """
SELECT s.id, s.uuid, s.provider_id, s.address, s.tls_name, s.tls_pin, p.allowed_networks::text, i.id,
    CASE WHEN d.gateway_until > now() THEN d.gateway ELSE '' END
FROM edge_sites_site s
JOIN edge_sites_sitestate t ON t.site_id = s.id
JOIN edge_sites_provider p ON p.id = s.provider_id
JOIN edge_sites_pollschedule d ON d.site_id = s.id
JOIN edge_sites_pollershard h ON h.shard = d.shard AND h.poller = %s
JOIN edge_sites_siteidentity i ON i.site_id = s.id AND i.state = 'accepted' AND i.provider_id = s.provider_id
WHERE s.tls_push_at <= now() AND s.life = 'active' AND s.tls_pin <> '' AND s.identity_frozen_at IS NULL
    AND (t.reachability = 'reachable' OR s.tls_name NOT LIKE '%%.p' || s.provider_id || '.sites.%%')
ORDER BY s.tls_push_at, s.id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Pushing:
    """A site to be renewed: reached as `peer`, from then on as `renewed`, which is the same but after a hand-over."""

    site_id: int
    uuid: UUID
    peer: Peer
    renewed: Peer
    networks: Sequence[Network]
    identity_id: int


def pushable(*, poller: int, limit: int) -> list[Pushing]:
    """Up to `limit` sites that this poller is to renew, the longest due first. Opens its own scope."""
    with scope(RENEWAL), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_DUE, [poller, limit])
        return [
            Pushing(
                site_id=pk,
                uuid=uuid,
                peer=Peer(address, name, pin, gateway),
                renewed=Peer(address, site_name(settings.FLEET_NAME, provider, uuid), pin, gateway),
                networks=networks_of(networks),
                identity_id=identity,
            )
            for pk, uuid, provider, address, name, pin, networks, identity, gateway in cursor.fetchall()
        ]
