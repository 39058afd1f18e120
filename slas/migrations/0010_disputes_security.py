"""Row-level security of disputes; what was claimed stays as it was, and is decided once."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, protect

GUARD = """
CREATE FUNCTION guard_dispute() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $body$
BEGIN
    IF OLD.state <> 'open' THEN
        RAISE EXCEPTION 'a dispute that is % stays as it is', OLD.state USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$body$;
CREATE TRIGGER guard_dispute BEFORE UPDATE ON slas_dispute FOR EACH ROW EXECUTE FUNCTION guard_dispute();
"""


class Migration(migrations.Migration):
    dependencies = [("slas", "0009_disputes")]

    operations = [
        protect("slas_dispute", grants=(*APPEND_ONLY, "UPDATE (state)")),
        protect("slas_disputestep", grants=APPEND_ONLY),
        protect("slas_disputefile", grants=APPEND_ONLY),
        protect("slas_adjustment", grants=APPEND_ONLY),
        migrations.RunSQL(GUARD, "DROP TRIGGER guard_dispute ON slas_dispute; DROP FUNCTION guard_dispute()"),
    ]
