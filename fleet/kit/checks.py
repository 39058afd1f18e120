"""System checks: the database roles are what security depends on, so `check --database default` proves them."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connections

_ROLE = """
SELECT r.rolsuper, r.rolbypassrls, r.rolinherit,
       EXISTS (SELECT 1 FROM pg_class c WHERE c.relowner = r.oid AND c.relkind IN ('r', 'p')),
       pg_has_role(r.rolname, 'app_wide', 'USAGE') OR pg_has_role(r.rolname, 'app_scoped', 'USAGE')
FROM pg_roles r WHERE r.rolname = current_user
"""


@register(Tags.database)
def application_role(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The application's login role owns nothing, inherits no policy role and cannot go past row-level security."""
    if not databases or "default" not in databases:
        return []
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute(_ROLE)
            row = cursor.fetchone()
    except DatabaseError as error:
        return [Error(f"the roles of the database cannot be read: {error}", hint="manage.py provision", id="kit.E001")]
    wrong = (
        "is a superuser",
        "has BYPASSRLS",
        "has INHERIT",
        "owns tables",
        "inherits a policy role without entering a scope",
    )
    return [
        Error(f"the role of DATABASE_URL {what}", hint="manage.py provision", id=f"kit.E01{number}")
        for number, (what, bad) in enumerate(zip(wrong, row or (), strict=False))
        if bad
    ]


@register(Tags.security, deploy=True)
def loopback_agents(**kwargs: Any) -> list[CheckMessage]:
    """The exception for simulated sites must not reach production."""
    if settings.AGENT_NETWORKS_ALLOWED:
        return [Error("ARCHIPELAGO_AGENT_NETWORKS_ALLOWED is set: pollers would dial loopback", id="kit.E020")]
    return []


@register(Tags.security, deploy=True)
def mail_into_files(**kwargs: Any) -> list[CheckMessage]:
    """Reports by mail are for people, not for files; and a password belongs into no plain connection."""
    if not settings.EMAIL_HOST:
        return [Warning("SMTP_HOST is not set: reports by mail are written into files", id="kit.W022")]
    if settings.EMAIL_HOST_PASSWORD and not (settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL):
        return [Error("SMTP_TLS is none: SMTP_PASSWORD would go over the wire in plain text", id="kit.E022")]
    return []


@register(Tags.security, deploy=True)
def loopback_webhooks(**kwargs: Any) -> list[CheckMessage]:
    """The exception for development must not reach production."""
    if settings.WEBHOOK_HTTP_LOOPBACK:
        return [Error("ARCHIPELAGO_WEBHOOK_HTTP_LOOPBACK is set: webhooks would call loopback", id="kit.E021")]
    return []
