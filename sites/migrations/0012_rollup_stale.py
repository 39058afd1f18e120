"""Hours of sites to which samples were added after they had been rolled up."""

from django.db import migrations

STALE = """
CREATE TABLE rollup_stale (
    site_id integer NOT NULL,
    hour timestamptz NOT NULL,
    marked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, hour)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON rollup_stale TO app_wide;
"""


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0011_journal_components")]

    operations = [migrations.RunSQL(STALE, "DROP TABLE rollup_stale")]
