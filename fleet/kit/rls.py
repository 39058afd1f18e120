"""Migration operations that grant tables to the policy roles and put row-level security on them.

Two roles, two policies: measured, that costs an unscoped query nothing and lets a scoped one use its index; one
policy with an OR does not (docs/adr/0002).
"""

from collections.abc import Sequence

from django.db.migrations import RunSQL

SCOPED_IDS = "ANY((SELECT NULLIF(current_setting('app.providers', true), ''))::int[])"
ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
APPEND_ONLY = ("SELECT", "INSERT")
READ_ONLY = ("SELECT",)


def protect(
    table: str,
    *,
    column: str = "provider_id",
    grants: Sequence[str] = ALL,
    scoped_grants: Sequence[str] | None = None,
    scoped: str | None = None,
) -> RunSQL:
    """Row-level security on `table`: `app_wide` sees all rows, `app_scoped` those of its providers by `column`.

    `scoped` replaces the scoped condition, for a table whose provider is found by a join. Nothing but the two
    roles is granted anything. Undone by the reverse SQL.
    """
    condition = scoped or f"{column} = {SCOPED_IDS}"
    wide_list, scoped_list = ", ".join(grants), ", ".join(grants if scoped_grants is None else scoped_grants)
    return RunSQL(
        sql=[
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY wide ON {table} TO app_wide USING (true) WITH CHECK (true)",
            f"CREATE POLICY scoped ON {table} TO app_scoped USING ({condition}) WITH CHECK ({condition})",
            f"GRANT {wide_list} ON {table} TO app_wide",
            f"GRANT {scoped_list} ON {table} TO app_scoped",
        ],
        reverse_sql=[
            f"REVOKE ALL ON {table} FROM app_wide, app_scoped",
            f"DROP POLICY scoped ON {table}",
            f"DROP POLICY wide ON {table}",
            f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ],
    )


def open_to_app(*tables: str, grants: Sequence[str] = ALL) -> RunSQL:
    """Grant tables without site data (accounts, sessions) to every role of the application, scope or none."""
    listed = ", ".join(tables)
    return RunSQL(
        sql=f"GRANT {', '.join(grants)} ON {listed} TO app_base",
        reverse_sql=f"REVOKE ALL ON {listed} FROM app_base",
    )
