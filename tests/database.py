"""Plain SQL for tests, and the lists of tables as the catalogue knows them."""

import time
from collections.abc import Sequence
from typing import Any

from django.db import OperationalError, connections

OWNER, APP = "owner", "default"


def rows(query: str, params: Sequence[Any] = (), *, using: str = APP) -> list[tuple[Any, ...]]:
    """What a statement returns; nothing for one that returns no rows."""
    with connections[using].cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall()) if cursor.description else []


def truncate(tables: str) -> None:
    """Empty tables, and what refers to them, as the owner, while processes of the system read and write them.

    A TRUNCATE locks one table after the other, and so may meet with a reader in a deadlock, or wait for one who waits
    for something else: it is tried again. Raises OperationalError when that is no use.
    """
    for left in reversed(range(10)):
        try:
            rows(f"SET LOCAL lock_timeout = '5s'; TRUNCATE {tables} RESTART IDENTITY CASCADE", using=OWNER)
            return
        except OperationalError:
            if not left:
                raise
            time.sleep(0.3)


def value(query: str, params: Sequence[Any] = (), *, using: str = APP) -> Any:
    """The first value of the first row."""
    return rows(query, params, using=using)[0][0]


def tables() -> list[str]:
    """Every table of the schema, partitions left out."""
    query = """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition ORDER BY 1
    """
    return [name for (name,) in rows(query, using=OWNER)]


def partitions() -> list[str]:
    """Every partition of the schema."""
    query = """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relispartition
        AND relkind IN ('r', 'p') ORDER BY 1
    """
    return [name for (name,) in rows(query, using=OWNER)]


def provider_columns() -> dict[str, str]:
    """Tables that say whose a row is, with the column that says it."""
    query = """
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attname = 'provider_id' AND NOT a.attisdropped ORDER BY 1
    """
    found = {name: "provider_id" for (name,) in rows(query, using=OWNER)}
    return found | {"edge_sites_provider": "id"}


def protected() -> list[str]:
    """The same without memberships: those make a Scope, so they lie outside row-level security."""
    return sorted(provider_columns().keys() - {"people_membership"})
