"""Of which time a signed page speaks, whether or not it changed what stood."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0019_image_sizes_security")]

    operations = [
        migrations.AddField(
            model_name="journalenvelope",
            name="spoke",
            field=models.JSONField(db_default=[], default=list, help_text="[[begin, end], ...] of which it speaks."),
        ),
        migrations.AddField(
            model_name="journalenvelope",
            name="spoke_until",
            field=models.DateTimeField(help_text="The last of these ends; null: it speaks of no time.", null=True),
        ),
        migrations.AddIndex(
            model_name="journalenvelope",
            index=models.Index(fields=["site", "spoke_until"], name="journal_envelope_spoke"),
        ),
    ]
