"""Changes of people."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from fleet.kit import audit
from fleet.kit.errors import Invalid
from fleet.kit.tenancy import Scope, scope
from fleet.people.models import ApiToken, Membership, User
from fleet.people.roles import PROVIDER_ROLES, Role
from fleet.people.selectors import token_digest

TOKEN_DAYS = 90


def make_user(
    *,
    actor: Scope,
    username: str,
    password: str,
    role: str,
    email: str = "",
    provider_id: int | None = None,
    regions: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> User:
    """Make a user with one membership, or set the password of one that exists, and the address if given. Audited.

    Raises Invalid for an unknown role or a provider's role without a provider.
    """
    if role not in Role.values:
        raise Invalid(f"There is no role {role}.")
    if role in PROVIDER_ROLES and provider_id is None:
        raise Invalid(f"{role} needs a provider.")
    with scope(actor):
        user, new = User.objects.get_or_create(username=username)
        user.set_password(password)
        user.email = email or user.email
        user.save(update_fields=["password", "email"])
        limits = {"regions": list(regions), "labels": dict(labels or {})}
        same = Membership.objects.filter(user=user, role=role)
        if not same.filter(Q(provider_id=provider_id) if provider_id else Q(provider=None)).exists():
            Membership.objects.create(user=user, role=role, provider_id=provider_id, **limits)
        audit.record(
            actor,
            "user.create" if new else "user.password",
            object_type="user",
            object_id=user.pk,
            object_name=username,
            provider_id=provider_id,
            after={"role": role},
        )
    return user


def mint_token(*, actor: Scope, user: User, now: datetime, days: int = TOKEN_DAYS) -> str:
    """Make an API token of at most 90 days; the text is returned once and never stored. Audited."""
    if not 1 <= days <= TOKEN_DAYS:
        raise Invalid(f"A token lives from 1 to {TOKEN_DAYS} days.")
    token = "arch_" + secrets.token_urlsafe(32)
    with scope(actor):
        row = ApiToken.objects.create(
            user=user, digest=token_digest(token), prefix=token[:10], expires_at=now + timedelta(days=days)
        )
        audit.record(
            actor,
            "token.create",
            object_type="token",
            object_id=row.pk,
            object_name=f"{row.prefix}… of {user.get_username()}",
            provider_id=None,
            after={"expires_at": row.expires_at.isoformat()},
        )
    return token


def note_use(token: ApiToken, *, now: datetime) -> None:
    """Record the last use of a token, at most once a minute."""
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


MAX_VIEWS = 30


@transaction.atomic
def keep_view(*, user: User, name: str, query: str) -> None:
    """Keep a list's query string under a name in the user's preferences; the same name replaces. Raises Invalid."""
    name, query = name.strip()[:60], query[:2000]
    if not name:
        raise Invalid("Give the view a name.", details={"name": "missing"})
    row = User.objects.select_for_update().get(pk=user.pk)
    views = [view for view in row.preferences.get("site_views", []) if view["name"] != name]
    if len(views) >= MAX_VIEWS:
        raise Invalid(f"At most {MAX_VIEWS} views are kept; remove one first.")
    row.preferences = row.preferences | {"site_views": [*views, {"name": name, "query": query}]}
    row.save(update_fields=["preferences"])


@transaction.atomic
def forget_view(*, user: User, name: str) -> None:
    """Remove a kept view; one that is not there is no error."""
    row = User.objects.select_for_update().get(pk=user.pk)
    views = [view for view in row.preferences.get("site_views", []) if view["name"] != name]
    row.preferences = row.preferences | {"site_views": views}
    row.save(update_fields=["preferences"])
