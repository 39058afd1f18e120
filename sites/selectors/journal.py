"""Which journals are to be read on, from where, and what was read."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Func, IntegerField, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import DEFAULT, job, scope
from sites.addresses import Network
from sites.journal_states import Anchor
from sites.models import JournalCursor, JournalEntry, JournalEnvelope, Site, SiteState
from sites.selectors.polling import networks_of
from sites.wire import Peer

BACKFILL = job("backfill")

# Read under the keys that the site has a certificate for, not under those that were accepted since.
# Reached just now, with more to tell than was read, and due; the longest due first.
_DUE = """
SELECT s.id, s.uuid, s.address, s.tls_name, s.tls_pin, p.allowed_networks::text, i.id, i.signing_key,
    coalesce(c.seq, 0), coalesce(c.head, ''), coalesce(c.acked, 0),
    t.last_good_at, t.boot, t.mono_ms, coalesce(t.clock_offset_ms, 0), coalesce(t.rtt_ms, 0),
    t.journal_seq, CASE WHEN d.gateway_until > now() THEN d.gateway ELSE '' END
FROM edge_sites_site s
JOIN edge_sites_sitestate t ON t.site_id = s.id
JOIN edge_sites_provider p ON p.id = s.provider_id
JOIN edge_sites_pollschedule d ON d.site_id = s.id
JOIN edge_sites_pollershard h ON h.shard = d.shard AND h.poller = %s
JOIN edge_sites_siteidentity i ON i.site_id = s.id AND i.state = 'accepted'
LEFT JOIN edge_sites_journalcursor c ON c.site_id = s.id
WHERE s.life = 'active' AND s.tls_pin <> '' AND t.reachability = 'reachable' AND t.misses = 0
    AND t.mono_ms IS NOT NULL AND t.journal_seq > coalesce(c.seq, 0)
    AND (c.site_id IS NULL OR (c.next_at <= now() AND c.identity_id = i.id))
ORDER BY c.next_at NULLS LAST, s.id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """A journal to read on after entry `seq`, whose digest is `head`; `anchor` ties its clock to ours."""

    site_id: int
    uuid: Any
    peer: Peer
    networks: tuple[Network, ...]
    identity_id: int
    signing_key: bytes
    seq: int
    head: str
    acked: int
    anchor: Anchor


def readings(*, poller: int, limit: int) -> list[Reading]:
    """Up to `limit` journals that this poller is to read on. Opens its own scope."""
    with scope(BACKFILL), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_DUE, [poller, limit])
        return [
            Reading(
                site_id=row[0],
                uuid=row[1],
                peer=Peer(row[2], row[3], row[4], row[17]),
                networks=networks_of(row[5]),
                identity_id=row[6],
                signing_key=bytes(row[7]),
                seq=row[8],
                head=row[9],
                acked=row[10],
                anchor=Anchor(*row[11:17]),
            )
            for row in cursor.fetchall()
        ]


def cursor_of(site: Site) -> JournalCursor | None:
    """How far the site's journal was read."""
    return JournalCursor.objects.filter(site=site).first()


def written_of(site: Site) -> int | None:
    """The number of the newest entry that the site says it has; None before its first report."""
    state: SiteState | None = getattr(site, "state", None)
    return state.journal_seq if state is not None else None


def waiting_of(site: Site, cursor: JournalCursor | None) -> int:
    """How many entries the site has that were not read."""
    return max(0, (written_of(site) or 0) - (cursor.seq if cursor is not None else 0))


def entries_in(
    site: Site, *, kind: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> QuerySet[JournalEntry]:
    """Entries that say something, by kind and by time (our clock, `[since, until)`), in no order."""
    found = JournalEntry.objects.filter(site=site)
    if kind:
        found = found.filter(kind=kind)
    if since is not None:
        found = found.filter(mapped_at__gte=since)
    if until is not None:
        found = found.filter(mapped_at__lt=until)
    return found


def entries_of(
    site: Site, *, kind: str | None = None, before: int | None = None, limit: int = 50
) -> list[JournalEntry]:
    """The newest entries that say something, newest first, from those read before row `before`."""
    found = entries_in(site, kind=kind)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.order_by("-pk")[:limit])


def envelopes_of(site: Site) -> QuerySet[JournalEnvelope]:
    """Signed pages with their `size` and the keys that signed them, but without their bytes."""
    found = JournalEnvelope.objects.filter(site=site).select_related("identity")
    return found.annotate(size=Func("body", function="octet_length", output_field=IntegerField())).defer("body")


def newest_envelopes(site: Site, *, limit: int) -> list[JournalEnvelope]:
    """The newest signed pages, newest first."""
    return list(envelopes_of(site).order_by("-pk")[:limit])


def envelope_of(site: Site, pk: int) -> JournalEnvelope:
    """A signed page of this site. Raises NotFound."""
    found = JournalEnvelope.objects.filter(site=site, pk=pk).first() if 0 < pk < 2**63 else None
    if found is None:
        raise NotFound("This site has no such page, or it is not yours to see.")
    return found


def gaps_of(site: Site, *, limit: int = 50) -> list[JournalEntry]:
    """What the site says that it lost, newest first."""
    return entries_of(site, kind="gap", limit=limit)
