"""Row-level security; what is published stays as it is; and what changes about a site makes it due to be judged."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

FACT = (*APPEND_ONLY, "UPDATE (valid_to, closed_at, superseded_at, evidence_end)")
# A provider sees a standard as far as its sites follow it, or did.
FOLLOWED = """EXISTS (SELECT 1 FROM standards_sitecompliance c WHERE c.standard_id = {column})
 OR EXISTS (SELECT 1 FROM standards_complianceinterval i WHERE i.standard_id = {column})"""

GUARD = """
CREATE FUNCTION guard_standard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $body$
BEGIN
    IF OLD.state = 'draft' THEN
        RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a published standard is never deleted (%)', OLD.name;
    END IF;
    IF to_jsonb(NEW) - 'state' IS DISTINCT FROM to_jsonb(OLD) - 'state'
       OR NEW.state IS DISTINCT FROM OLD.state AND (OLD.state, NEW.state) <> ('published', 'withdrawn')
    THEN
        RAISE EXCEPTION 'a published standard is never changed (%)', OLD.name;
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER guard_standard BEFORE UPDATE OR DELETE ON standards_standard
FOR EACH ROW EXECUTE FUNCTION guard_standard();
"""

# A span of a ring is closed once; what it said stays.
GUARD_SPAN = """
CREATE FUNCTION guard_ring_standard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'what a ring had is never deleted (%)', OLD.id;
    END IF;
    IF OLD.until IS NOT NULL OR to_jsonb(NEW) - 'until' IS DISTINCT FROM to_jsonb(OLD) - 'until' THEN
        RAISE EXCEPTION 'what a ring had is never changed (%)', OLD.id;
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER guard_ring_standard BEFORE UPDATE OR DELETE ON standards_ringstandard
FOR EACH ROW EXECUTE FUNCTION guard_ring_standard();
"""

# What a judgement rests on is written by many: polls, journals, people. Rows are only added here, so that no writer
# waits for another. Workloads are written every few minutes for their figures; only what they are and do counts.
NOTE_DUE = """
CREATE FUNCTION note_due_state() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF TG_OP = 'UPDATE'
       AND (OLD.component_set_id, OLD.boot, OLD.reachability) IS NOT DISTINCT FROM
           (NEW.component_set_id, NEW.boot, NEW.reachability)
       AND jsonb_path_query_array(OLD.workloads, '$[*].name') = jsonb_path_query_array(NEW.workloads, '$[*].name')
       AND jsonb_path_query_array(OLD.workloads, '$[*].state') = jsonb_path_query_array(NEW.workloads, '$[*].state')
       AND jsonb_path_query_array(OLD.workloads, '$[*].managed') = jsonb_path_query_array(NEW.workloads, '$[*].managed')
    THEN
        RETURN NULL;
    END IF;
    INSERT INTO standards_duesite (site_id, provider_id) VALUES (NEW.site_id, NEW.provider_id);
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_due_new AFTER INSERT ON edge_sites_sitestate FOR EACH ROW EXECUTE FUNCTION note_due_state();
CREATE TRIGGER note_due AFTER UPDATE OF component_set_id, boot, reachability, workloads ON edge_sites_sitestate
FOR EACH ROW WHEN (OLD.component_set_id IS DISTINCT FROM NEW.component_set_id OR OLD.boot <> NEW.boot
    OR OLD.reachability <> NEW.reachability OR OLD.workloads_at IS DISTINCT FROM NEW.workloads_at)
EXECUTE FUNCTION note_due_state();

CREATE FUNCTION note_due_desired() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    INSERT INTO standards_duesite (site_id, provider_id) VALUES (NEW.site_id, NEW.provider_id);
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_due AFTER UPDATE OF document_id, answer, reported_epoch, reported_version, reported_state
ON edge_sites_sitedesired FOR EACH ROW
WHEN (OLD.document_id IS DISTINCT FROM NEW.document_id OR OLD.answer <> NEW.answer
    OR OLD.reported_version <> NEW.reported_version OR OLD.reported_state <> NEW.reported_state)
EXECUTE FUNCTION note_due_desired();

CREATE FUNCTION note_due_site() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF OLD.provider_id <> NEW.provider_id THEN  -- the old provider keeps its evidence, the new one begins anew
        UPDATE standards_complianceinterval SET valid_to = GREATEST(now(), valid_from), closed_at = now()
        WHERE site_id = NEW.id AND valid_to IS NULL AND superseded_at IS NULL;
        DELETE FROM standards_sitecompliance WHERE site_id = NEW.id;
    END IF;
    INSERT INTO standards_duesite (site_id, provider_id) VALUES (NEW.id, NEW.provider_id);
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_due AFTER UPDATE OF provider_id, region, ring, labels, life ON edge_sites_site
FOR EACH ROW WHEN ((OLD.provider_id, OLD.region, OLD.ring, OLD.labels, OLD.life)
    IS DISTINCT FROM (NEW.provider_id, NEW.region, NEW.ring, NEW.labels, NEW.life))
EXECUTE FUNCTION note_due_site();
"""
UNDO = """
DROP TRIGGER note_due ON edge_sites_site; DROP TRIGGER note_due ON edge_sites_sitedesired;
DROP TRIGGER note_due ON edge_sites_sitestate; DROP TRIGGER note_due_new ON edge_sites_sitestate;
DROP FUNCTION note_due_site(); DROP FUNCTION note_due_desired(); DROP FUNCTION note_due_state();
"""


class Migration(migrations.Migration):
    dependencies = [("standards", "0001_initial"), ("edge_sites", "0016_desired_security")]

    operations = [
        protect("standards_standard", scoped_grants=READ_ONLY, scoped=FOLLOWED.format(column="standards_standard.id")),
        protect(
            "standards_ring",
            scoped_grants=READ_ONLY,
            scoped="EXISTS (SELECT 1 FROM standards_sitecompliance c WHERE c.ring_id = standards_ring.id)",
        ),
        protect(
            "standards_ringstandard",
            grants=(*APPEND_ONLY, "UPDATE (until)"),
            scoped_grants=READ_ONLY,
            scoped="EXISTS (SELECT 1 FROM standards_sitecompliance c WHERE c.ring_id = standards_ringstandard.ring_id"
            " AND c.standard_id = standards_ringstandard.standard_id)",
        ),
        # Both are written for a viewer of some providers by the trigger alone, when a site is handed over.
        protect("standards_sitecompliance"),
        protect("standards_complianceinterval", grants=FACT),
        protect("standards_duesite", scoped_grants=("INSERT",)),
        migrations.RunSQL(
            "GRANT SELECT, INSERT, DELETE ON standards_componentverdict TO app_wide",
            "REVOKE ALL ON standards_componentverdict FROM app_wide",
        ),
        migrations.RunSQL(
            "CREATE TRIGGER guard_fact BEFORE UPDATE OR DELETE ON standards_complianceinterval"
            " FOR EACH ROW EXECUTE FUNCTION guard_fact()",
            "DROP TRIGGER guard_fact ON standards_complianceinterval",
        ),
        migrations.RunSQL(GUARD, "DROP TRIGGER guard_standard ON standards_standard; DROP FUNCTION guard_standard()"),
        migrations.RunSQL(
            GUARD_SPAN,
            "DROP TRIGGER guard_ring_standard ON standards_ringstandard; DROP FUNCTION guard_ring_standard()",
        ),
        migrations.RunSQL(NOTE_DUE, UNDO),
    ]
