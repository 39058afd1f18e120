"""Roles, memberships and the database: exactly what the application needs, and no more."""

from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fleet.stack.embedded import database_urls
from fleet.stack.errors import StackError
from fleet.stack.postgres import Cluster
from fleet.stack.provision import Plan, provision


@pytest.fixture(scope="module")
def plan(cluster: Cluster) -> Plan:
    found = database_urls(cluster)
    provision(found)
    return found


def rows(conninfo: str, query: str) -> set[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return set(connection.execute(query).fetchall())  # type: ignore[call-overload]  # literals of this file


ROLES = """
    SELECT rolname, rolcanlogin, rolinherit, rolcreatedb, rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls
    FROM pg_roles WHERE rolname ~ '^(app|archipelago)_'
"""
MEMBERSHIPS = """
    SELECT roleid::regrole::text, member::regrole::text, inherit_option, set_option, admin_option
    FROM pg_auth_members WHERE member::regrole::text ~ '^(app|archipelago)_'
"""


def test_roles_are_exact(plan: Plan) -> None:
    assert rows(plan.admin, ROLES) == {
        ("app_base", False, True, False, False),
        ("app_wide", False, True, False, False),
        ("app_scoped", False, True, False, False),
        ("archipelago_app", True, False, False, False),
        ("archipelago_owner", True, True, True, False),
    }


def test_memberships_are_exact(plan: Plan) -> None:
    assert rows(plan.admin, MEMBERSHIPS) == {
        ("app_base", "app_wide", True, False, False),
        ("app_base", "app_scoped", True, False, False),
        ("app_base", "archipelago_app", True, False, False),
        ("app_wide", "archipelago_app", False, True, False),
        ("app_scoped", "archipelago_app", False, True, False),
        ("app_wide", "archipelago_owner", True, True, False),
    }


def test_the_application_owns_nothing_and_makes_nothing(plan: Plan) -> None:
    with psycopg.connect(plan.app, autocommit=True) as connection:
        for statement in ("CREATE TABLE mine (n int)", "CREATE SCHEMA mine", "SET ROLE app_base", "CREATE ROLE mine"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        for role in ("app_wide", "app_scoped"):
            connection.execute(f"SET ROLE {role}")
            connection.execute(f"CREATE TEMPORARY TABLE of_{role} (n int)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("CREATE TABLE mine (n int)")
            connection.execute("RESET ROLE")
    with psycopg.connect(plan.owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE ours (n int)")
        connection.execute("DROP TABLE ours")


def test_others_do_not_come_in(plan: Plan) -> None:
    with psycopg.connect(plan.admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(plan.app, user="stranger", password="stranger")


def test_twice_changes_nothing_even_as_the_owner(plan: Plan) -> None:
    assert provision(plan) == []
    assert provision(replace(plan, admin=plan.owner)) == []


def test_what_drifted_is_mended(plan: Plan) -> None:
    with psycopg.connect(plan.admin, autocommit=True) as connection:
        connection.execute("ALTER ROLE archipelago_app SUPERUSER BYPASSRLS INHERIT PASSWORD 'another'")
        connection.execute("GRANT app_wide TO archipelago_app WITH INHERIT TRUE")
    with psycopg.connect(make_conninfo(plan.admin, dbname=plan.database), autocommit=True) as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert provision(plan) == [
        "role archipelago_app set to NOBYPASSRLS, NOINHERIT, NOSUPERUSER, its password",
        "archipelago_app may set app_wide",
        "schema public closed to others",
    ]
    test_roles_are_exact(plan)
    test_memberships_are_exact(plan)
    assert provision(plan) == []


def test_one_role_for_both_is_refused(plan: Plan) -> None:
    with pytest.raises(StackError, match="need different roles"):
        provision(replace(plan, app=plan.owner))


def test_two_databases_are_refused(plan: Plan) -> None:
    with pytest.raises(StackError, match="different databases"):
        provision(replace(plan, app=plan.app.replace("/archipelago?", "/other?")))


def test_too_few_rights_are_one_line(plan: Plan) -> None:
    elsewhere = plan.app.replace("archipelago_app", "archipelago_other")
    with pytest.raises(StackError) as refused:
        provision(replace(plan, app=elsewhere, admin=plan.owner))
    assert str(refused.value) == "The database cannot be provisioned: permission denied to create role"
