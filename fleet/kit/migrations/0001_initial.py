import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True)),
                (
                    "actor_id",
                    models.BigIntegerField(
                        help_text="User, or null for a job; no key, since a user may go.", null=True
                    ),
                ),
                ("actor", models.CharField(max_length=150)),
                ("action", models.CharField(max_length=64)),
                ("object_type", models.CharField(max_length=32)),
                ("object_id", models.CharField(max_length=64)),
                ("object_name", models.CharField(max_length=200)),
                (
                    "provider_id",
                    models.IntegerField(help_text="Provider as of then; null: seen fleet-wide only.", null=True),
                ),
                ("address", models.CharField(blank=True, max_length=64)),
                ("request_id", models.CharField(blank=True, max_length=64)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("note", models.TextField(blank=True)),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "indexes": [models.Index(fields=["object_type", "object_id", "-at"], name="audit_object")],
            },
        ),
    ]
