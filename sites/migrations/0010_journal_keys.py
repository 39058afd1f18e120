"""A journal belongs to keys: new hardware of a site begins at 1, and what the old one wrote stays."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

# Whose journal was read so far: what the newest page was signed by, else the keys that are accepted.
FOLLOW = """
UPDATE edge_sites_journalentry e SET identity_id = v.identity_id
FROM edge_sites_journalenvelope v WHERE v.id = e.envelope_id;
UPDATE edge_sites_journalcursor c SET identity_id = coalesce(
    (SELECT v.identity_id FROM edge_sites_journalenvelope v WHERE v.site_id = c.site_id ORDER BY v.id DESC LIMIT 1),
    (SELECT i.id FROM edge_sites_siteidentity i WHERE i.site_id = c.site_id AND i.state = 'accepted'));
DELETE FROM edge_sites_journalcursor WHERE identity_id IS NULL;
SET CONSTRAINTS ALL IMMEDIATE
"""


def keys(*, null: bool = False) -> Any:
    return models.ForeignKey(
        db_index=False,
        null=null,
        on_delete=django.db.models.deletion.PROTECT,
        related_name="+",
        to="edge_sites.siteidentity",
    )


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0009_dial_out")]

    operations = [
        migrations.RemoveConstraint(model_name="journalentry", name="journal_entry_once"),
        migrations.RemoveConstraint(model_name="journalenvelope", name="journal_envelope_once"),
        migrations.AddField(model_name="journalcursor", name="identity", field=keys(null=True)),
        migrations.AddField(model_name="journalentry", name="identity", field=keys(null=True)),
        migrations.AddField(
            model_name="journalcursor",
            name="since",
            field=models.DateTimeField(
                help_text="From when on these keys speak for the site; null: the first.", null=True
            ),
        ),
        migrations.RunSQL(FOLLOW, migrations.RunSQL.noop),
        migrations.AlterField(model_name="journalcursor", name="identity", field=keys()),
        migrations.AlterField(model_name="journalentry", name="identity", field=keys()),
        migrations.AddConstraint(
            model_name="journalenvelope",
            constraint=models.UniqueConstraint(
                fields=("site", "identity", "from_seq", "to_seq", "head"), name="journal_envelope_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="journalentry",
            constraint=models.UniqueConstraint(fields=("site", "identity", "seq"), name="journal_entry_once"),
        ),
    ]
