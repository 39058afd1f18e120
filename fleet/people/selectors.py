"""Reads of people: the Scope and the Rights of a user, the user behind a token."""

import hashlib
import hmac
from datetime import datetime

from django.conf import settings

from fleet.kit.tenancy import NOBODY, Limit, Rights, Scope
from fleet.people.models import ApiToken, Membership, User
from fleet.people.roles import ACTIONS, FLEET_ACTIONS


def limit_of(membership: Membership) -> Limit:
    """The reach of one membership."""
    return Limit(
        provider_id=membership.provider_id,
        regions=frozenset(membership.regions),
        labels=tuple(sorted(membership.labels.items())),
    )


def access_of(user: User) -> tuple[Scope, Rights]:
    """What the user may see and do, from all memberships (one query). No membership: nothing."""
    memberships = list(user.memberships.all())
    if not memberships or not user.is_active:
        return NOBODY, Rights()
    limits = [limit_of(membership) for membership in memberships]
    by_action: dict[str, tuple[Limit, ...]] = {}
    for membership, limit in zip(memberships, limits, strict=True):
        for action in ACTIONS[membership.role] - (FLEET_ACTIONS if limit != Limit() else frozenset()):
            by_action[action] = (*by_action.get(action, ()), limit)
    who = Scope(
        name=user.get_username(),
        wide=any(limit.provider_id is None for limit in limits),
        providers=frozenset(limit.provider_id for limit in limits if limit.provider_id is not None),
        limits=tuple(limits),
        user_id=user.pk,
    )
    return who, Rights(by_action)


def report_readers() -> list[tuple[int, str, str, int | None]]:
    """Who may be mailed reports: (user, name, e-mail address, provider), one for each side that somebody sees whole.

    Provider None is the centre's: all of a report. Nobody who is limited to regions or labels is among them.
    """
    found: list[tuple[int, str, str, int | None]] = []
    for user in User.objects.filter(is_active=True).order_by("username").prefetch_related("memberships"):
        who, rights = access_of(user)
        if who.narrowed or not rights.may("contract.view"):
            continue
        sides: list[int | None] = [None] if who.wide else [*sorted(who.providers)]
        found += [(user.pk, user.get_username(), user.email, side) for side in sides]
    return found


def token_digest(token: str) -> str:
    """Peppered digest under which a token is stored (HMAC-SHA-256 with the secret key)."""
    return hmac.new(settings.SECRET_KEY.encode(), token.encode(), hashlib.sha256).hexdigest()


def live_token(token: str, *, now: datetime) -> ApiToken | None:
    """The token that is neither revoked nor expired, with its user, or None."""
    found = ApiToken.objects.select_related("user").filter(digest=token_digest(token), revoked_at=None).first()
    if found is None or found.expires_at <= now or not found.user.is_active:
        return None
    return found
