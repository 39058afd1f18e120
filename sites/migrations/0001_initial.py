import uuid

import django.core.validators
import django.db.models.functions.datetime
from django.db import migrations, models

import sites.validators


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Acknowledgement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_name", models.CharField(max_length=150)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "note",
                    models.CharField(
                        blank=True,
                        max_length=500,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[^\\x00-\\x1f\\x7f]*\\Z", "No control characters."
                            )
                        ],
                    ),
                ),
                ("cleared_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="ComponentSet",
            fields=[
                ("digest", models.CharField(max_length=71, primary_key=True, serialize=False)),
                ("components", models.JSONField(help_text="[[kind, name, version, digest or null], ...], sorted.")),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="ComponentSpan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("valid_from", models.DateTimeField()),
                ("valid_to", models.DateTimeField(null=True)),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("closed_at", models.DateTimeField(null=True)),
                ("superseded_at", models.DateTimeField(null=True)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("journal", "Site's journal"),
                            ("probe", "Independent probe"),
                            ("poll", "Central poll"),
                            ("inference", "Inference"),
                        ],
                        max_length=10,
                    ),
                ),
                ("evidence", models.JSONField(default=dict, help_text="The poll or the journal entry that proves it.")),
                ("evidence_end", models.JSONField(help_text="The same for its end.", null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Outage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("valid_from", models.DateTimeField()),
                ("valid_to", models.DateTimeField(null=True)),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("closed_at", models.DateTimeField(null=True)),
                ("superseded_at", models.DateTimeField(null=True)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("journal", "Site's journal"),
                            ("probe", "Independent probe"),
                            ("poll", "Central poll"),
                            ("inference", "Inference"),
                        ],
                        max_length=10,
                    ),
                ),
                ("evidence", models.JSONField(default=dict, help_text="The poll or the journal entry that proves it.")),
                ("evidence_end", models.JSONField(help_text="The same for its end.", null=True)),
                ("cause", models.CharField(default="unknown", max_length=24)),
            ],
        ),
        migrations.CreateModel(
            name="PollerBeat",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("poller", models.CharField(max_length=64)),
                ("minute", models.DateTimeField()),
                ("polls", models.IntegerField(default=0)),
                ("failures", models.IntegerField(default=0)),
                ("lag_max_ms", models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="PollerShard",
            fields=[
                ("shard", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("poller", models.SmallIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Site",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("uuid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                (
                    "slug",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[a-z0-9]+(-[a-z0-9]+)*\\Z",
                                "Lower-case letters and digits, joined by single hyphens.",
                            ),
                            sites.validators.validate_free_slug,
                        ],
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        max_length=120,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[^\\x00-\\x1f\\x7f]*\\Z", "No control characters."
                            )
                        ],
                    ),
                ),
                (
                    "place",
                    models.CharField(
                        blank=True,
                        help_text="City, as people call it.",
                        max_length=120,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[^\\x00-\\x1f\\x7f]*\\Z", "No control characters."
                            )
                        ],
                    ),
                ),
                (
                    "country",
                    models.CharField(
                        blank=True,
                        max_length=2,
                        validators=[django.core.validators.RegexValidator("\\A[A-Z]{2}\\Z", "Two letters.")],
                    ),
                ),
                (
                    "time_zone",
                    models.CharField(default="UTC", max_length=64, validators=[sites.validators.validate_time_zone]),
                ),
                (
                    "lat",
                    models.FloatField(
                        validators=[
                            sites.validators.validate_finite,
                            django.core.validators.MinValueValidator(-90.0),
                            django.core.validators.MaxValueValidator(90.0),
                        ]
                    ),
                ),
                (
                    "lon",
                    models.FloatField(
                        validators=[
                            sites.validators.validate_finite,
                            django.core.validators.MinValueValidator(-180.0),
                            django.core.validators.MaxValueValidator(180.0),
                        ]
                    ),
                ),
                (
                    "region",
                    models.CharField(
                        blank=True,
                        db_index=True,
                        max_length=64,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[^\\x00-\\x1f\\x7f]*\\Z", "No control characters."
                            )
                        ],
                    ),
                ),
                (
                    "ring",
                    models.CharField(
                        default="stable",
                        max_length=32,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[a-z0-9]+(-[a-z0-9]+)*\\Z",
                                "Lower-case letters and digits, joined by single hyphens.",
                            ),
                        ],
                    ),
                ),
                ("labels", models.JSONField(blank=True, default=dict, validators=[sites.validators.validate_labels])),
                (
                    "address",
                    models.CharField(
                        help_text="Host name or address and port of its agent.",
                        max_length=255,
                        validators=[sites.validators.validate_address],
                    ),
                ),
                (
                    "poll_interval_s",
                    models.PositiveSmallIntegerField(
                        default=30,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3600),
                        ],
                    ),
                ),
                (
                    "contacts",
                    models.TextField(
                        blank=True,
                        max_length=4000,
                        validators=[sites.validators.validate_lines, django.core.validators.MaxLengthValidator(4000)],
                    ),
                ),
                (
                    "notes",
                    models.TextField(
                        blank=True,
                        max_length=20000,
                        validators=[sites.validators.validate_lines, django.core.validators.MaxLengthValidator(20000)],
                    ),
                ),
                (
                    "life",
                    models.CharField(
                        choices=[("planned", "Planned"), ("active", "Active"), ("retired", "Retired")],
                        default="planned",
                        max_length=8,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "ordering": ["name", "id"],
            },
        ),
        migrations.CreateModel(
            name="Provider",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                (
                    "slug",
                    models.CharField(
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[a-z0-9]+(-[a-z0-9]+)*\\Z",
                                "Lower-case letters and digits, joined by single hyphens.",
                            ),
                            sites.validators.validate_free_slug,
                        ],
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        max_length=120,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "\\A[^\\x00-\\x1f\\x7f]*\\Z", "No control characters."
                            )
                        ],
                    ),
                ),
                (
                    "contact",
                    models.TextField(
                        blank=True,
                        help_text="Whom to call, and when.",
                        max_length=2000,
                        validators=[sites.validators.validate_lines, django.core.validators.MaxLengthValidator(2000)],
                    ),
                ),
                (
                    "allowed_networks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Networks that its sites' addresses may lie in; empty allows every public one.",
                        validators=[sites.validators.validate_networks],
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="SiteTenure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("valid_from", models.DateTimeField()),
                ("valid_to", models.DateTimeField(null=True)),
                ("name", models.CharField(max_length=120)),
                ("slug", models.CharField(max_length=64)),
                ("place", models.CharField(blank=True, max_length=120)),
                ("time_zone", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="StateInterval",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("valid_from", models.DateTimeField()),
                ("valid_to", models.DateTimeField(null=True)),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("closed_at", models.DateTimeField(null=True)),
                ("superseded_at", models.DateTimeField(null=True)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("journal", "Site's journal"),
                            ("probe", "Independent probe"),
                            ("poll", "Central poll"),
                            ("inference", "Inference"),
                        ],
                        max_length=10,
                    ),
                ),
                ("evidence", models.JSONField(default=dict, help_text="The poll or the journal entry that proves it.")),
                ("evidence_end", models.JSONField(help_text="The same for its end.", null=True)),
                (
                    "axis",
                    models.CharField(
                        choices=[("availability", "Availability"), ("reachability", "Reachability")], max_length=12
                    ),
                ),
                ("state", models.CharField(max_length=12)),
            ],
        ),
    ]
