"""Webhooks are the fleet's: no provider's role may so much as count their rows, which name sites of all."""

from django.db import migrations

TABLES = "rollouts_webhookendpoint, rollouts_webhookdelivery"


class Migration(migrations.Migration):
    dependencies = [("rollouts", "0005_webhooks")]

    operations = [
        migrations.RunSQL(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO app_wide",
            f"REVOKE ALL ON {TABLES} FROM app_wide",
        ),
    ]
