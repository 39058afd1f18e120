"""Makes the database, its roles and their memberships, exactly and only as the application needs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fleet.stack.errors import StackError

BASE, WIDE, SCOPED = "app_base", "app_wide", "app_scoped"
LEAST_VERSION = 16_00_00  # memberships with INHERIT and SET options
ATTRIBUTES = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}


@dataclass(frozen=True)
class Membership:
    """`member` belongs to `role`; `inherit`: has its rights at once; `may_set`: may become it by SET ROLE."""

    role: str
    member: str
    inherit: bool
    may_set: bool


@dataclass(frozen=True)
class Plan:
    """What is to stand: two connection strings (libpq URLs) that name one database, and a stronger one to make it with.

    `admin` is a superuser, or the owner itself where it has CREATEROLE and the database exists.
    """

    app: str
    owner: str
    admin: str

    @property
    def database(self) -> str:
        """Name of the database."""
        return _part(self.owner, "dbname")

    @property
    def app_role(self) -> str:
        """Name of the application's login role."""
        return _part(self.app, "user")

    @property
    def owner_role(self) -> str:
        """Name of the role that owns the database."""
        return _part(self.owner, "user")

    def memberships(self) -> list[Membership]:
        """All memberships among the project's roles."""
        return [
            Membership(BASE, WIDE, inherit=True, may_set=False),
            Membership(BASE, SCOPED, inherit=True, may_set=False),
            Membership(BASE, self.app_role, inherit=True, may_set=False),
            Membership(WIDE, self.app_role, inherit=False, may_set=True),
            Membership(SCOPED, self.app_role, inherit=False, may_set=True),
            Membership(WIDE, self.owner_role, inherit=True, may_set=True),
        ]


def provision(plan: Plan) -> list[str]:
    """Make what is missing, mend what differs, and return one line for each change made (none the second time).

    Raises StackError when the server is too old, the two URLs do not fit together, or the rights do not suffice.
    """
    if plan.database != _part(plan.app, "dbname"):
        raise StackError("DATABASE_URL and DATABASE_OWNER_URL name different databases.")
    if plan.app_role == plan.owner_role:
        raise StackError("DATABASE_URL and DATABASE_OWNER_URL need different roles: the application may own nothing.")
    done: list[str] = []
    try:
        with _connected(plan.admin) as connection:
            _roles(connection, plan, done)
            _database(connection, plan, done)
        with _connected(make_conninfo(plan.admin, dbname=plan.database)) as connection:
            _privileges(connection, plan, done)
    except psycopg.Error as error:
        raise StackError(f"The database cannot be provisioned: {str(error).strip().splitlines()[0]}") from error
    return done


@contextmanager
def _connected(conninfo: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
        if connection.info.server_version < LEAST_VERSION:
            raise StackError("PostgreSQL 16 or newer is needed.")
        yield connection


def _part(conninfo: str, name: str) -> str:
    value = conninfo_to_dict(conninfo).get(name)
    if not value:
        raise StackError(f"A database URL lacks its {'user' if name == 'user' else 'database name'}.")
    return str(value)


def _roles(connection: psycopg.Connection, plan: Plan, done: list[str]) -> None:
    for name in (BASE, WIDE, SCOPED):
        _role(connection, name, {"INHERIT"}, None, done)
    if connection.info.user != plan.owner_role:
        _role(connection, plan.owner_role, {"LOGIN", "INHERIT", "CREATEDB"}, plan.owner, done)
    _role(connection, plan.app_role, {"LOGIN"}, plan.app, done)
    for membership in plan.memberships():
        _membership(connection, membership, done)


def _role(connection: psycopg.Connection, name: str, wanted: set[str], conninfo: str | None, done: list[str]) -> None:
    """Make the role, or take away and give it attributes until it has `wanted` and no other."""
    columns = sql.SQL(", ").join(map(sql.Identifier, ATTRIBUTES))
    query = sql.SQL("SELECT {} FROM pg_roles WHERE rolname = %s").format(columns)
    found = connection.execute(query, [name]).fetchone()
    if found is None:
        changes = [word if word in wanted else f"NO{word}" for word in ("LOGIN", "INHERIT", "CREATEDB")]
        _alter(connection, "CREATE", name, changes, conninfo)
        done.append(f"role {name} made")
        return
    has = {word for word, holds in zip(ATTRIBUTES.values(), found, strict=True) if holds}
    # Only what differs: naming SUPERUSER at all is refused to everybody but superusers.
    changes = sorted(wanted - has) + [f"NO{word}" for word in sorted(has - wanted)]
    new_password = conninfo if conninfo and not _signs_in(conninfo) else None
    if changes or new_password:
        _alter(connection, "ALTER", name, changes, new_password)
        done.append(f"role {name} set to {', '.join([*changes, *(['its password'] if new_password else [])])}")


def _alter(connection: psycopg.Connection, verb: str, name: str, changes: list[str], conninfo: str | None) -> None:
    parts: list[sql.Composable] = [sql.SQL(verb), sql.SQL("ROLE"), sql.Identifier(name)]
    parts += map(sql.SQL, changes)
    password = conninfo_to_dict(conninfo).get("password") if conninfo else None
    if password:
        # Hashed here, so that the server's log never sees it.
        hashed = connection.pgconn.encrypt_password(str(password).encode(), name.encode(), b"scram-sha-256")
        parts += [sql.SQL("PASSWORD"), sql.Literal(hashed.decode())]
    if len(parts) > 3 or verb == "CREATE":
        connection.execute(sql.SQL(" ").join(parts))


def _membership(connection: psycopg.Connection, wanted: Membership, done: list[str]) -> None:
    query = """
        SELECT bool_or(inherit_option), bool_or(set_option) FROM pg_auth_members
        WHERE roleid = %s::regrole AND member = %s::regrole
    """

    def found() -> tuple[bool | None, ...]:
        roles = [sql.Identifier(name).as_string(connection) for name in (wanted.role, wanted.member)]
        return connection.execute(query, roles).fetchone() or ()

    if found() == (wanted.inherit, wanted.may_set):
        return
    connection.execute(
        sql.SQL("GRANT {} TO {} WITH INHERIT {}, SET {}").format(
            sql.Identifier(wanted.role),
            sql.Identifier(wanted.member),
            sql.SQL(str(wanted.inherit)),
            sql.SQL(str(wanted.may_set)),
        )
    )
    if found() != (wanted.inherit, wanted.may_set):
        raise StackError(f"{wanted.member} holds {wanted.role} by another grant too; revoke that one first.")
    how = [word for word, holds in (("inherits", wanted.inherit), ("may set", wanted.may_set)) if holds]
    done.append(f"{wanted.member} {' and '.join(how)} {wanted.role}")


def _database(connection: psycopg.Connection, plan: Plan, done: list[str]) -> None:
    query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    found = connection.execute(query, [plan.database]).fetchone()
    names = {"database": sql.Identifier(plan.database), "owner": sql.Identifier(plan.owner_role)}
    if found is None:
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner} TEMPLATE template0").format(**names))
        done.append(f"database {plan.database} made")
    elif found[0] != plan.owner_role:
        connection.execute(sql.SQL("ALTER DATABASE {database} OWNER TO {owner}").format(**names))
        done.append(f"database {plan.database} given to {plan.owner_role}")


def _privileges(connection: psycopg.Connection, plan: Plan, done: list[str]) -> None:
    """Inside the database: nobody may make objects but the owner, nobody may come in but the project's roles."""
    state = connection.execute(
        """
        SELECT (SELECT nspowner::regrole = to_regrole(quote_ident(%s)) FROM pg_namespace WHERE nspname = 'public'),
               EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) a
                       WHERE nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'),
               EXISTS (SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
                       WHERE datname = current_database() AND a.grantee = 0)
        """,
        [plan.owner_role],
    ).fetchone()
    assert state is not None
    owned, open_schema, open_database = state
    names = {
        "database": sql.Identifier(plan.database),
        "owner": sql.Identifier(plan.owner_role),
        "base": sql.Identifier(BASE),
    }
    for needed, statement, line in (
        (not owned, "ALTER SCHEMA public OWNER TO {owner}", f"schema public given to {plan.owner_role}"),
        (open_schema, "REVOKE CREATE ON SCHEMA public FROM PUBLIC", "schema public closed to others"),
        (
            open_database,
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {base}",
            f"database {plan.database} closed to others",
        ),
    ):
        if needed:
            connection.execute(sql.SQL(statement).format(**names))
            done.append(line)


def _signs_in(conninfo: str) -> bool:
    """Whether the role's password is the one of the URL (a database that does not exist yet is no objection)."""
    try:
        psycopg.connect(conninfo, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" not in str(error)
    return True
