"""After a restore: no version is given out or signed for a site until it has told its counters.

These are statements and not a service, for they belong into the transaction that puts a backup in the place of the
database (fleet.stack.dump): there is no moment in which the restored database may be used and does not recover.
"""

# Sites too that the backup knows of no version of: they may have had their first since.
BEGIN_RECOVERY = """
INSERT INTO edge_sites_sitedesired AS t (site_id, provider_id, epoch, version, last_sha256, due_at, tries, answer,
    answer_reason, answer_detail, reported_epoch, reported_version, reported_state, reported_detail, done, total,
    recovering)
SELECT id, provider_id, 1, 0, '', now(), 0, '', '', '', 0, 0, '', '', 0, 0, true FROM edge_sites_site
ON CONFLICT (site_id) DO UPDATE SET recovering = true, due_at = now(), tries = 0
"""

RECORD_RECOVERY = """
INSERT INTO kit_auditentry (actor, action, object_type, object_id, object_name, address, request_id, after, note)
SELECT 'job:restore', 'database.restore', 'database', current_database(), current_database(), '', '',
    jsonb_build_object('backup', {made_at}::text, 'sites', count(*)),
    'Restored from the backup of ' || {made_at}::text || '; every site recovers.'
FROM edge_sites_site
"""
