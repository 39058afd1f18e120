"""Row-level security on journals: what a site has written is added, and neither changed nor deleted."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

KEEP = ("SELECT", "INSERT", "UPDATE")


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0007_journal")]

    operations = [
        protect("edge_sites_journalcursor", grants=KEEP),
        protect("edge_sites_journalenvelope", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("edge_sites_journalentry", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        # A figure from a journal has no round trip.
        migrations.RunSQL(
            "ALTER TABLE sample ALTER COLUMN rtt_ms DROP NOT NULL",
            "ALTER TABLE sample ALTER COLUMN rtt_ms SET NOT NULL",
        ),
    ]
