"""Writing many rows back in one statement."""

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connections, models
from psycopg import sql

from fleet.kit.tenancy import DEFAULT


def write_back(rows: Collection[models.Model], fields: Sequence[str]) -> None:
    """Write these fields of these rows, all of one model, within the open scope.

    One `UPDATE ... FROM unnest(...)`, whose cost grows with the rows; Django's own bulk_update builds a CASE of as many
    branches as there are rows for every field, and costs twenty times as much.
    """
    if not rows:
        return
    meta: Any = type(next(iter(rows)))._meta
    key = meta.pk
    columns = [key, *(meta.get_field(name) for name in fields)]
    connection = connections[DEFAULT]
    arrays = [
        sql.SQL("%s::{}[]").format(sql.SQL(_type(column, connection)))  # from our own models, nobody's input
        for column in columns
    ]
    statement = sql.SQL("UPDATE {} AS t SET {} FROM unnest({}) AS v({}) WHERE t.{} = v.{}").format(
        sql.Identifier(meta.db_table),
        sql.SQL(", ").join(sql.SQL("{0} = v.{0}").format(sql.Identifier(column.column)) for column in columns[1:]),
        sql.SQL(", ").join(arrays),
        sql.SQL(", ").join(sql.Identifier(column.column) for column in columns),
        sql.Identifier(key.column),
        sql.Identifier(key.column),
    )
    values = [[_value(column, row, connection) for row in rows] for column in columns]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _type(column: Any, connection: Any) -> str:
    """Text without its length: a cast would cut what is too long, where the column refuses it."""
    name: str = column.rel_db_type(connection) if column.is_relation else column.db_type(connection)
    return "text" if name.startswith("varchar") else name


def _value(column: Any, row: models.Model, connection: Any) -> Any:
    return column.get_db_prep_save(getattr(row, column.attname), connection)
