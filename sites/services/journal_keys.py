"""Which keys a site's journal is read under. Other keys are other hardware, whose journal begins at 1."""

from collections.abc import Sequence

from django.db import connections

from fleet.kit.tenancy import DEFAULT

# In the order in which a page is recorded: the state's row before the cursor's.
_LOCK = """
SELECT 1 FROM edge_sites_sitestate WHERE site_id IN (SELECT site_id FROM edge_sites_siteidentity WHERE id = ANY(%s))
ORDER BY site_id FOR NO KEY UPDATE
"""

_BEGIN = """
INSERT INTO edge_sites_journalcursor
    (site_id, provider_id, identity_id, seq, head, acked, next_at, last_boot, last_state, problem)
SELECT site_id, provider_id, id, 0, '', 0, now(), '', '', '' FROM edge_sites_siteidentity WHERE id = ANY(%s)
ON CONFLICT (site_id) DO NOTHING
"""

# The same signing key in another row is the same host that joined again: it goes on where it was.
_GO_ON = """
UPDATE edge_sites_journalcursor c SET identity_id = i.id
FROM edge_sites_siteidentity i, edge_sites_siteidentity o
WHERE i.id = ANY(%s) AND c.site_id = i.site_id AND o.id = c.identity_id AND o.id <> i.id
    AND o.signing_key = i.signing_key
"""

# Keys that were the site's before take up what was read of them then; others begin at nothing.
_CHANGE = """
UPDATE edge_sites_journalcursor c SET identity_id = i.id, since = now(), next_at = now(), problem = '', acked = 0,
    last_at = NULL, last_boot = '', last_state = '', last_digest = '',
    seq = coalesce(e.to_seq, 0), head = coalesce(e.head, '')
FROM edge_sites_siteidentity i LEFT JOIN LATERAL (
    SELECT v.to_seq, v.head FROM edge_sites_journalenvelope v JOIN edge_sites_siteidentity k ON k.id = v.identity_id
    WHERE v.site_id = i.site_id AND k.signing_key = i.signing_key ORDER BY v.to_seq DESC LIMIT 1) e ON true
WHERE i.id = ANY(%s) AND c.site_id = i.site_id AND c.identity_id <> i.id
RETURNING c.site_id
"""

# What was known of the old hardware's clock and journal says nothing of the new: the next report does. A poll of the
# old one that is under way is dropped by the version.
_FORGET = """
UPDATE edge_sites_sitestate SET version = version + 1, mono_ms = NULL, journal_seq = NULL, journal_head = ''
WHERE site_id = ANY(%s)
"""


def follow_keys(identity_ids: Sequence[int]) -> None:
    """From now on read the journals that these accepted keys sign, at most one pair a site.

    The same keys go on; other keys begin anew, and speak of no time before now. Within the open scope and transaction;
    the caller holds the sites' locks. Changes cursors, and states of sites whose hardware changed.
    """
    ids = sorted(identity_ids)
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_LOCK, [ids])
        cursor.execute(_BEGIN, [ids])
        cursor.execute(_GO_ON, [ids])
        cursor.execute(_CHANGE, [ids])
        changed = sorted(row[0] for row in cursor.fetchall())
        if changed:
            cursor.execute(_FORGET, [changed])
