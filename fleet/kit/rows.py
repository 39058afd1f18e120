"""Writing many rows in one statement, whose cost grows with the rows alone."""

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
    statement = sql.SQL("UPDATE {} AS t SET {} FROM unnest({}) AS v({}) WHERE t.{} = v.{}").format(
        sql.Identifier(meta.db_table),
        sql.SQL(", ").join(sql.SQL("{0} = v.{0}").format(sql.Identifier(column.column)) for column in columns[1:]),
        _arrays(columns, connection),
        _names(columns),
        sql.Identifier(key.column),
        sql.Identifier(key.column),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, _values(columns, rows, connection))


def write_new(rows: Sequence[models.Model], fields: Sequence[str]) -> None:
    """Insert these rows, all of one model whose key the database gives, with these fields; they get their keys.

    Within the open scope; columns of other fields take the database's default. bulk_create does the same one
    placeholder a value where a model has a BinaryField, at five times the cost.
    """
    if not rows:
        return
    meta: Any = type(rows[0])._meta
    columns = [meta.get_field(name) for name in fields]
    connection = connections[DEFAULT]
    statement = sql.SQL("INSERT INTO {} ({}) SELECT * FROM unnest({}) RETURNING {}").format(
        sql.Identifier(meta.db_table),
        _names(columns),
        _arrays(columns, connection),
        sql.Identifier(meta.pk.column),
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, _values(columns, rows, connection))
        for row, (key,) in zip(rows, cursor.fetchall(), strict=True):
            row.pk = key
            row._state.adding = False


def _names(columns: Sequence[Any]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.column) for column in columns)


def _arrays(columns: Sequence[Any], connection: Any) -> sql.Composed:
    # Types are from our own models, nobody's input.
    return sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(_type(column, connection))) for column in columns)


def _values(columns: Sequence[Any], rows: Collection[models.Model], connection: Any) -> list[list[Any]]:
    return [[_value(column, row, connection) for row in rows] for column in columns]


def _type(column: Any, connection: Any) -> str:
    """Text without its length: a cast would cut what is too long, where the column refuses it."""
    name: str = column.rel_db_type(connection) if column.is_relation else column.db_type(connection)
    return "text" if name.startswith("varchar") else name


def _value(column: Any, row: models.Model, connection: Any) -> Any:
    return column.get_db_prep_save(getattr(row, column.attname), connection)
