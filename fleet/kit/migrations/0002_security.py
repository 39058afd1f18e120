"""The audit can be added to, never changed; the cache that holds sign-in throttles."""

from django.db import migrations

from fleet.kit.rls import APPEND_ONLY, open_to_app, protect

# The table that django's DatabaseCache expects (see `createcachetable --dry-run`).
CACHE = """
CREATE TABLE kit_cache (
    cache_key varchar(255) NOT NULL PRIMARY KEY,
    value text NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX kit_cache_expires ON kit_cache (expires);
"""


class Migration(migrations.Migration):
    dependencies = [("kit", "0001_initial")]

    operations = [
        protect("kit_auditentry", grants=APPEND_ONLY),
        migrations.RunSQL(CACHE, "DROP TABLE kit_cache"),
        open_to_app("kit_cache"),
    ]
