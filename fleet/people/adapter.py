"""allauth's adapter: accounts are made by an administrator; guesses are throttled without locking anybody out."""

import secrets
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal import ratelimit
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse

from fleet.kit import audit
from fleet.kit.http import client_address
from fleet.kit.tenancy import current
from fleet.people.models import User

KNOWN_COOKIE = "__Host-known"
KNOWN_DAYS = 180
STRANGER = "10/m/ip,5/5m/key"
KNOWN = "10/5m/key"


class ClosedSignUpAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth carries no types
    """No sign-up, and failed sign-ins counted by who guesses, not by whose name is guessed.

    A limit by user name alone would let anybody lock anybody out. So a stranger has STRANGER attempts by address and
    by name and address; a browser in which the user has signed in before has KNOWN attempts of its own, whatever
    others do ("device cookies", as OWASP calls them).
    """

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Always closed."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that attempts are counted by."""
        return client_address(request)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Take one attempt; it is given back when the password is right. Raises ValidationError when none is left."""
        name = str(credentials.get("username", "")).lower()
        browser = _known_browser(request, name)
        rate, source = (KNOWN, browser) if browser else (STRANGER, self.get_client_ip(request))
        self._login_failed_rl_usage = ratelimit.consume(
            request,
            app="allauth.account",
            action="login_failed",
            config={"login_failed": rate},
            key=f"{name} {source}",
        )
        if not self._login_failed_rl_usage:
            raise self.validation_error("too_many_login_attempts")

    def post_login(self, request: HttpRequest, user: User, **details: Any) -> HttpResponse:
        """Go on to the page that was asked for, and remember the browser."""
        response: HttpResponse = super().post_login(request, user, **details)
        name = user.get_username().lower()
        browser = _known_browser(request, name) or secrets.token_urlsafe(16)
        response.set_cookie(
            KNOWN_COOKIE,
            signing.dumps([name, browser], salt=KNOWN_COOKIE),
            max_age=KNOWN_DAYS * 86400,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return response

    def set_password(self, user: User, password: str) -> None:
        """Set a password, by the user itself. Audited."""
        user.set_password(password)
        user.save(update_fields=["password"])
        who = current()
        if who is not None and (who.wide or who.providers):
            audit.record(
                who,
                "user.password",
                object_type="user",
                object_id=user.pk,
                object_name=user.get_username(),
                provider_id=None if who.wide else min(who.providers),
            )


def _known_browser(request: HttpRequest, name: str) -> str:
    """Id of the browser if this user has signed in with it before, else an empty text."""
    try:
        known, browser = signing.loads(
            request.COOKIES.get(KNOWN_COOKIE, ""), salt=KNOWN_COOKIE, max_age=KNOWN_DAYS * 86400
        )
    except (signing.BadSignature, ValueError):
        return ""
    return str(browser) if known == name else ""
