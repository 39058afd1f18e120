"""Who may see which rows: Scope, and the one context manager that puts it into PostgreSQL.

Row-level security separates providers (see fleet.kit.rls). Limits by region and label lie on top of it, in selectors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connections, transaction

DEFAULT = "default"
_open: ContextVar["Scope | None"] = ContextVar("archipelago_scope", default=None)


@dataclass(frozen=True, slots=True)
class Limit:
    """One membership's reach: a site is inside if every part that is set fits."""

    provider_id: int | None = None
    regions: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()

    def admits(self, *, provider_id: int, region: str, labels: Mapping[str, str]) -> bool:
        """Whether a site with these facts is inside."""
        return (
            (self.provider_id is None or self.provider_id == provider_id)
            and (not self.regions or region in self.regions)
            and all(labels.get(key) == value for key, value in self.labels)
        )

    @property
    def whole(self) -> bool:
        """Whether the limit is set by provider alone, so that row-level security says it all."""
        return not self.regions and not self.labels


@dataclass(frozen=True, slots=True)
class Scope:
    """What one viewer or job may see, and who that is (for the audit).

    `wide` sees all providers' rows; otherwise only those in `providers`. `limits` are the memberships' reaches,
    which selectors apply on top; an empty tuple adds nothing.
    """

    name: str
    wide: bool = False
    providers: frozenset[int] = frozenset()
    limits: tuple[Limit, ...] = ()
    user_id: int | None = None
    address: str = ""
    request_id: str = ""

    @property
    def limited(self) -> bool:
        """Whether selectors must filter: by provider (which row-level security does once more), region or label."""
        return bool(self.limits) and not any(limit.whole and limit.provider_id is None for limit in self.limits)

    @property
    def narrowed(self) -> bool:
        """Whether the live groups carry more than the viewer may hear of: a limit by region or label."""
        whole = {limit.provider_id for limit in self.limits if limit.whole}
        return self.limited and (self.wide or not self.providers <= whole)

    @property
    def groups(self) -> tuple[str, ...]:
        """Live groups that this scope listens to (the server's choice, never the browser's)."""
        return ("fleet",) if self.wide else tuple(f"provider.{pk}" for pk in sorted(self.providers))


def job(name: str) -> Scope:
    """Fleet-wide scope of a background job, named for the audit."""
    return Scope(name=f"job:{name}", wide=True)


NOBODY = Scope(name="nobody")


class ScopeError(RuntimeError):
    """Code tried to widen or swap a scope that is already open."""


@contextmanager
def scope(who: Scope, *, using: str = DEFAULT) -> Iterator[None]:
    """Open a transaction in which PostgreSQL shows only what `who` may see, and close both at the end.

    Nesting the same scope is a savepoint; another scope inside raises ScopeError, since a transaction has one
    owner. Role and providers end with the transaction, and are reset on the way out where an outer one goes on, so a
    pooled or shared connection never carries them to the next user.
    """
    outer = _open.get()
    if outer is not None:
        if outer != who:
            raise ScopeError(f"a scope of {outer.name!r} is open; {who.name!r} cannot enter it")
        with transaction.atomic(using=using):
            yield
        return
    token = _open.set(who)
    goes_on = connections[using].in_atomic_block
    try:
        with transaction.atomic(using=using):
            _set(using, role="app_wide" if who.wide else "app_scoped", providers=who.providers)
            yield
            if goes_on and not connections[using].needs_rollback:
                reset(using)
    finally:
        _open.reset(token)


def current() -> Scope | None:
    """The open scope, if any."""
    return _open.get()


def _set(using: str, *, role: str, providers: frozenset[int]) -> None:
    listed = "{" + ",".join(str(pk) for pk in sorted(providers)) + "}"
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT set_config('app.providers', %s, true), set_config('role', %s, true)", [listed, role])


def reset(using: str = DEFAULT) -> None:
    """Take role and providers off the connection; what follows sees no site data at all."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT set_config('role', 'none', true), set_config('app.providers', '', true)")


def with_request(who: Scope, *, address: str, request_id: str) -> Scope:
    """The same scope, with where the request came from (for the audit)."""
    return replace(who, address=address, request_id=request_id)


@dataclass(frozen=True, slots=True)
class Rights:
    """What the viewer may do, by action name, and to which sites."""

    by_action: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)

    def may(self, action: str) -> bool:
        """Whether the action is allowed somewhere: whether a button is worth drawing."""
        return bool(self.by_action.get(action))

    def may_on(self, action: str, *, provider_id: int, region: str, labels: Mapping[str, str]) -> bool:
        """Whether the action is allowed on a site with these facts."""
        limits = self.by_action.get(action, ())
        return any(limit.admits(provider_id=provider_id, region=region, labels=labels) for limit in limits)


class MigrateAsOwner:
    """Database router: the schema is the owner's; the application's role owns no table."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Only the alias `owner` migrates."""
        return db == "owner"

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool:
        """Both aliases are one database."""
        return True
