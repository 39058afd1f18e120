"""Row-level security on what sites are told to run. Blobs are the fleet's; receipts are added only."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

KEEP = ("SELECT", "INSERT", "UPDATE")


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0015_desired")]

    operations = [
        protect("edge_sites_desireddocument", grants=KEEP),
        protect("edge_sites_sitedesired", grants=KEEP),
        protect("edge_sites_desiredreceipt", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        # Whoever orders for some sites may name any blob, and read none.
        protect("edge_sites_blob", grants=APPEND_ONLY, scoped_grants=("SELECT (digest, kind, size)",), scoped="true"),
    ]
