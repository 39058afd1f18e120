"""A journal that confirms a time in which we were blind changes figures, though no state: its site is due by it."""

from django.db import migrations

NOTE = """
CREATE FUNCTION note_spoken() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    INSERT INTO slas_dueincidents (site_id, provider_id, since)
    SELECT c.site_id, c.provider_id, min(b.valid_from)
    FROM changed c JOIN slas_centreblind b ON b.valid_from < c.spoke_until
        AND (b.valid_to IS NULL OR b.valid_to > to_timestamp((c.spoke->0->>0)::float8 / 1000))
    GROUP BY c.site_id, c.provider_id;
    RETURN NULL;
END
$body$;
CREATE TRIGGER note_spoken AFTER INSERT ON edge_sites_journalenvelope
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_spoken();
"""
UNDO = "DROP TRIGGER note_spoken ON edge_sites_journalenvelope; DROP FUNCTION note_spoken();"


class Migration(migrations.Migration):
    dependencies = [("slas", "0010_disputes_security"), ("edge_sites", "0020_journal_spoke")]

    operations = [migrations.RunSQL(NOTE, UNDO)]
