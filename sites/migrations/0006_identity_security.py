"""Row-level security on what identifies sites; what was issued and decided is never deleted."""

from django.db import migrations

from fleet.kit.rls import protect

KEEP = ("SELECT", "INSERT", "UPDATE")


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0005_identity")]

    operations = [
        protect("edge_sites_jointoken", grants=KEEP),
        protect("edge_sites_siteidentity", grants=KEEP),
        protect("edge_sites_sitecertificate", grants=KEEP),
    ]
