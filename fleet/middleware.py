"""What happens to every request: a log line, the token, sign-in, the scope, errors turned into answers."""

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils import timezone

from fleet.error_pages import (
    DATABASE_AWAY,
    NOT_STORABLE,
    database_away,
    error_json,
    from_domain_error,
    in_api_shape,
    is_api,
    not_storable,
)
from fleet.kit.errors import DomainError
from fleet.kit.http import client_address
from fleet.kit.tenancy import NOBODY, Rights, scope, with_request
from fleet.people.models import User
from fleet.people.selectors import access_of, live_token
from fleet.people.services import note_use

logger = logging.getLogger(__name__)
GetResponse = Callable[[HttpRequest], HttpResponse]
SLOW_MS = 1000
# They open a scope of their own, whoever asks, and answer where no session can be read.
MACHINE_PAGES = frozenset({"/healthz", "/readyz", "/metrics"})


class RequestLogMiddleware:
    """Gives each request an id, logs the slow and the failed ones, and keeps answers out of shared caches."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer; the id is also in the header X-Request-Id."""
        request.request_id = uuid.uuid4().hex[:16]  # type: ignore[attr-defined]
        started = time.perf_counter()
        response = self.get_response(request)
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        response.headers.setdefault("Cache-Control", "private, no-cache")
        took_ms = round((time.perf_counter() - started) * 1000)
        if took_ms > SLOW_MS or response.status_code >= 500:
            fields = {"status": response.status_code, "ms": took_ms, "request": request.request_id}  # type: ignore[attr-defined]
            logger.warning("%s %s", request.method, request.path, extra=fields)
        return response


class ApiTokenMiddleware:
    """`Authorization: Bearer` on the API: the token's user, for this request, with no session; errors in one shape."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """A header that is there but no good is refused, whatever cookie comes with it."""
        if not is_api(request):
            return self.get_response(request)
        return in_api_shape(self._answer(request))

    def _answer(self, request: HttpRequest) -> HttpResponse:
        header = request.headers.get("Authorization", "")
        if not header:
            return self.get_response(request)
        kind, _, token = header.partition(" ")
        try:
            found = live_token(token.strip(), now=timezone.now()) if kind.lower() == "bearer" else None
            if found is None:
                return error_json("unauthenticated", "This token is unknown, expired or revoked.", 401)
            note_use(found, now=timezone.now())
        except DATABASE_AWAY as error:
            return database_away(request, error)
        request.user = found.user
        request.api_token = found  # type: ignore[attr-defined]
        return self.get_response(request)


class SignInRequiredMiddleware(LoginRequiredMiddleware):
    """Everything is closed by default; a fragment of an expired page has the browser go to the sign-in page."""

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., HttpResponseBase], view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        """The API has its own global authentication, which answers 401 in JSON instead of a redirect.

        htmx follows redirects silently, so it is told by header where to go (286 also stops its polling).
        """
        if is_api(request) or request.path in MACHINE_PAGES:
            return None
        response = super().process_view(request, view_func, view_args, view_kwargs)
        if response is not None and request.headers.get("HX-Request"):
            told = HttpResponse(status=286)
            told["HX-Redirect"] = response["Location"] if response.has_header("Location") else settings.LOGIN_URL
            return told
        return response


class ScopeMiddleware:
    """Runs each view inside the scope of its viewer, and turns what it raises into an answer.

    A response that renders late is rendered inside; an exception or an answer of 500 and above rolls back.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer within the viewer's scope; an anonymous request has none."""
        try:
            if request.path in MACHINE_PAGES:
                return self.get_response(request)
            user = self._know(request)
            if not isinstance(user, User):
                return self.get_response(request)
            with scope(request.who):  # type: ignore[attr-defined]
                response = self.get_response(request)
                if isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
                    response = response.render()
                if response.status_code >= 500 or getattr(request, "rollback", False):
                    transaction.set_rollback(True)
                return response
        except DomainError as error:
            return from_domain_error(request, error)
        except DATABASE_AWAY as error:
            return database_away(request, error)

    @staticmethod
    def _know(request: HttpRequest) -> object:
        """Put the viewer's scope and rights on the request. Returns the user."""
        user = request.user
        who, rights = access_of(user) if isinstance(user, User) else (NOBODY, Rights())
        request_id = getattr(request, "request_id", "")
        request.who = with_request(who, address=client_address(request), request_id=request_id)  # type: ignore[attr-defined]
        request.rights = rights  # type: ignore[attr-defined]
        return user

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What a view raised, answered; the transaction will not commit."""
        request.rollback = True  # type: ignore[attr-defined]
        if isinstance(exception, DATABASE_AWAY):
            return database_away(request, exception)
        if isinstance(exception, NOT_STORABLE):
            return not_storable(request, exception)
        return from_domain_error(request, exception) if isinstance(exception, DomainError) else None
