"""Row-level security on every table with site data, and facts that can be closed but not rewritten."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

KEEP = ("SELECT", "INSERT", "UPDATE")
FACT = (*APPEND_ONLY, "UPDATE (valid_to, closed_at, superseded_at, evidence_end)")
FACT_TABLES = ("edge_sites_stateinterval", "edge_sites_outage", "edge_sites_componentspan")

# Closing sets an end that was open, superseding sets a mark that was not set; nothing else may change or go.
FACT_GUARD = """
CREATE FUNCTION guard_fact() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $body$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'facts are never deleted (% %)', TG_TABLE_NAME, OLD.id;
    END IF;
    IF OLD.superseded_at IS NOT NULL
       OR (OLD.valid_to IS NOT NULL AND (NEW.valid_to, NEW.closed_at, NEW.evidence_end)
           IS DISTINCT FROM (OLD.valid_to, OLD.closed_at, OLD.evidence_end))
    THEN
        RAISE EXCEPTION 'a closed fact is superseded, never changed (% %)', TG_TABLE_NAME, OLD.id;
    END IF;
    IF OLD.valid_to IS NULL AND (NEW.valid_to IS NULL) <> (NEW.closed_at IS NULL) THEN
        RAISE EXCEPTION 'closing a fact sets valid_to and closed_at (% %)', TG_TABLE_NAME, OLD.id;
    END IF;
    RETURN NEW;
END
$body$;
"""


def guard(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER guard_fact BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION guard_fact()",
        f"DROP TRIGGER guard_fact ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0003_samples")]

    operations = [
        protect("edge_sites_provider", column="id", grants=KEEP, scoped_grants=READ_ONLY),
        protect("edge_sites_site", grants=KEEP),
        protect("edge_sites_sitetenure", grants=KEEP),
        protect("edge_sites_pollschedule"),
        protect("edge_sites_sitestate", grants=KEEP),
        protect("edge_sites_acknowledgement", grants=KEEP),
        *[protect(table, grants=FACT) for table in FACT_TABLES],
        protect(
            "edge_sites_componentset",
            grants=APPEND_ONLY,
            scoped_grants=READ_ONLY,
            scoped="EXISTS (SELECT 1 FROM edge_sites_componentspan s WHERE s.component_set_id = digest)",
        ),
        protect("sample", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("sample_5m", grants=KEEP, scoped_grants=READ_ONLY),
        protect("sample_1h", grants=KEEP, scoped_grants=READ_ONLY),
        migrations.RunSQL(
            "GRANT SELECT, INSERT, UPDATE ON edge_sites_pollerbeat TO app_wide;"
            "GRANT SELECT ON edge_sites_pollerbeat TO app_scoped;"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON edge_sites_pollershard TO app_wide",
            "REVOKE ALL ON edge_sites_pollerbeat, edge_sites_pollershard FROM app_wide, app_scoped",
        ),
        migrations.RunSQL(FACT_GUARD, "DROP FUNCTION guard_fact()"),
        *[guard(table) for table in FACT_TABLES],
        # Both tables are rewritten at every poll: room in each page keeps those writes within it. What the planner
        # must know of them hardly changes; at the default it would be gathered anew every minute, a tenth of a poll.
        *[
            migrations.RunSQL(
                f"ALTER TABLE {table} SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05,"
                " autovacuum_analyze_scale_factor = 50)",
                f"ALTER TABLE {table} RESET (fillfactor, autovacuum_vacuum_scale_factor,"
                " autovacuum_analyze_scale_factor)",
            )
            for table in ("edge_sites_sitestate", "edge_sites_pollschedule")
        ],
        migrations.RunSQL(
            "INSERT INTO edge_sites_pollershard (shard, poller) SELECT n, 0 FROM generate_series(0, 63) AS n",
            "DELETE FROM edge_sites_pollershard",
        ),
    ]
