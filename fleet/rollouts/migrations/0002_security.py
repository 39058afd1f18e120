"""Row-level security; what was planned and approved stays as it is; and what changes at a site makes its step due."""

from django.db import migrations

from fleet.kit.rls import ALL, APPEND_ONLY, READ_ONLY, protect

KEEP = ("SELECT", "INSERT", "UPDATE")
# A provider sees a rollout as far as its own sites go, and nothing that tells of others: no plan, no totals, no reasons
# with figures in them.
ROLLOUT = "SELECT (id, name, standard_id, state, since, pause, until, lane, started_at, is_live, made_at)"
WAVE = "SELECT (id, rollout_id, index, name, state, since, opened_at, undoing)"
OWN = "EXISTS (SELECT 1 FROM rollouts_sitestep s WHERE s.rollout_id = {})"

# `approved_hash` only ever names the plan that is there; a plan changes in a draft only.
GUARD = """
CREATE FUNCTION guard_rollout() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $body$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a rollout is never deleted (%)', OLD.id;
    END IF;
    IF OLD.state <> 'draft' AND (NEW.name, NEW.author_id, NEW.standard_id, NEW.plan, NEW.plan_hash, NEW.sites)
        IS DISTINCT FROM (OLD.name, OLD.author_id, OLD.standard_id, OLD.plan, OLD.plan_hash, OLD.sites)
    THEN
        RAISE EXCEPTION 'a plan changes in a draft only (rollout %)', OLD.id;
    END IF;
    IF NEW.approved_hash NOT IN ('', NEW.plan_hash) THEN
        RAISE EXCEPTION 'only the plan that is there can be approved (rollout %)', OLD.id;
    END IF;
    IF OLD.started_at IS NOT NULL AND (NEW.state = 'draft' OR NEW.started_at IS DISTINCT FROM OLD.started_at
        OR NEW.approved_hash <> OLD.approved_hash)
    THEN
        RAISE EXCEPTION 'what was started stays approved (rollout %)', OLD.id;
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER guard_rollout BEFORE UPDATE OR DELETE ON rollouts_rollout
FOR EACH ROW EXECUTE FUNCTION guard_rollout();
"""

# Rows are only added here, so that no writer of facts waits for a tick. Workloads are written every few minutes for
# their figures; only what they are and do counts.
NOTE = """
CREATE FUNCTION note_changed_site() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF EXISTS (SELECT 1 FROM rollouts_sitestep s JOIN rollouts_rollout r ON r.id = s.rollout_id
        WHERE s.site_id = NEW.site_id AND r.is_live AND r.started_at IS NOT NULL)
    THEN
        INSERT INTO rollouts_changedsite (site_id, provider_id) VALUES (NEW.site_id, NEW.provider_id);
    END IF;
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_changed AFTER UPDATE OF component_set_id, reachability, availability, boot, busy_until, desired
ON edge_sites_sitestate FOR EACH ROW
WHEN ((OLD.component_set_id, OLD.reachability, OLD.availability, OLD.boot, OLD.busy_until, OLD.desired)
    IS DISTINCT FROM (NEW.component_set_id, NEW.reachability, NEW.availability, NEW.boot, NEW.busy_until, NEW.desired))
EXECUTE FUNCTION note_changed_site();
CREATE TRIGGER note_changed_workloads AFTER UPDATE OF workloads ON edge_sites_sitestate FOR EACH ROW
WHEN (OLD.workloads_at IS DISTINCT FROM NEW.workloads_at AND (
    jsonb_path_query_array(OLD.workloads, '$[*].name') <> jsonb_path_query_array(NEW.workloads, '$[*].name')
    OR jsonb_path_query_array(OLD.workloads, '$[*].state') <> jsonb_path_query_array(NEW.workloads, '$[*].state')
    OR jsonb_path_query_array(OLD.workloads, '$[*].managed') <> jsonb_path_query_array(NEW.workloads, '$[*].managed')))
EXECUTE FUNCTION note_changed_site();
CREATE TRIGGER note_changed AFTER UPDATE OF document_id, answer, reported_epoch, reported_version, reported_state,
    recovering
ON edge_sites_sitedesired FOR EACH ROW
WHEN ((OLD.document_id, OLD.answer, OLD.reported_epoch, OLD.reported_version, OLD.reported_state, OLD.recovering)
    IS DISTINCT FROM
    (NEW.document_id, NEW.answer, NEW.reported_epoch, NEW.reported_version, NEW.reported_state, NEW.recovering))
EXECUTE FUNCTION note_changed_site();
CREATE TRIGGER note_changed AFTER UPDATE OF refused ON edge_sites_desireddocument FOR EACH ROW
WHEN (OLD.refused <> NEW.refused) EXECUTE FUNCTION note_changed_site();
"""
UNDO = """
DROP TRIGGER note_changed ON edge_sites_desireddocument; DROP TRIGGER note_changed ON edge_sites_sitedesired;
DROP TRIGGER note_changed_workloads ON edge_sites_sitestate; DROP TRIGGER note_changed ON edge_sites_sitestate;
DROP FUNCTION note_changed_site();
"""


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0001_initial"), ("edge_sites", "0017_sending")]

    operations = [
        protect("rollouts_sitestep", grants=ALL, scoped_grants=READ_ONLY),
        protect("rollouts_rollout", grants=KEEP, scoped_grants=(ROLLOUT,), scoped=OWN.format("rollouts_rollout.id")),
        protect(
            "rollouts_wave",
            grants=ALL,
            scoped_grants=(WAVE,),
            scoped=OWN.format("rollouts_wave.rollout_id AND s.wave = rollouts_wave.index"),
        ),
        protect("rollouts_attempt", grants=KEEP, scoped_grants=READ_ONLY),
        protect("rollouts_rolloutevent", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("rollouts_approval", grants=APPEND_ONLY),
        protect("rollouts_hold", grants=KEEP),
        protect("rollouts_providercalendar", grants=KEEP, scoped_grants=READ_ONLY),
        protect("rollouts_changedsite", grants=ALL, scoped_grants=("INSERT",)),
        migrations.RunSQL(
            "GRANT SELECT, INSERT ON rollouts_gateevaluation TO app_wide",
            "REVOKE ALL ON rollouts_gateevaluation FROM app_wide",
        ),
        migrations.RunSQL(GUARD, "DROP TRIGGER guard_rollout ON rollouts_rollout; DROP FUNCTION guard_rollout()"),
        migrations.RunSQL(NOTE, UNDO),
    ]
