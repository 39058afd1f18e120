"""What a site's journal said last of its components."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0010_journal_keys")]

    operations = [
        migrations.AddField(
            model_name="journalcursor",
            name="last_digest",
            field=models.CharField(blank=True, db_default="", help_text="Of its set of components.", max_length=71),
        ),
    ]
