"""Row-level security of outages and maintenance; and whose outages are due to be derived anew."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

KEEP = ("SELECT", "INSERT", "UPDATE")
FACT = (*APPEND_ONLY, "UPDATE (valid_to, closed_at, superseded_at, evidence_end)")
# A provider sees an incident as far as it had the site meanwhile.
OWN = "EXISTS (SELECT 1 FROM slas_incidentspan p WHERE p.incident_id = slas_incident.id)"

# States are written by polls, journals and people. A statement is noted once, however many rows it writes; rows are
# only added, so that no writer waits for another.
NOTE = """
CREATE FUNCTION note_incidents() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    INSERT INTO slas_dueincidents (site_id, provider_id, since)
    SELECT site_id, provider_id, min(valid_from) FROM changed GROUP BY site_id, provider_id;
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_incidents_new AFTER INSERT ON edge_sites_stateinterval
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_incidents();
CREATE TRIGGER note_incidents AFTER UPDATE ON edge_sites_stateinterval
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_incidents();
INSERT INTO slas_dueincidents (site_id, provider_id, since) SELECT id, provider_id, 'epoch' FROM edge_sites_site;
"""
UNDO = """
DROP TRIGGER note_incidents ON edge_sites_stateinterval; DROP TRIGGER note_incidents_new ON edge_sites_stateinterval;
DROP FUNCTION note_incidents();
"""


class Migration(migrations.Migration):
    dependencies = [("slas", "0003_facts")]

    operations = [
        protect("slas_incident", grants=KEEP, scoped_grants=READ_ONLY, scoped=OWN),
        protect("slas_incidentspan", grants=FACT, scoped_grants=READ_ONLY),
        protect("slas_finding", grants=APPEND_ONLY),
        protect("slas_incidentnote", grants=APPEND_ONLY),
        # A viewer of some providers adds by the trigger alone, when it hands a site over.
        protect("slas_dueincidents", scoped_grants=("SELECT", "INSERT")),
        protect("slas_window", grants=KEEP),
        protect("slas_windowsite", grants=APPEND_ONLY),
        migrations.RunSQL(
            "GRANT SELECT, INSERT, UPDATE ON slas_centreblind TO app_wide; GRANT SELECT ON slas_centreblind TO app_scoped",
            "REVOKE ALL ON slas_centreblind FROM app_wide, app_scoped",
        ),
        migrations.RunSQL(
            "CREATE TRIGGER guard_fact BEFORE UPDATE OR DELETE ON slas_incidentspan"
            " FOR EACH ROW EXECUTE FUNCTION guard_fact()",
            "DROP TRIGGER guard_fact ON slas_incidentspan",
        ),
        migrations.RunSQL(NOTE, UNDO),
    ]
