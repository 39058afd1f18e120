"""What PostgreSQL itself says about who may do what: every table, role and function is named here."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import DataError, ProgrammingError, connections, transaction
from psycopg import sql

from fleet.kit.rls import SCOPED_IDS
from fleet.kit.tenancy import Scope, job, scope
from fleet.standards.models import ComplianceInterval
from sites.services.reports import record_reports
from slas.services.deriving import derive_due
from tests.database import APP, OWNER, partitions, protected, provider_columns, rows, tables, value
from tests.sites.builders import polled

pytestmark = pytest.mark.usefixtures("database")

WIDE, SCOPED = "app_wide", "app_scoped"
ALL, KEEP = {"SELECT", "INSERT", "UPDATE", "DELETE"}, {"SELECT", "INSERT", "UPDATE"}
ADD, READ = {"SELECT", "INSERT"}, {"SELECT"}

# Table: what app_wide and app_scoped may do with the rows that they see.
PROTECTED = {
    "edge_sites_acknowledgement": (KEEP, KEEP),
    "edge_sites_blob": (ADD, set()),
    "edge_sites_componentset": (ADD, READ),
    "edge_sites_componentspan": (ADD, ADD),
    "edge_sites_desireddocument": (KEEP, KEEP),
    "edge_sites_desiredreceipt": (ADD, READ),
    "edge_sites_imagesize": (KEEP, READ),
    "edge_sites_jointoken": (KEEP, KEEP),
    "edge_sites_journalcursor": (KEEP, KEEP),
    "edge_sites_journalentry": (ADD, READ),
    "edge_sites_journalenvelope": (ADD, READ),
    "edge_sites_outage": (ADD, ADD),
    "edge_sites_pollschedule": (ALL, ALL),
    "edge_sites_provider": (KEEP, READ),
    "edge_sites_site": (KEEP, KEEP),
    "edge_sites_sitecertificate": (KEEP, KEEP),
    "edge_sites_sitedesired": (KEEP, KEEP),
    "edge_sites_siteidentity": (KEEP, KEEP),
    "edge_sites_sitestate": (KEEP, KEEP),
    "edge_sites_sitetenure": (KEEP, KEEP),
    "edge_sites_stateinterval": (ADD, ADD),
    "kit_auditentry": (ADD, ADD),
    "rollouts_approval": (ADD, ADD),
    "rollouts_attempt": (KEEP, READ),
    "rollouts_changedsite": (ALL, {"INSERT"}),
    "rollouts_hold": (KEEP, KEEP),
    "rollouts_providerasked": (ALL, READ),
    "rollouts_providercalendar": (KEEP, READ),
    "rollouts_rollout": (KEEP, set()),
    "rollouts_rolloutevent": (ADD, READ),
    "rollouts_sitestep": (ALL, READ),
    "rollouts_wave": (ALL, set()),
    "sample": (ADD, READ),
    "sample_1h": (KEEP, READ),
    "sample_5m": (KEEP, READ),
    "slas_adjustment": (ADD, ADD),
    "slas_budget": (ALL, READ),
    "slas_burnalert": (KEEP, READ),
    "slas_contract": (ADD, READ),
    "slas_contractversion": (ADD, READ),
    "slas_decision": (ADD, READ),
    "slas_dispute": (ADD, ADD),
    "slas_disputefile": (ADD, ADD),
    "slas_disputestep": (ADD, ADD),
    "slas_dueincidents": (ALL, {"SELECT", "INSERT"}),
    "slas_finding": (ADD, ADD),
    "slas_incident": (KEEP, READ),
    "slas_incidentnote": (ADD, ADD),
    "slas_incidentspan": (ADD, READ),
    "slas_latencyday": (ADD, READ),
    "slas_maildelivery": (KEEP, READ),
    "slas_mailrecipient": (ALL, READ),
    "slas_mailschedule": (KEEP, READ),
    "slas_outboxevent": (ALL, ADD),
    "slas_report": (KEEP, READ),
    "slas_reportfile": (KEEP, READ),
    "slas_reportline": (ADD, READ),
    "slas_reportpart": (ADD, READ),
    "slas_reportrevision": (ADD, READ),
    "slas_scorecard": (ALL, READ),
    "slas_segment": (ADD, READ),
    "slas_sitesync": (ALL, READ),
    "slas_sitetraits": (KEEP, KEEP),
    "slas_window": (KEEP, KEEP),
    "slas_windowsite": (ADD, ADD),
    "standards_complianceinterval": (ADD, ADD),
    "standards_duesite": (ALL, {"SELECT", "INSERT"}),
    "standards_ring": (ALL, READ),
    "standards_ringstandard": (ADD, READ),
    "standards_sitecompliance": (ALL, ALL),
    "standards_standard": (ALL, READ),
}
FACTS = (
    *("edge_sites_componentspan", "edge_sites_outage", "edge_sites_stateinterval"),
    "standards_complianceinterval",
    "slas_incidentspan",
)
# Site data by a join, or what a viewer of some providers sees as far as their sites go.
JOINED = {
    *("edge_sites_blob", "edge_sites_componentset"),
    *("standards_ring", "standards_ringstandard", "standards_standard"),
    *("rollouts_rollout", "rollouts_wave"),
    *("slas_contract", "slas_contractversion", "slas_incident"),
    *("slas_report", "slas_reportrevision", "slas_mailschedule"),
}

# Outside row-level security: what a Scope is made from, and what names no site. Table: role and what it may do.
OPEN: dict[str, dict[str, set[str]]] = {
    "account_emailaddress": {"app_base": ALL},
    "account_emailconfirmation": {"app_base": ALL},
    "auth_group": {"app_base": READ},
    "auth_group_permissions": {"app_base": READ},
    "auth_permission": {"app_base": READ},
    "django_content_type": {"app_base": READ},
    "django_migrations": {},
    "django_session": {"app_base": ALL},
    "edge_sites_pollerbeat": {WIDE: KEEP, SCOPED: READ},
    "edge_sites_pollershard": {WIDE: ALL},
    "kit_cache": {"app_base": ALL},
    "kit_keptanswer": {"app_base": ALL},
    "people_apitoken": {"app_base": ALL},
    "people_membership": {"app_base": ALL},
    "people_user": {"app_base": ALL},
    "people_user_groups": {"app_base": ALL},
    "people_user_user_permissions": {"app_base": ALL},
    "rollouts_gateevaluation": {WIDE: ADD},
    "rollouts_webhookdelivery": {WIDE: ALL},
    "rollouts_webhookendpoint": {WIDE: ALL},
    "rollup_progress": {WIDE: KEEP},
    "rollup_stale": {WIDE: ALL},
    "slas_centreblind": {WIDE: KEEP, SCOPED: READ},
    "standards_componentverdict": {WIDE: {"SELECT", "INSERT", "DELETE"}},
}


def grants() -> dict[str, dict[str, set[str]]]:
    """By table and role, what was granted; the owner's own rights left out."""
    query = """
        SELECT c.relname, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
    """
    found: dict[str, dict[str, set[str]]] = {}
    for table, role, privilege in rows(query, using=OWNER):
        found.setdefault(table, {}).setdefault(role, set()).add(privilege)
    return found


# Tables -----------------------------------------------------------------------------------------------------
def test_every_table_is_either_protected_or_on_the_list_of_open_ones():
    assert sorted([*PROTECTED, *OPEN]) == tables()
    assert set(protected()) | JOINED == set(PROTECTED)
    assert provider_columns().keys() & OPEN.keys() == {"people_membership"}


def test_protected_tables_have_security_enabled_and_forced_and_exactly_two_policies():
    query = "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relkind IN ('r', 'p')"
    assert {name for (name,) in rows(query, using=OWNER)} == set(PROTECTED)
    policies = rows(
        "SELECT tablename, policyname, permissive, roles::text[], cmd FROM pg_policies WHERE schemaname = 'public'",
        using=OWNER,
    )
    assert sorted(policies) == sorted(
        (table, name, "PERMISSIVE", [role], "ALL")
        for table in PROTECTED
        for name, role in (("wide", WIDE), ("scoped", SCOPED))
    )


def test_policies_say_the_same_for_reading_and_writing():
    query = "SELECT tablename, policyname, qual, with_check FROM pg_policies WHERE schemaname = 'public'"
    found = {(table, name): (qual, check) for table, name, qual, check in rows(query, using=OWNER)}
    assert {found[table, "wide"] for table in PROTECTED} == {("true", "true")}
    for table, column in provider_columns().items():
        if table in PROTECTED and table not in JOINED:
            assert found[table, "scoped"] == (as_stored(column), as_stored(column))
    qual, check = found["edge_sites_componentset", "scoped"]
    assert qual == check
    assert "FROM edge_sites_componentspan s" in qual


def as_stored(column: str) -> str:
    """The scoped condition as PostgreSQL writes it."""
    with transaction.atomic(OWNER):
        rows(f"CREATE TABLE probe ({column} integer)", using=OWNER)
        rows(f"CREATE POLICY probe ON probe USING ({column} = {SCOPED_IDS})", using=OWNER)
        found = value("SELECT qual FROM pg_policies WHERE tablename = 'probe'", using=OWNER)
        transaction.set_rollback(True, OWNER)
    return str(found)


def test_grants_are_exactly_those_written_here():
    expected = {table: {WIDE: wide, SCOPED: scoped} for table, (wide, scoped) in PROTECTED.items()}
    expected = {table: {role: may for role, may in by.items() if may} for table, by in expected.items()}
    expected |= {table: granted for table, granted in OPEN.items() if granted}
    assert grants() == expected


def test_columns_are_granted_where_tables_are_not():
    query = """
        SELECT c.relname, pg_get_userbyid(x.grantee), array_agg(DISTINCT a.attname::text ORDER BY a.attname::text),
            array_agg(DISTINCT x.privilege_type)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x
        WHERE c.relnamespace = 'public'::regnamespace GROUP BY 1, 2
    """
    columns = ["closed_at", "evidence_end", "superseded_at", "valid_to"]
    # Whoever orders for some sites may name any blob, and read none.
    blob = ("edge_sites_blob", SCOPED, ["digest", "kind", "size"], ["SELECT"])
    facts = [(table, role, columns, ["UPDATE"]) for table in FACTS for role in (SCOPED, WIDE)]
    facts.remove(("slas_incidentspan", SCOPED, columns, ["UPDATE"]))  # derived by a pass over all sites alone
    until = ("standards_ringstandard", WIDE, ["until"], ["UPDATE"])
    # A provider sees a rollout without its plan, its totals, and reasons with figures in them.
    rollout = sorted(
        [
            *("id", "name", "standard_id", "state", "since", "pause", "until", "lane", "started_at", "is_live"),
            *("made_at", "plan_hash"),
        ]
    )
    wave = ["id", "index", "name", "opened_at", "rollout_id", "since", "state", "undoing"]
    seen = [("rollouts_rollout", SCOPED, rollout, ["SELECT"]), ("rollouts_wave", SCOPED, wave, ["SELECT"])]
    decided = [("slas_dispute", role, ["state"], ["UPDATE"]) for role in (SCOPED, WIDE)]
    assert sorted(rows(query, using=OWNER)) == sorted([blob, *facts, *seen, until, *decided])


def test_partitions_carry_no_grant_and_hang_on_a_protected_table():
    query = """
        SELECT c.relname, p.relname FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE c.relkind IN ('r', 'p')
    """
    parents = dict(rows(query, using=OWNER))
    assert set(parents) == set(partitions())
    assert set(parents.values()) == {"sample", "sample_5m", "sample_1h"}
    assert not grants().keys() & parents.keys()


def test_an_unprotected_table_would_be_noticed():
    """The lists above are compared with the catalogue, so a table that a migration adds must be entered."""
    with transaction.atomic(OWNER):
        rows("CREATE TABLE extra (provider_id integer)", using=OWNER)
        with pytest.raises(AssertionError):
            test_every_table_is_either_protected_or_on_the_list_of_open_ones()
        transaction.set_rollback(True, OWNER)


# Roles ------------------------------------------------------------------------------------------------------
def test_roles_of_the_application_own_nothing_and_can_do_nothing_special():
    app = connections[APP].settings_dict["USER"]
    for role in (app, "app_base", WIDE, SCOPED):
        query = """
            SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = %s
        """
        assert rows(query, [role], using=OWNER) == [(False,) * 5], role
        for catalogue, owner in (
            *(("pg_class", "relowner"), ("pg_proc", "proowner"), ("pg_namespace", "nspowner")),
            *(("pg_database", "datdba"), ("pg_type", "typowner")),
        ):
            owned = f"SELECT count(*) FROM {catalogue} WHERE pg_get_userbyid({owner}) = %s"
            assert value(owned, [role], using=OWNER) == 0, (role, catalogue)
    query = "SELECT rolname, rolcanlogin, rolinherit FROM pg_roles WHERE rolname = ANY(%s) ORDER BY 1"
    assert rows(query, [[app, "app_base", WIDE, SCOPED]], using=OWNER) == sorted(
        [(app, True, False), ("app_base", False, True), (WIDE, False, True), (SCOPED, False, True)]
    )


def test_the_owner_goes_past_no_policy_by_itself():
    assert rows("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user", using=OWNER) == [
        (False, False)
    ]


def test_memberships_are_exactly_those_that_scopes_need():
    app, owner = (connections[alias].settings_dict["USER"] for alias in (APP, OWNER))
    query = """
        SELECT r.rolname, m.rolname, a.inherit_option, a.set_option, a.admin_option FROM pg_auth_members a
        JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        WHERE r.rolname = ANY(%s) OR m.rolname = ANY(%s)
    """
    names = [app, owner, "app_base", WIDE, SCOPED]
    assert sorted(rows(query, [names, names], using=OWNER)) == sorted(
        [
            ("app_base", SCOPED, True, False, False),
            ("app_base", WIDE, True, False, False),
            ("app_base", app, True, False, False),
            (SCOPED, app, False, True, False),
            (WIDE, app, False, True, False),
            (WIDE, owner, True, True, False),
        ]
    )


def test_the_application_makes_nothing_in_the_schema():
    for who in (job("test"), Scope(name="scoped", providers=frozenset({1}))):
        with (
            scope(who),
            pytest.raises(ProgrammingError, match="permission denied for schema public"),
            transaction.atomic(),
        ):
            rows("CREATE TABLE mine (x integer)")


# Facts and audit --------------------------------------------------------------------------------------------
@pytest.fixture
def facts(make_site: Callable[..., Any]) -> None:
    """One open fact of each kind, and audit rows."""
    site = make_site()
    record_reports([polled(site, "down")], poller="test")
    with scope(job("test")):
        ComplianceInterval.objects.create(
            site=site, provider=site.provider, state="unknown", valid_from=datetime.now(UTC), source="inference"
        )
    derive_due()
    for table in FACTS:
        assert value(f"SELECT count(*) FROM {table} WHERE valid_to IS NULL", using=OWNER) >= 1


def refused(statement: str, *, using: str = APP, match: str) -> None:
    """The statement fails, and nothing else does."""
    with pytest.raises(ProgrammingError, match=match), transaction.atomic(using):
        rows(statement, using=using)


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("table", FACTS)
def test_facts_are_never_deleted_or_rewritten(table):
    columns = [
        name
        for (name,) in rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [table],
            using=OWNER,
        )
        if name not in {"valid_to", "closed_at", "superseded_at", "evidence_end"}
    ]
    assert {"id", "site_id", "provider_id", "valid_from", "recorded_at", "source", "evidence"} <= set(columns)
    with scope(job("test")):
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            refused(statement, match=f"permission denied for table {table}")
        for column in columns:
            refused(f"UPDATE {table} SET {column} = {column}", match=f"permission denied for table {table}")
    # Rights of the owner do not suffice either: the trigger refuses.
    refused(f"DELETE FROM {table}", using=OWNER, match="facts are never deleted")


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("table", FACTS)
def test_facts_are_closed_once_and_superseded_once(table):
    is_open, is_closed = "WHERE valid_to IS NULL", "WHERE valid_to IS NOT NULL"
    rewritten, closing = "a closed fact is superseded, never changed", "closing a fact sets valid_to and closed_at"
    with scope(job("test")):
        refused(f"UPDATE {table} SET valid_to = now() {is_open}", match=closing)
        close = "valid_to = GREATEST(now(), valid_from), closed_at = now(), evidence_end = '{\"a\": 1}'"
        rows(f"UPDATE {table} SET {close} {is_open}")
        for change in (
            *("valid_to = valid_to + interval '1 s'", "valid_to = NULL, closed_at = NULL", "closed_at = NULL"),
            *("closed_at = closed_at + interval '1 s'", "evidence_end = '{\"a\": 2}'", "evidence_end = NULL"),
        ):
            refused(f"UPDATE {table} SET {change} {is_closed}", match=rewritten)
        rows(f"UPDATE {table} SET superseded_at = now() {is_closed}")
        for change in ("superseded_at = NULL", "superseded_at = now() + interval '1 s'", "evidence_end = '{}'"):
            refused(f"UPDATE {table} SET {change} WHERE superseded_at IS NOT NULL", match=rewritten)


@pytest.mark.usefixtures("facts")
def test_audit_rows_are_only_added():
    assert value("SELECT count(*) FROM kit_auditentry", using=OWNER) >= 1
    for who in (job("test"), Scope(name="scoped", providers=frozenset({1}))):
        with scope(who):
            for statement in (
                *("UPDATE kit_auditentry SET note = 'x'", "DELETE FROM kit_auditentry", "TRUNCATE kit_auditentry"),
                "INSERT INTO kit_auditentry SELECT * FROM kit_auditentry ON CONFLICT (id) DO UPDATE SET note = 'x'",
            ):
                refused(statement, match="permission denied for table kit_auditentry")


# Functions with the owner's rights --------------------------------------------------------------------------
def test_functions_have_a_fixed_search_path_and_two_the_owners_rights_closed_to_the_public():
    query = "SELECT proname, prosecdef, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
    path = ["search_path=pg_catalog, public, pg_temp"]
    assert rows(query, using=OWNER) == [
        ("drop_partitions", True, path),
        ("guard_dispute", False, path),
        ("guard_fact", False, path),
        ("guard_report_file", False, path),
        ("guard_ring_standard", False, path),
        ("guard_rollout", False, path),
        ("guard_standard", False, path),
        ("keep_site_traits", False, path),
        ("make_partitions", True, path),
        ("note_changed_site", False, path),
        ("note_due_desired", False, path),
        ("note_due_site", False, path),
        ("note_due_state", False, path),
        ("note_incidents", False, path),
        ("note_spoken", False, path),
    ]
    for function in ("make_partitions(text, date, integer)", "drop_partitions(text, date)"):
        query = "SELECT has_function_privilege(%s, %s, 'EXECUTE')"
        app = connections[APP].settings_dict["USER"]
        allowed = [value(query, [role, function], using=OWNER) for role in ("public", "app_base", SCOPED, app, WIDE)]
        assert allowed == [False, False, False, False, True]


CALLS = ("SELECT make_partitions('sample', current_date + 30, 1)", "SELECT drop_partitions('sample', '2020-01-01')")


@pytest.mark.parametrize("call", CALLS)
def test_only_a_wide_scope_may_call_them(call):
    refused(call, match="permission denied for function")
    with scope(Scope(name="scoped", providers=frozenset({1}))):
        refused(call, match="permission denied for function")
    with scope(job("test")):
        value(call)


@pytest.mark.parametrize(
    "name",
    [
        *("edge_sites_site", "kit_auditentry", "public.sample", "SAMPLE", "sample ", "pg_class", "", "sample_20260101"),
        'sample"; DROP TABLE kit_auditentry; --',
    ],
)
def test_they_refuse_other_tables(name):
    with scope(job("test")):
        for call in ("SELECT make_partitions(%s, current_date, 1)", "SELECT drop_partitions(%s, '2020-01-01')"):
            with pytest.raises(ProgrammingError, match="no partitioned table of that name"), transaction.atomic():
                rows(call, [name])


@pytest.mark.parametrize("days", [0, -1, 401, 2**31 - 1])
def test_partitions_are_made_within_bounds(days):
    with scope(job("test")):
        with pytest.raises(ProgrammingError, match="from 1 to 400 days"), transaction.atomic():
            rows("SELECT make_partitions('sample', current_date, %s)", [days])
        for bad in (
            "SELECT make_partitions('sample', current_date, NULL)",
            "SELECT make_partitions(NULL, now()::date, 1)",
        ):
            with pytest.raises((ProgrammingError, DataError)), transaction.atomic():
                rows(bad)


def test_partitions_are_made_once_and_dropped_when_their_day_is_over():
    today = datetime.now(UTC).date()
    with scope(job("test")):
        assert value("SELECT make_partitions('sample', '2021-06-01', 3)") == 3
        assert value("SELECT make_partitions('sample', '2021-06-01', 3)") == 0
        assert value("SELECT drop_partitions('sample_5m', '2021-06-03')") == 0
        assert value("SELECT drop_partitions('sample', '2021-06-03')") == 2
        assert value("SELECT drop_partitions('sample', '2021-06-04')") == 1
        for before in (today + timedelta(days=1), date.max):
            with pytest.raises(ProgrammingError, match="only days that are over"), transaction.atomic():
                rows("SELECT drop_partitions('sample', %s)", [before])
    assert f"sample_{today:%Y%m%d}" in partitions()


def test_a_temporary_table_of_the_same_name_does_not_mislead_them():
    with scope(job("test")):
        rows("CREATE TEMPORARY TABLE sample (at timestamptz) PARTITION BY RANGE (at)")
        assert value("SELECT make_partitions('sample', '2022-06-01', 1)") == 1
    assert "sample_20220601" in partitions()
    with scope(job("test")):
        assert value("SELECT drop_partitions('sample', '2022-06-02')") == 1


# The system check -------------------------------------------------------------------------------------------
@pytest.fixture
def as_role() -> Iterator[Callable[[str, str], None]]:
    """Have the alias of the application log in as a role that is made here, as the cluster's superuser."""
    admin = os.environ.get("DATABASE_ADMIN_URL")
    if not admin:
        pytest.skip("needs a superuser of the cluster: DATABASE_ADMIN_URL")
    settings = connections[APP].settings_dict
    own = {name: settings[name] for name in ("USER", "PASSWORD")}
    with psycopg.connect(psycopg.conninfo.make_conninfo(admin, dbname=settings["NAME"]), autocommit=True) as superuser:

        def use(options: str, then: str) -> None:
            superuser.execute("DROP ROLE IF EXISTS check_probe")
            superuser.execute(f"CREATE ROLE check_probe PASSWORD 'check-probe' {options}".encode())
            superuser.execute(sql.SQL("GRANT app_base TO check_probe WITH INHERIT TRUE, SET FALSE"))
            if then:
                superuser.execute(then.encode())
            connections[APP].close()
            settings.update(USER="check_probe", PASSWORD="check-probe")

        yield use
        connections[APP].close()
        settings.update(own)
        superuser.execute("DROP OWNED BY check_probe CASCADE")
        superuser.execute("DROP ROLE check_probe")


def check() -> list[str]:
    return [found.id for found in run_checks(tags=["database"], databases=[APP]) if found.id.startswith("kit.")]


def test_the_check_passes_for_the_role_that_provision_makes():
    assert check() == []


@pytest.mark.parametrize(
    ("options", "then", "found"),
    [
        ("LOGIN NOINHERIT", "", []),
        # A superuser has every role's rights, so it also counts as one that needs no scope.
        ("LOGIN NOINHERIT SUPERUSER", "", ["kit.E010", "kit.E014"]),
        ("LOGIN NOINHERIT BYPASSRLS", "", ["kit.E011"]),
        ("LOGIN INHERIT", "", ["kit.E012"]),
        ("LOGIN NOINHERIT", "CREATE TABLE owned_probe (); ALTER TABLE owned_probe OWNER TO check_probe", ["kit.E013"]),
        ("LOGIN NOINHERIT", "GRANT app_wide TO check_probe WITH INHERIT TRUE", ["kit.E014"]),
        ("LOGIN NOINHERIT", "GRANT app_scoped TO check_probe WITH INHERIT TRUE", ["kit.E014"]),
    ],
)
def test_the_check_names_what_is_wrong_with_a_role(as_role, options, then, found):
    as_role(options, then)
    assert check() == found


def test_the_check_says_that_it_cannot_look(as_role):
    as_role("NOINHERIT NOLOGIN", "")
    assert check() == ["kit.E001"]


def test_the_deploy_check_refuses_loopback_agents(settings):
    settings.AGENT_NETWORKS_ALLOWED = ["127.64.0.0/10"]
    deploy = {found.id for found in run_checks(tags=["security"], include_deployment_checks=True)}
    assert "kit.E020" in deploy
    settings.AGENT_NETWORKS_ALLOWED = []
    deploy = {found.id for found in run_checks(tags=["security"], include_deployment_checks=True)}
    assert "kit.E020" not in deploy


def test_the_deploy_check_refuses_webhooks_to_loopback(settings):
    settings.WEBHOOK_HTTP_LOOPBACK = True
    deploy = {found.id for found in run_checks(tags=["security"], include_deployment_checks=True)}
    assert "kit.E021" in deploy
    settings.WEBHOOK_HTTP_LOOPBACK = False
    deploy = {found.id for found in run_checks(tags=["security"], include_deployment_checks=True)}
    assert "kit.E021" not in deploy


def test_the_deploy_check_wants_mail_to_go_out_and_passwords_not_in_plain_text(settings):
    settings.EMAIL_HOST = ""
    assert "kit.W022" in {one.id for one in run_checks(tags=["security"], include_deployment_checks=True)}
    settings.EMAIL_HOST, settings.EMAIL_HOST_PASSWORD = "mail.example.com", "secret"
    for tls, wrong in ((False, True), (True, False)):
        settings.EMAIL_USE_TLS = tls
        found = {one.id for one in run_checks(tags=["security"], include_deployment_checks=True)}
        assert "kit.W022" not in found
        assert ("kit.E022" in found) == wrong
