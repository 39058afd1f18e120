"""Fixtures for all tests: a real database that commits, emptied after each test; factories; clients by role."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connections
from django.test import Client, override_settings
from django.utils import timezone
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from fleet.kit.tenancy import Rights, Scope, job
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.people.services import make_user, mint_token
from sites.models import Provider, Site
from sites.services.sites import create_site

# How soon inputs are made says how busy the machine is, and nothing of the code.
hypothesis_settings.register_profile("shared", suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("shared")

PASSWORD = "correct-horse-battery"
TEST = job("test")
_KEPT = {"django_migrations", "django_content_type", "auth_permission", "edge_sites_pollershard"}


def _tables() -> list[str]:
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        )
        return [name for (name,) in cursor.fetchall() if name not in _KEPT]


_RESTART = f"""
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_depend ON objid = seqrelid AND deptype IN ('a', 'i')
JOIN pg_class ON pg_class.oid = refobjid WHERE relname NOT IN ({", ".join(f"'{name}'" for name in _KEPT)})
"""


def empty_database() -> None:
    """Empty every table that holds a row (as the owner; what migrations put there stays)."""
    with connections["owner"].cursor() as cursor:
        names = _tables()
        tests = ", ".join(f"EXISTS (SELECT 1 FROM {name})" for name in names)
        cursor.execute(f"SELECT has_parameter_privilege('session_replication_role', 'SET'), {tests}")
        may_delete, *found = cursor.fetchone()
        full = [name for name, holds in zip(names, found, strict=True) if holds]
        if full and may_delete:  # past the guards of facts; a tenth of the time that TRUNCATE takes for a few rows
            deletes = "; ".join(f"DELETE FROM {name}" for name in full)
            cursor.execute(f"SET LOCAL session_replication_role = replica; {deletes}; {_RESTART}")
        elif full:
            cursor.execute(f"TRUNCATE {', '.join(full)} RESTART IDENTITY CASCADE")


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> None:
    """Hash passwords fast: the hash that production uses takes a third of a second by intention."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def static_root() -> None:
    """The folder of collected files, which WhiteNoise warns of while a new checkout has none.

    It looks a file up when it is asked for, instead of listing all of them at the first request: the browser tests
    collect into the same folder while other tests run.
    """
    settings.STATIC_ROOT.mkdir(exist_ok=True)
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def plain_static() -> Iterator[None]:
    """Names of static files as they are, so that pages can be rendered without collectstatic."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}):
        yield


@pytest.fixture
def signer(settings: Any) -> Iterator[None]:
    """A signer that answers which root to trust, at the socket that the settings name."""
    from tests.sites.identities import signer_at

    with TemporaryDirectory() as folder:
        settings.SIGNER_SOCKET = Path(folder) / "signer.sock"
        with signer_at(settings.SIGNER_SOCKET):
            yield


@pytest.fixture
def no_signer(signer: None, settings: Any) -> None:
    """Nobody answers at the signer's socket."""
    settings.SIGNER_SOCKET = Path("/nowhere/signer.sock")


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: Any) -> Iterator[None]:
    """The test database: made, migrated and dropped by the owner's role; the application's role uses it."""
    owner, default = connections["owner"], connections["default"]
    with django_db_blocker.unblock():
        own_name = owner.settings_dict["NAME"]
        owner.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        default.creation.set_as_test_mirror(owner.settings_dict)
        yield
        default.close()
        owner.creation.destroy_test_db(own_name, verbosity=0)


@pytest.fixture
def database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A database in which the test really commits, as the application's role."""
    with django_db_blocker.unblock():
        yield
        for alias in ("default", "owner"):
            _as_new(alias)
        empty_database()


def _as_new(alias: str) -> None:
    """Give a connection the state of a new one; opening one, and reading the catalogue again, costs 30 ms a test."""
    connection = connections[alias]
    if connection.connection is None:
        return
    try:
        if connection.in_atomic_block or not connection.get_autocommit():
            raise DatabaseError("a transaction was left open")
        connection.connection._prepared.clear()  # psycopg does not see that they are discarded
        connection.connection.execute("DISCARD ALL")
        connection.init_connection_state()
    except (DatabaseError, psycopg.Error):
        connection.close()


_numbers = count(1)


def everything() -> Rights:
    """Every right everywhere."""
    from fleet.kit.tenancy import Limit
    from fleet.people.roles import ACTIONS

    return Rights({action: (Limit(),) for actions in ACTIONS.values() for action in actions})


@pytest.fixture
def make_provider(database: None) -> Callable[..., Provider]:
    """Factory of committed providers."""

    def make(slug: str = "", **values: Any) -> Provider:
        slug = slug or f"provider-{next(_numbers)}"
        return Provider.objects.using("owner").create(slug=slug, name=values.pop("name", slug.title()), **values)

    return make


@pytest.fixture
def make_site(make_provider: Callable[..., Provider]) -> Callable[..., Site]:
    """Factory of committed sites, active unless `life` says otherwise, through the service."""

    def make(slug: str = "", provider: Provider | None = None, **values: Any) -> Site:
        number = next(_numbers)
        slug = slug or f"site-{number}"
        defaults: dict[str, Any] = {
            "name": slug.replace("-", " ").title(),
            "lat": 52.5,
            "lon": 13.4,
            "place": "Berlin",
            "country": "DE",
            "time_zone": "Europe/Berlin",
            "region": "DACH",
            "address": f"127.64.{number // 250}.{number % 250 + 1}:9101",
        }
        life = values.pop("life", "active")
        provider = provider or make_provider()
        row = {**defaults, **values, "slug": slug, "provider_id": provider.pk}
        site = create_site(actor=TEST, rights=everything(), values=row, life=life)
        site.provider = provider
        return site

    return make


@pytest.fixture
def make_person(database: None) -> Callable[..., User]:
    """Factory of users with one membership; the password is PASSWORD."""

    def make(role: str = "operator", username: str = "", **membership: Any) -> User:
        provider = membership.pop("provider", None)
        return make_user(
            actor=TEST,
            username=username or f"{role}-{next(_numbers)}",
            password=PASSWORD,
            role=role,
            provider_id=provider.pk if provider else None,
            **membership,
        )

    return make


@pytest.fixture
def signed_in(make_person: Callable[..., User]) -> Callable[..., Client]:
    """Factory of browser-like clients signed in with a role (`signed_in("operator")`)."""

    def make(role: str = "operator", **membership: Any) -> Client:
        client = Client()
        client.force_login(make_person(role, **membership))
        return client

    return make


@pytest.fixture
def api_client(make_person: Callable[..., User]) -> Callable[..., Client]:
    """Factory of API clients that carry a token."""

    def make(role: str = "operator", **membership: Any) -> Client:
        token = mint_token(actor=TEST, user=make_person(role, **membership), now=timezone.now())
        return Client(headers={"authorization": f"Bearer {token}"})

    return make


@pytest.fixture
def access(make_person: Callable[..., User]) -> Callable[..., tuple[Scope, Rights]]:
    """Factory of the scope and rights of a new person with a role."""

    def make(role: str = "operator", **membership: Any) -> tuple[Scope, Rights]:
        return access_of(make_person(role, **membership))

    return make
