"""Which numbers a signed page says are missing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0012_rollup_stale")]

    operations = [
        migrations.AddField(
            model_name="journalenvelope",
            name="holes",
            field=models.JSONField(db_default=[], default=list, help_text="[[first, last], ...] of numbers not in it."),
        ),
    ]
