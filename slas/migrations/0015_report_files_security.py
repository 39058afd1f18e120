"""Row-level security of the signed files of reports; what was signed stays as it is."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect

GUARD = """
CREATE FUNCTION guard_report_file() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF OLD.made_at IS NOT NULL THEN
        RAISE EXCEPTION 'a signed file stays as it is' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER guard_report_file BEFORE UPDATE ON slas_reportfile FOR EACH ROW EXECUTE FUNCTION guard_report_file();
"""


class Migration(migrations.Migration):
    dependencies = [("slas", "0014_report_files")]

    operations = [
        protect("slas_reportfile", grants=("SELECT", "INSERT", "UPDATE"), scoped_grants=READ_ONLY),
        migrations.RunSQL(
            GUARD, "DROP TRIGGER guard_report_file ON slas_reportfile; DROP FUNCTION guard_report_file()"
        ),
    ]
