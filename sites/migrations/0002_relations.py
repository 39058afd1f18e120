import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("edge_sites", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="acknowledgement",
            name="user",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="componentspan",
            name="component_set",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="spans", to="edge_sites.componentset"
            ),
        ),
        migrations.AddConstraint(
            model_name="pollerbeat",
            constraint=models.UniqueConstraint(fields=("minute", "poller"), name="poller_beat_once"),
        ),
        migrations.AddField(
            model_name="outage",
            name="site",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="outages",
                to="edge_sites.site",
            ),
        ),
        migrations.AddField(
            model_name="componentspan",
            name="site",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="component_spans",
                to="edge_sites.site",
            ),
        ),
        migrations.AddField(
            model_name="acknowledgement",
            name="site",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="acknowledgements", to="edge_sites.site"
            ),
        ),
        migrations.AddField(
            model_name="site",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="sites", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="outage",
            name="provider",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="componentspan",
            name="provider",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="acknowledgement",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="sitetenure",
            name="provider",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="tenures", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="sitetenure",
            name="site",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="tenures", to="edge_sites.site"
            ),
        ),
        migrations.AddField(
            model_name="stateinterval",
            name="provider",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="edge_sites.provider"
            ),
        ),
        migrations.AddField(
            model_name="stateinterval",
            name="site",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="intervals",
                to="edge_sites.site",
            ),
        ),
        migrations.CreateModel(
            name="PollSchedule",
            fields=[
                (
                    "site",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="schedule",
                        serialize=False,
                        to="edge_sites.site",
                    ),
                ),
                ("shard", models.SmallIntegerField()),
                ("interval_s", models.SmallIntegerField()),
                (
                    "backoff",
                    models.SmallIntegerField(
                        default=1, help_text="Intervals between two polls of a failing site: 1 to 4."
                    ),
                ),
                ("next_poll_at", models.DateTimeField()),
                (
                    "due_at",
                    models.DateTimeField(help_text="What next_poll_at was when the site was last claimed.", null=True),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="edge_sites.provider",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SiteState",
            fields=[
                (
                    "site",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="state",
                        serialize=False,
                        to="edge_sites.site",
                    ),
                ),
                ("version", models.BigIntegerField(default=0)),
                (
                    "availability",
                    models.CharField(
                        choices=[("up", "Up"), ("degraded", "Degraded"), ("down", "Down"), ("unknown", "Unknown")],
                        default="unknown",
                        max_length=8,
                    ),
                ),
                ("availability_since", models.DateTimeField()),
                (
                    "reachability",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "Never reached"),
                            ("reachable", "Reachable"),
                            ("unreachable", "Unreachable"),
                            ("centre_blind", "Centre blind"),
                        ],
                        default="",
                        max_length=12,
                    ),
                ),
                ("reachability_since", models.DateTimeField()),
                (
                    "shown",
                    models.CharField(
                        choices=[("up", "Up"), ("degraded", "Degraded"), ("down", "Down"), ("unknown", "Unknown")],
                        default="unknown",
                        max_length=8,
                    ),
                ),
                ("shown_since", models.DateTimeField()),
                (
                    "candidate",
                    models.CharField(blank=True, help_text="State that hysteresis still holds back.", max_length=8),
                ),
                ("candidate_count", models.SmallIntegerField(default=0)),
                ("candidate_since", models.DateTimeField(null=True)),
                ("misses", models.IntegerField(default=0)),
                (
                    "compliance",
                    models.CharField(
                        choices=[("conform", "Conform"), ("drift", "Drift"), ("unknown", "Unknown")],
                        default="unknown",
                        max_length=8,
                    ),
                ),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="Last change of what the map shows.",
                    ),
                ),
                ("last_poll_at", models.DateTimeField(null=True)),
                ("last_good_at", models.DateTimeField(null=True)),
                ("last_error", models.CharField(blank=True, max_length=24)),
                ("last_error_detail", models.CharField(blank=True, max_length=300)),
                ("reasons", models.JSONField(default=list)),
                ("workloads", models.JSONField(default=list)),
                ("workloads_at", models.DateTimeField(null=True)),
                ("boot", models.CharField(blank=True, max_length=64)),
                (
                    "clock_offset_ms",
                    models.BigIntegerField(help_text="Site's clock minus ours, at receipt.", null=True),
                ),
                ("journal_seq", models.BigIntegerField(null=True)),
                ("journal_head", models.CharField(blank=True, max_length=71)),
                ("busy_until", models.DateTimeField(null=True)),
                ("busy_reason", models.CharField(blank=True, max_length=200)),
                ("rtt_ms", models.IntegerField(null=True)),
                ("cpu_ratio", models.FloatField(null=True)),
                ("mem_ratio", models.FloatField(null=True)),
                ("disk_ratio", models.FloatField(null=True)),
                ("temp_celsius", models.FloatField(null=True)),
                (
                    "component_set",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="edge_sites.componentset",
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="edge_sites.provider",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="site",
            index=models.Index(fields=["provider", "id"], name="site_provider"),
        ),
        migrations.AddIndex(
            model_name="site",
            index=models.Index(fields=["name", "id"], name="site_name"),
        ),
        migrations.AddConstraint(
            model_name="site",
            constraint=models.CheckConstraint(
                condition=models.Q(("lat__gte", -90), ("lat__lte", 90), ("lon__gte", -180), ("lon__lte", 180)),
                name="site_on_the_globe",
            ),
        ),
        migrations.AddConstraint(
            model_name="site",
            constraint=models.CheckConstraint(
                condition=models.Q(("poll_interval_s__gte", 1), ("poll_interval_s__lte", 3600)), name="site_interval"
            ),
        ),
        migrations.AddConstraint(
            model_name="site",
            constraint=models.CheckConstraint(
                condition=models.Q(("life__in", ["planned", "active", "retired"])), name="site_life"
            ),
        ),
        migrations.AddIndex(
            model_name="outage",
            index=models.Index(fields=["site", "valid_from"], name="outage_site"),
        ),
        migrations.AddIndex(
            model_name="outage",
            index=models.Index(fields=["provider", "valid_from"], name="outage_provider"),
        ),
        migrations.AddConstraint(
            model_name="outage",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_to", None), ("valid_to__gte", models.F("valid_from")), _connector="OR"),
                name="outage_span",
            ),
        ),
        migrations.AddConstraint(
            model_name="outage",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("closed_at", None), ("valid_to", None)), ("valid_to__isnull", False), _connector="OR"
                ),
                name="outage_closed",
            ),
        ),
        migrations.AddConstraint(
            model_name="outage",
            constraint=models.UniqueConstraint(
                condition=models.Q(("superseded_at", None), ("valid_to", None)),
                fields=("site",),
                name="outage_one_open",
            ),
        ),
        migrations.AddIndex(
            model_name="componentspan",
            index=models.Index(fields=["site", "valid_from"], name="component_span_site"),
        ),
        migrations.AddConstraint(
            model_name="componentspan",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_to", None), ("valid_to__gte", models.F("valid_from")), _connector="OR"),
                name="component_span_span",
            ),
        ),
        migrations.AddConstraint(
            model_name="componentspan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("closed_at", None), ("valid_to", None)), ("valid_to__isnull", False), _connector="OR"
                ),
                name="component_span_closed",
            ),
        ),
        migrations.AddConstraint(
            model_name="componentspan",
            constraint=models.UniqueConstraint(
                condition=models.Q(("superseded_at", None), ("valid_to", None)),
                fields=("site",),
                name="component_span_one_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="acknowledgement",
            constraint=models.UniqueConstraint(
                condition=models.Q(("cleared_at", None)), fields=("site",), name="acknowledgement_one_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="sitetenure",
            constraint=models.UniqueConstraint(
                condition=models.Q(("valid_to", None)), fields=("site",), name="tenure_one_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="sitetenure",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_to", None), ("valid_to__gte", models.F("valid_from")), _connector="OR"),
                name="tenure_span",
            ),
        ),
        migrations.AddIndex(
            model_name="stateinterval",
            index=models.Index(fields=["site", "axis", "valid_from"], name="interval_site"),
        ),
        migrations.AddIndex(
            model_name="stateinterval",
            index=models.Index(fields=["provider", "valid_from"], name="interval_provider"),
        ),
        migrations.AddIndex(
            model_name="stateinterval",
            index=models.Index(fields=["-recorded_at"], name="interval_recorded"),
        ),
        migrations.AddConstraint(
            model_name="stateinterval",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_to", None), ("valid_to__gte", models.F("valid_from")), _connector="OR"),
                name="interval_span",
            ),
        ),
        migrations.AddConstraint(
            model_name="stateinterval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("closed_at", None), ("valid_to", None)), ("valid_to__isnull", False), _connector="OR"
                ),
                name="interval_closed",
            ),
        ),
        migrations.AddConstraint(
            model_name="stateinterval",
            constraint=models.UniqueConstraint(
                condition=models.Q(("superseded_at", None), ("valid_to", None)),
                fields=("site", "axis"),
                name="interval_one_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="stateinterval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("axis", "availability"), ("state__in", ["up", "degraded", "down", "unknown"])),
                    models.Q(("axis", "reachability"), ("state__in", ["reachable", "unreachable", "centre_blind"])),
                    _connector="OR",
                ),
                name="interval_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="pollschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("backoff__gte", 1), ("backoff__lte", 4)), name="schedule_backoff"
            ),
        ),
        migrations.AddConstraint(
            model_name="pollschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("shard__gte", 0), ("shard__lt", 64)), name="schedule_shard"
            ),
        ),
        migrations.AddConstraint(
            model_name="sitestate",
            constraint=models.CheckConstraint(
                condition=models.Q(("availability__in", ["up", "degraded", "down", "unknown"])),
                name="state_availability",
            ),
        ),
        migrations.AddConstraint(
            model_name="sitestate",
            constraint=models.CheckConstraint(
                condition=models.Q(("reachability__in", ["", "reachable", "unreachable", "centre_blind"])),
                name="state_reachability",
            ),
        ),
        migrations.AddConstraint(
            model_name="sitestate",
            constraint=models.CheckConstraint(
                condition=models.Q(("shown__in", ["up", "degraded", "down", "unknown"])), name="state_shown"
            ),
        ),
    ]
