"""The whole database out and in, by PostgreSQL's own programs, as the role that owns it.

In is one transaction: what was there goes, what was in the backup comes, its rows are counted, and every site is set to
recover. Whatever happens meanwhile, the database is wholly the one or wholly the other.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from fleet.stack.errors import StackError
from fleet.stack.postgres import first_complaint, programs

_TABLES: Final = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
# Of other roles' sessions the owner sees whose they are, and nothing more; PostgreSQL's own have no user.
_SESSIONS: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename IS NOT NULL AND pid <> pg_backend_pid()
"""
# All that the owner made. CASCADE takes partitions, keys and policies along.
_EMPTY: Final = """
DO $$ DECLARE one record; BEGIN
FOR one IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition LOOP
    EXECUTE 'DROP TABLE ' || one.name || ' CASCADE'; END LOOP;
FOR one IN SELECT p.oid::regprocedure AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') LOOP
    EXECUTE 'DROP FUNCTION ' || one.name || ' CASCADE'; END LOOP;
FOR one IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind = 'S' LOOP
    EXECUTE 'DROP SEQUENCE ' || one.name || ' CASCADE'; END LOOP;
END $$;
"""


def write_dump(owner: str, path: Path) -> tuple[dict[str, int], list[list[str]]]:
    """Dump the database to `path`; returns the rows of each table and the migrations, of the same moment.

    Raises StackError.
    """
    try:
        with psycopg.connect(owner, connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            tables = [name for (name,) in connection.execute(_TABLES)]
            if "django_migrations" not in tables:
                raise StackError("There is nothing in this database to back up.")
            _run(
                "pg_dump", owner, "--format=custom", "--enable-row-security", f"--snapshot={snapshot}", f"--file={path}"
            )
            rows = {name: _count(connection, name) for name in tables}
            migrations = [
                list(row) for row in connection.execute("SELECT app, name FROM django_migrations ORDER BY 1, 2")
            ]
    except psycopg.Error as error:
        raise StackError(f"The database cannot be read: {first_complaint(str(error))}") from None
    return rows, migrations


def require_quiet(owner: str, *, replace: bool) -> None:
    """Raise StackError when somebody else is connected, or when the database is not empty and not to be replaced."""
    try:
        with psycopg.connect(owner, connect_timeout=10) as connection:
            (others,) = connection.execute(_SESSIONS).fetchone() or (0,)
            is_empty = connection.execute(_TABLES).fetchone() is None
    except psycopg.Error as error:
        raise StackError(f"The database cannot be reached: {first_complaint(str(error))}") from None
    if others:
        raise StackError(f"{others} other sessions use the database: stop the dashboard first.")
    if not is_empty and not replace:
        raise StackError("The database is not empty. --replace throws away what is in it.")


def read_dump(owner: str, path: Path, rows: Mapping[str, int], after: Iterable[str]) -> None:
    """Put a dump in the place of what is there, then run the statements `after`; all of it, or nothing.

    Raises StackError.
    """
    script = path.with_suffix(".sql")
    _run("pg_restore", owner, "--no-owner", "--enable-row-security", f"--file={script}", str(path), connects=False)
    last = path.with_suffix(".last.sql")
    checks = "".join(_check(name, number) for name, number in rows.items())
    last.write_text(f"SET search_path = public;\n{checks}{';'.join(after)};\n")
    first = path.with_suffix(".first.sql")
    first.write_text(_EMPTY)
    files = [f"--file={file}" for file in (first, script, last)]
    _run("psql", owner, "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", *files)


# ------------------------------------------------------------------------------------------------------------
def _count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table))).fetchone()
    return int(row[0]) if row else 0


def _check(table: str, rows: int) -> str:
    """A statement that ends the transaction when a table has not the rows that were counted."""
    name, said = sql.Identifier(table).as_string(None), sql.Literal(f"{table} has not the {rows} rows of the backup")
    return (
        f"DO $check$ BEGIN IF (SELECT count(*) FROM {name}) <> {int(rows)} THEN"  # noqa: S608
        f" RAISE EXCEPTION USING MESSAGE = {said.as_string(None)}; END IF; END $check$;\n"
    )


def _run(program: str, owner: str, *arguments: str, connects: bool = True) -> None:
    """Run a program of PostgreSQL's; the password goes by the environment, which others cannot read."""
    parts = {name: str(value) for name, value in conninfo_to_dict(owner).items() if value is not None}
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    names |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    environ = {names[name]: value for name, value in parts.items() if name in names} if connects else {}
    done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
        [str(programs() / program), *arguments],
        env={"PATH": os.defpath, "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"{program}: {first_complaint(done.stderr)}")
