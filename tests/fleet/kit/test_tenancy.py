"""scope(): what PostgreSQL shows inside it, and that nothing of it stays behind."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, ProgrammingError, connections, transaction
from psycopg.errors import FeatureNotSupported

from fleet.kit import tenancy
from fleet.kit.audit import record
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import NOBODY, Limit, Rights, Scope, ScopeError, current, job, scope
from sites.models import Outage, Provider, Site, SiteTenure, StateInterval
from sites.services.reports import record_reports
from tests.database import APP, OWNER, partitions, protected, provider_columns, rows, value
from tests.sites.builders import polled

POOLED = "pooled"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def only(*providers: Provider, name: str = "someone") -> Scope:
    return Scope(name=name, providers=frozenset(provider.pk for provider in providers))


def slugs(using: str = APP) -> list[str]:
    return [slug for (slug,) in rows("SELECT slug FROM edge_sites_site ORDER BY slug", using=using)]


def readable() -> list[str]:
    """Protected tables that a scope of providers may read at all; into the others it only adds."""
    return [
        name
        for name in protected()
        if value("SELECT has_table_privilege('app_scoped', %s, 'SELECT')", [name], using=OWNER)
    ]


def assert_nothing_shows(using: str = APP) -> None:
    """No scope is open: the role is the login role, and site data is not to be read."""
    assert current() is None
    assert rows("SELECT current_user = session_user", using=using) == [(True,)]
    assert value("SELECT coalesce(current_setting('app.providers', true), '')", using=using) == ""
    with (
        pytest.raises(ProgrammingError, match="permission denied for table edge_sites_site"),
        transaction.atomic(using),
    ):
        slugs(using)


@pytest.fixture
def two(make_provider: Callable[..., Provider], make_site: Callable[..., Site]) -> tuple[Provider, Provider]:
    """Two providers with one polled site each: `ours` and `theirs`."""
    ours, theirs = make_provider("ours"), make_provider("theirs")
    for provider in (ours, theirs):
        record_reports([polled(make_site(f"{provider.slug}-site", provider))], poller="test")
    return ours, theirs


# Inside -----------------------------------------------------------------------------------------------------
def test_a_wide_scope_shows_all(two):
    with scope(job("test")):
        assert slugs() == ["ours-site", "theirs-site"]


def test_a_scope_of_providers_shows_theirs_only(two):
    ours, theirs = two
    with scope(only(ours)):
        assert slugs() == ["ours-site"]
    with scope(only(theirs)):
        assert slugs() == ["theirs-site"]
    with scope(only(ours, theirs)):
        assert slugs() == ["ours-site", "theirs-site"]


@pytest.mark.parametrize(
    "who", [NOBODY, Scope(name="no providers"), Scope(name="gone", providers=frozenset({2**31 - 1}))]
)
def test_a_scope_without_providers_shows_no_row_of_any_table(two, who):
    with scope(who):
        found = {table: value(f"SELECT count(*) FROM {table}") for table in readable()}
    assert set(found.values()) == {0}
    assert "sample" in found


def test_every_table_with_site_data_keeps_providers_apart(two):
    ours, theirs = two
    record_in, columns = {ours.pk: set(), theirs.pk: set()}, provider_columns()
    for provider in two:
        with scope(only(provider)):
            for table in readable():
                found = rows(f"SELECT DISTINCT {columns[table]} FROM {table}")
                record_in[provider.pk] |= {(table, pk) for (pk,) in found}
    # Each sees rows, of itself and of nobody else, in the same tables.
    assert {pk for _, pk in record_in[ours.pk]} == {ours.pk}
    assert {pk for _, pk in record_in[theirs.pk]} == {theirs.pk}
    tables = {table for table, _ in record_in[ours.pk]}
    assert tables == {table for table, _ in record_in[theirs.pk]}
    assert tables >= {
        *("edge_sites_provider", "edge_sites_site", "edge_sites_sitestate", "edge_sites_sitetenure", "sample"),
        *("edge_sites_pollschedule", "edge_sites_stateinterval", "edge_sites_componentspan", "kit_auditentry"),
    }


def test_component_sets_show_where_an_own_site_runs_them(two, make_site):
    ours, theirs = two
    from agent.protocol import Component

    rare = (Component("kernel", "linux", "9.9.9-rare"),)
    record_reports([polled(make_site("ours-second", ours), components=rare)], poller="test")
    with scope(only(ours)):
        assert value("SELECT count(*) FROM edge_sites_componentset") == 2
    with scope(only(theirs)):
        assert value("SELECT count(*) FROM edge_sites_componentset") == 1
        assert value("SELECT count(*) FROM edge_sites_componentset WHERE components::text LIKE '%%9.9.9-rare%%'") == 0


# Nesting ----------------------------------------------------------------------------------------------------
def test_the_same_scope_may_be_entered_again_and_is_a_savepoint(two):
    who = only(two[0])
    with scope(who):
        with pytest.raises(ZeroDivisionError), scope(who):
            Site.objects.filter(slug="ours-site").update(notes="lost")
            raise ZeroDivisionError
        assert slugs() == ["ours-site"]
        with scope(who):
            Site.objects.filter(slug="ours-site").update(region="kept")
        assert current() == who
    assert Site.objects.using(OWNER).get(slug="ours-site").notes == ""
    assert Site.objects.using(OWNER).get(slug="ours-site").region == "kept"


def test_another_scope_inside_is_an_error_and_changes_nothing(two):
    ours, theirs = two
    with scope(only(ours)):
        for other in (only(theirs), only(ours, theirs), job("test"), only(ours, name="somebody else")):
            with pytest.raises(ScopeError), scope(other):
                raise AssertionError("entered")
            assert slugs() == ["ours-site"]


def test_a_thread_begins_without_a_scope(two):
    with scope(only(two[0])), ThreadPoolExecutor(1) as executor:
        seen = executor.submit(current).result()
    assert seen is None


# Outside ----------------------------------------------------------------------------------------------------
def test_without_a_scope_no_table_with_site_data_can_be_read(two):
    for table in protected():
        with pytest.raises(ProgrammingError, match=f"permission denied for table {table}"):
            rows(f"SELECT * FROM {table}")
    with pytest.raises(ProgrammingError, match="permission denied for table edge_sites_componentset"):
        rows("SELECT * FROM edge_sites_componentset")


def test_nothing_stays_after_a_scope(two):
    with scope(only(two[0])):
        pass
    assert_nothing_shows()


def test_nothing_stays_inside_an_outer_transaction(two):
    with transaction.atomic():
        with scope(only(two[0])):
            assert slugs() == ["ours-site"]
        assert_nothing_shows()


def test_nothing_stays_when_the_body_fails(two):
    for error in (ZeroDivisionError, DatabaseError):
        with transaction.atomic():
            with pytest.raises(error), scope(only(two[0])):
                Site.objects.filter(slug="ours-site").update(notes="lost")
                raise error
            assert_nothing_shows()
    with pytest.raises(ProgrammingError), scope(only(two[0])):
        rows("SELECT no_such_column FROM edge_sites_site")
    assert_nothing_shows()
    assert Site.objects.using(OWNER).get(slug="ours-site").notes == ""


def test_nothing_stays_when_the_transaction_is_marked_for_rollback(two):
    with transaction.atomic():
        with scope(only(two[0])):
            Site.objects.filter(slug="ours-site").update(notes="lost")
            transaction.set_rollback(True)
        assert_nothing_shows()
    assert Site.objects.using(OWNER).get(slug="ours-site").notes == ""


def test_the_denial_tests_would_notice_a_missing_reset(two, monkeypatch):
    """Without the reset, what follows in an outer transaction still reads as the last viewer."""
    monkeypatch.setattr(tenancy, "reset", lambda using: None)
    with transaction.atomic():
        with scope(only(two[0])):
            pass
        with pytest.raises(AssertionError):
            assert_nothing_shows()
        assert slugs() == ["ours-site"]


# One connection for many ------------------------------------------------------------------------------------
@pytest.fixture
def pool(database: None) -> Iterator[None]:
    """A database alias with a pool of one connection, as the web's processes have a larger one."""
    settings = deepcopy(connections.settings[APP])
    settings["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
    connections.settings[POOLED] = settings
    yield
    connections[POOLED].close()
    connections[POOLED].close_pool()
    del connections[POOLED]
    del connections.settings[POOLED]


def in_a_thread(work: Callable[[], object]) -> object:
    """Run as another request would: in a thread of its own, which gives its connection back."""

    def whole() -> object:
        try:
            return work()
        finally:
            connections[POOLED].close()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(whole).result()


def test_a_pooled_connection_carries_nothing_to_its_next_user(two, pool):
    ours, theirs = two

    def as_ours() -> int:
        with scope(only(ours), using=POOLED):
            assert slugs(POOLED) == ["ours-site"]
            return int(value("SELECT pg_backend_pid()", using=POOLED))

    def as_ours_and_fail() -> int:
        pid = 0
        with pytest.raises(ZeroDivisionError), scope(only(ours), using=POOLED):
            pid = value("SELECT pg_backend_pid()", using=POOLED)
            raise ZeroDivisionError
        return pid

    def as_nobody() -> int:
        assert_nothing_shows(POOLED)
        return int(value("SELECT pg_backend_pid()", using=POOLED))

    def as_theirs() -> int:
        with scope(only(theirs), using=POOLED):
            assert slugs(POOLED) == ["theirs-site"]
            return int(value("SELECT pg_backend_pid()", using=POOLED))

    pids = [in_a_thread(work) for work in (as_ours, as_nobody, as_ours_and_fail, as_nobody, as_theirs, as_nobody)]
    assert len(set(pids)) == 1, "the pool gave another connection, so this proved nothing"


def test_scopes_at_the_same_time_do_not_mix(two):
    ours, theirs = two
    meet = threading.Barrier(2, timeout=10)

    def look(provider: Provider) -> list[str]:
        try:
            with scope(only(provider)):
                meet.wait()
                found = slugs()
                meet.wait()
                return found
        finally:
            connections[APP].close()

    with ThreadPoolExecutor(2) as executor:
        assert list(executor.map(look, (ours, theirs))) == [["ours-site"], ["theirs-site"]]


# Writes -----------------------------------------------------------------------------------------------------
REFUSED = "new row violates row-level security policy"


def test_rows_of_a_foreign_provider_cannot_be_inserted(two):
    ours, theirs = two
    with scope(job("test")):
        their_site = Site.objects.get(slug="theirs-site")
        our_site = Site.objects.get(slug="ours-site")
    fact = {"valid_from": NOW, "source": "poll", "provider_id": theirs.pk}
    attempts: list[Callable[[], object]] = [
        lambda: Site.objects.create(slug="smuggled", name="S", lat=1, lon=1, address="a:1", provider_id=theirs.pk),
        lambda: SiteTenure.objects.create(
            site=our_site, provider_id=theirs.pk, valid_from=NOW, name="S", slug="s", time_zone="UTC"
        ),
        lambda: StateInterval.objects.create(site=our_site, axis="availability", state="up", **fact),
        lambda: StateInterval.objects.create(site=their_site, axis="availability", state="up", **fact),
        lambda: Outage.objects.create(site=our_site, **fact),
        lambda: rows(
            "INSERT INTO edge_sites_pollschedule (site_id, provider_id, shard, interval_s, backoff, next_poll_at)"
            " VALUES (%s, %s, 0, 30, 1, now())",
            [their_site.pk, theirs.pk],
        ),
        lambda: record(only(ours), "forged", object_type="site", object_id=1, object_name="x", provider_id=theirs.pk),
        lambda: record(only(ours), "forged", object_type="site", object_id=1, object_name="x", provider_id=None),
    ]
    for attempt in attempts:
        with scope(only(ours)), pytest.raises(ProgrammingError, match=REFUSED), transaction.atomic():
            attempt()
    assert not Site.objects.using(OWNER).filter(slug="smuggled").exists()
    assert not AuditEntry.objects.using(OWNER).filter(action="forged").exists()


@pytest.mark.parametrize(
    "table",
    [
        *("edge_sites_site", "edge_sites_sitetenure", "edge_sites_sitestate", "edge_sites_pollschedule"),
        "edge_sites_acknowledgement",
    ],
)
def test_an_own_row_cannot_be_given_to_a_foreign_provider(two, table, make_person):
    ours, theirs = two
    person = make_person("provider_operator", provider=ours)
    rows(
        "INSERT INTO edge_sites_acknowledgement (site_id, provider_id, user_id, user_name, note)"
        " SELECT id, provider_id, %s, 'x', '' FROM edge_sites_site WHERE slug = 'ours-site'",
        [person.pk],
        using=OWNER,
    )
    with scope(only(ours)):
        assert rows(f"SELECT 1 FROM {table}") == [(1,)]
        with pytest.raises(ProgrammingError, match=REFUSED), transaction.atomic():
            rows(f"UPDATE {table} SET provider_id = %s", [theirs.pk])


def test_foreign_rows_cannot_be_updated_or_deleted(two):
    ours, theirs = two
    with scope(only(ours)):
        assert Site.objects.filter(provider_id=theirs.pk).update(notes="mine now") == 0
        assert rows("DELETE FROM edge_sites_pollschedule WHERE provider_id = %s RETURNING 1", [theirs.pk]) == []
    assert Site.objects.using(OWNER).get(slug="theirs-site").notes == ""
    assert value("SELECT count(*) FROM edge_sites_pollschedule", using=OWNER) == 2


def test_a_provider_reads_its_samples_but_writes_none(two):
    ours, _ = two
    with scope(only(ours)):
        assert rows("SELECT DISTINCT provider_id FROM sample") == [(ours.pk,)]
        for table in ("sample", "sample_5m", "sample_1h"):
            with pytest.raises(ProgrammingError, match=f"permission denied for table {table}"), transaction.atomic():
                rows(f"INSERT INTO {table} SELECT * FROM {table}")


@pytest.mark.parametrize("who", [job("test"), Scope(name="scoped", providers=frozenset({1}))], ids=["wide", "scoped"])
def test_no_partition_can_be_read_or_written_directly(two, who):
    found = partitions()
    assert len(found) >= 3 * 9
    for partition in found:
        for statement in (f"SELECT 1 FROM {partition}", f"DELETE FROM {partition}", f"TRUNCATE {partition}"):
            with (
                scope(who),
                pytest.raises(ProgrammingError, match=f"permission denied for table {partition}"),
                transaction.atomic(),
            ):
                rows(statement)


# COPY -------------------------------------------------------------------------------------------------------
def test_copy_goes_through_a_temporary_table_of_the_role_that_uses_it(two):
    ours, theirs = two
    sample = "2026-03-01 12:00+00"
    rows("SELECT make_partitions('sample', '2026-03-01', 1)", using=OWNER)

    def copy_in() -> None:
        with scope(job("test")), connections[APP].cursor() as cursor:
            cursor.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS batch (provider_id integer, at timestamptz) ON COMMIT DELETE ROWS"
            )
            with cursor.copy("COPY batch FROM STDIN") as copy:
                copy.write_row((ours.pk, sample))
                copy.write_row((theirs.pk, sample))
            cursor.execute(
                "INSERT INTO sample (site_id, provider_id, at, late_ms, rtt_ms, cpu_count, cpu_ratio, mem_bytes,"
                " mem_total_bytes, disk_bytes, disk_total_bytes)"
                " SELECT 1, provider_id, at, 0, 0, 1, 0, 0, 0, 0, 0 FROM batch"
            )

    copy_in()
    # The connection keeps the table, which a provider's scope on the same connection cannot read.
    with scope(only(ours)):
        assert value("SELECT count(*) FROM sample WHERE at = %s", [sample]) == 1
        with pytest.raises(ProgrammingError, match="permission denied for table batch"), transaction.atomic():
            rows("SELECT * FROM batch")
    copy_in()
    with scope(job("test")):
        assert value("SELECT count(*) FROM sample WHERE at = %s", [sample]) == 4
    with (
        scope(job("test")),
        pytest.raises(FeatureNotSupported, match="COPY FROM not supported with row-level security"),
        connections[APP].cursor() as cursor,
        transaction.atomic(),
        cursor.copy("COPY sample FROM STDIN") as copy,
    ):
        copy.write_row((1, ours.pk))


# Pure -------------------------------------------------------------------------------------------------------
def test_a_limit_admits_what_fits_every_part():
    site = {"provider_id": 1, "region": "DACH", "labels": {"tier": "1", "kind": "shop"}}
    assert Limit().admits(**site)
    assert Limit(provider_id=1, regions=frozenset({"DACH"}), labels=(("tier", "1"),)).admits(**site)
    assert not Limit(provider_id=2).admits(**site)
    assert not Limit(regions=frozenset({"Nordics"})).admits(**site)
    assert not Limit(labels=(("tier", "2"),)).admits(**site)
    assert not Limit(labels=(("tier", "1"), ("floor", "3"))).admits(**site)


def test_rights_are_a_union_of_limits():
    rights = Rights({"site.poll": (Limit(provider_id=1), Limit(regions=frozenset({"DACH"})))})
    assert rights.may("site.poll")
    assert not rights.may("site.change")
    assert rights.may_on("site.poll", provider_id=1, region="Nordics", labels={})
    assert rights.may_on("site.poll", provider_id=2, region="DACH", labels={})
    assert not rights.may_on("site.poll", provider_id=2, region="Nordics", labels={})
    assert not rights.may_on("site.change", provider_id=1, region="DACH", labels={})


def test_groups_follow_the_scope_alone():
    assert job("x").groups == ("fleet",)
    assert NOBODY.groups == ()
    assert Scope(name="x", providers=frozenset({9, 3})).groups == ("provider.3", "provider.9")


@pytest.mark.parametrize(
    ("wide", "limits", "limited", "narrowed"),
    [
        (True, (), False, False),
        (True, (Limit(),), False, False),
        (True, (Limit(regions=frozenset({"A"})),), True, True),
        (True, (Limit(regions=frozenset({"A"})), Limit()), False, False),
        (True, (Limit(regions=frozenset({"A"})), Limit(provider_id=1)), True, True),
        (False, (Limit(provider_id=1),), True, False),
        (False, (Limit(provider_id=1, regions=frozenset({"A"})),), True, True),
        (False, (Limit(provider_id=1, regions=frozenset({"A"})), Limit(provider_id=1)), True, False),
        (False, (Limit(provider_id=1), Limit(provider_id=2, labels=(("a", "b"),))), True, True),
    ],
)
def test_what_selectors_and_live_groups_must_narrow(wide, limits, limited, narrowed):
    providers = frozenset(limit.provider_id for limit in limits if limit.provider_id)
    who = Scope(name="x", wide=wide, providers=providers, limits=limits)
    assert (who.limited, who.narrowed) == (limited, narrowed)
