"""What a provider is asked, and the standards of rollouts that reach its sites, are its to see."""

from django.db import migrations

from fleet.kit.rls import READ_ONLY, protect

# A provider sees a standard as far as its sites follow it, or did, or are to be brought to it.
OLD = """EXISTS (SELECT 1 FROM standards_sitecompliance c WHERE c.standard_id = standards_standard.id)
 OR EXISTS (SELECT 1 FROM standards_complianceinterval i WHERE i.standard_id = standards_standard.id)"""
NEW = OLD + " OR EXISTS (SELECT 1 FROM rollouts_rollout r WHERE r.standard_id = standards_standard.id)"  # noqa: S608


def _policy(condition: str) -> str:
    return f"ALTER POLICY scoped ON standards_standard USING ({condition}) WITH CHECK ({condition})"


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0003_asked"), ("standards", "0002_security")]

    operations = [
        protect("rollouts_providerasked", scoped_grants=READ_ONLY),
        migrations.RunSQL(
            "GRANT SELECT (plan_hash) ON rollouts_rollout TO app_scoped",
            "REVOKE SELECT (plan_hash) ON rollouts_rollout FROM app_scoped",
        ),
        migrations.RunSQL(_policy(NEW), _policy(OLD)),
    ]
