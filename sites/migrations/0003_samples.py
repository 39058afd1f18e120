"""Samples and their rollups, partitioned by day; the two functions that make and drop partitions."""

from django.db import migrations

# One wide row a poll. `at` is the centre's receipt time: a site's wrong clock must not miss a partition.
SAMPLE = """
CREATE TABLE sample (
    site_id integer NOT NULL,
    provider_id integer NOT NULL,
    at timestamptz NOT NULL,
    late_ms integer NOT NULL,
    rtt_ms integer NOT NULL,
    cpu_count smallint NOT NULL,
    cpu_ratio real NOT NULL,
    load1 real,
    mem_bytes bigint NOT NULL,
    mem_total_bytes bigint NOT NULL,
    disk_bytes bigint NOT NULL,
    disk_total_bytes bigint NOT NULL,
    net_rx_bytes_total bigint,
    net_tx_bytes_total bigint,
    temp_celsius real,
    power_watts real
) PARTITION BY RANGE (at);
COMMENT ON COLUMN sample.late_ms IS 'from the moment the poll was due to the moment its batch was written';
CREATE INDEX sample_site_at ON sample (site_id, at);
CREATE INDEX sample_at ON sample USING brin (at);
"""

METRICS = ("cpu_ratio", "load1", "mem_bytes", "disk_bytes", "temp_celsius", "power_watts", "rtt_ms")


def rollup(table: str) -> str:
    figures = ",\n    ".join(
        f"{metric}_{figure} double precision" for metric in METRICS for figure in ("min", "avg", "max", "p95")
    )
    return f"""
CREATE TABLE {table} (
    site_id integer NOT NULL,
    provider_id integer NOT NULL,
    bucket timestamptz NOT NULL,
    polls integer NOT NULL,
    cpu_count smallint NOT NULL,
    mem_total_bytes bigint NOT NULL,
    disk_total_bytes bigint NOT NULL,
    net_rx_bytes_s double precision,
    net_tx_bytes_s double precision,
    {figures},
    PRIMARY KEY (site_id, provider_id, bucket)
) PARTITION BY RANGE (bucket);
CREATE INDEX {table}_bucket ON {table} USING brin (bucket);
"""


# How far each resolution has been rolled up, so that a stopped worker catches up where it left.
PROGRESS = """
CREATE TABLE rollup_progress (resolution text PRIMARY KEY, done_to timestamptz NOT NULL);
GRANT SELECT, INSERT, UPDATE ON rollup_progress TO app_wide;
"""

# Owner's rights, a fixed search_path, and a closed list of tables: a caller can do nothing else with them.
FUNCTIONS = """
CREATE FUNCTION make_partitions(parent text, first_day date, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    made integer := 0;
    day date;
    part text;
BEGIN
    IF parent NOT IN ('sample', 'sample_5m', 'sample_1h') THEN
        RAISE EXCEPTION 'no partitioned table of that name';
    END IF;
    IF days < 1 OR days > 400 THEN
        RAISE EXCEPTION 'from 1 to 400 days';
    END IF;
    FOR step IN 0 .. days - 1 LOOP
        day := first_day + step;
        part := parent || '_' || to_char(day, 'YYYYMMDD');
        IF to_regclass('public.' || quote_ident(part)) IS NULL THEN
            EXECUTE format(
                -- The planner's statistics of a day hardly change while it grows: they are renewed less often.
                'CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)'
                ' WITH (autovacuum_analyze_scale_factor = 5)',
                part, parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00'
            );
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$body$;

CREATE FUNCTION drop_partitions(parent text, before date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $body$
DECLARE
    dropped integer := 0;
    part text;
BEGIN
    IF parent NOT IN ('sample', 'sample_5m', 'sample_1h') THEN
        RAISE EXCEPTION 'no partitioned table of that name';
    END IF;
    IF before > (now() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'only days that are over can be dropped';
    END IF;
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass('public.' || quote_ident(parent))
          AND c.relname ~ ('^' || parent || '_[0-9]{8}$')
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
    LOOP
        EXECUTE format('DROP TABLE public.%I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$body$;

REVOKE ALL ON FUNCTION make_partitions(text, date, integer), drop_partitions(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partitions(text, date, integer), drop_partitions(text, date) TO app_wide;
"""

FIRST_PARTITIONS = """
SELECT make_partitions(parent, (now() AT TIME ZONE 'UTC')::date - 1, 9)
FROM unnest(ARRAY['sample', 'sample_5m', 'sample_1h']) AS parent
"""


class Migration(migrations.Migration):
    dependencies = [("edge_sites", "0002_relations")]

    operations = [
        migrations.RunSQL(SAMPLE, "DROP TABLE sample"),
        migrations.RunSQL(rollup("sample_5m"), "DROP TABLE sample_5m"),
        migrations.RunSQL(rollup("sample_1h"), "DROP TABLE sample_1h"),
        migrations.RunSQL(PROGRESS, "DROP TABLE rollup_progress"),
        migrations.RunSQL(
            FUNCTIONS,
            "DROP FUNCTION make_partitions(text, date, integer); DROP FUNCTION drop_partitions(text, date)",
        ),
        migrations.RunSQL(FIRST_PARTITIONS, migrations.RunSQL.noop),
    ]
