"""Row-level security of round trips, versions and report lines: a provider reads its own. Lists of sites move to their lines."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, READ_ONLY, protect

# The owner is held to row-level security as well, by which it would find nothing to move.
MOVE = """
ALTER TABLE slas_reportpart NO FORCE ROW LEVEL SECURITY;
INSERT INTO slas_reportline (part_id, provider_id, kind, number, measure, slug, name, verdict, rank, data)
SELECT p.id, p.provider_id, 'places', o.number - 1, o.place ->> 'measure', o.place ->> 'slug', o.place ->> 'name',
    COALESCE(o.place ->> 'verdict', ''),
    split_part(o.floor, '/', 1)::float8 / COALESCE(NULLIF(split_part(o.floor, '/', 2), '')::float8, 1), o.place
FROM slas_reportpart p CROSS JOIN LATERAL (
    SELECT e.place, e.number, e.place -> 'shares' ->> 'floor' AS floor
    FROM jsonb_array_elements(p.data -> 'places') WITH ORDINALITY AS e(place, number)
) o;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE slas_reportpart SET data = jsonb_set(data, '{places}', '[]');
ALTER TABLE slas_reportpart FORCE ROW LEVEL SECURITY;
"""
BACK = """
ALTER TABLE slas_reportpart NO FORCE ROW LEVEL SECURITY;
UPDATE slas_reportpart p SET data = jsonb_set(data, '{places}', COALESCE((
    SELECT jsonb_agg(l.data ORDER BY l.number) FROM slas_reportline l WHERE l.part_id = p.id AND l.kind = 'places'
), '[]'));
ALTER TABLE slas_reportpart FORCE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies = [("slas", "0015_latency_and_lines")]

    operations = [
        migrations.RunSQL(MOVE, BACK),
        protect("slas_reportline", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("slas_latencyday", grants=APPEND_ONLY, scoped_grants=READ_ONLY),
        protect("slas_sitesync", scoped_grants=READ_ONLY),
    ]
