"""The API root: authentication, the one error shape, OpenAPI."""

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.security import APIKeyCookie, HttpBearer

from fleet.error_pages import database_away, error_json, not_storable
from fleet.kit.errors import DomainError
from fleet.people.models import User
from fleet.rollouts.api import router as rollouts_router
from fleet.rollouts.api_commands import router as commands_router
from fleet.rollouts.api_holds import router as holds_router
from fleet.rollouts.api_webhooks import router as webhooks_router
from fleet.standards.api import router as standards_router
from fleet.standards.api_compliance import router as compliance_router
from sites.api import router as sites_router
from sites.api_desired import router as desired_router
from sites.api_identity import router as identity_router
from sites.api_journal import router as journal_router
from slas.api.budgets import router as budgets_router
from slas.api.contracts import router as contracts_router
from slas.api.disputes import router as disputes_router
from slas.api.incidents import router as outages_router
from slas.api.mailing import router as mailing_router
from slas.api.reports import router as reports_router
from slas.api.upkeep import router as upkeep_router

logger = logging.getLogger(__name__)


class TokenAuth(HttpBearer):
    """`Authorization: Bearer`; ApiTokenMiddleware has already looked the token up."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """The token's user, or None."""
        return request.user if getattr(request, "api_token", None) else None


class SessionAuth(APIKeyCookie):
    """A browser's session; deriving from APIKeyCookie keeps CSRF protection on for it."""

    param_name = "__Host-session"

    def __call__(self, request: HttpRequest) -> Any:
        """The signed-in user, or None: without one there is nothing to forge, and 401 comes before CSRF's 403."""
        return super().__call__(request) if isinstance(request.user, User) else None

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        """The signed-in user."""
        return request.user


def _signed_in_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The description of the API is for whoever may call it."""

    def guarded(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return view(request, **kwargs) if isinstance(request.user, User) else _unauthenticated(request, None)

    return guarded


class _Api(NinjaAPI):
    """Describes itself once: to make the description takes half a second, and it never changes while a process runs."""

    @cached_property
    def _description(self) -> OpenAPISchema:
        return super().get_openapi_schema()

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        if path_prefix is None and not path_params:
            return self._description
        return super().get_openapi_schema(path_prefix=path_prefix, path_params=path_params)


api = _Api(
    title="Archipelago",
    version="1",
    description="Fleet, sites, their samples and states. Every list answers `{items, next}`; every error `{error}`.",
    auth=[TokenAuth(), SessionAuth()],
    docs_url=None,
    openapi_url="/openapi.json",
    docs_decorator=_signed_in_only,
    urls_namespace="api",
)
api.add_router("", sites_router, tags=["sites"])
api.add_router("", identity_router, tags=["identity"])
api.add_router("", journal_router, tags=["journal"])
api.add_router("", desired_router, tags=["desired"])
api.add_router("", standards_router, tags=["standards"])
api.add_router("", compliance_router, tags=["compliance"])
api.add_router("", webhooks_router, tags=["webhooks"])
api.add_router("", rollouts_router, tags=["rollouts"])
api.add_router("", commands_router, tags=["rollouts"])
api.add_router("", holds_router, tags=["rollouts"])
api.add_router("", contracts_router, tags=["contracts"])
api.add_router("", upkeep_router, tags=["maintenance"])
api.add_router("", outages_router, tags=["outages"])
api.add_router("", disputes_router, tags=["disputes"])
api.add_router("", budgets_router, tags=["budgets"])
api.add_router("", reports_router, tags=["reports"])
api.add_router("", mailing_router, tags=["reports"])


@api.exception_handler(DomainError)
def _domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    request.rollback = True  # type: ignore[attr-defined]
    return error_json(error.code, error.message, error.status, error.details)


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, error: AuthenticationError | None) -> HttpResponse:
    return error_json("unauthenticated", "Send `Authorization: Bearer` with a live token, or sign in.", 401)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    details: dict[str, object] = {
        ".".join(str(part) for part in row["loc"] if part not in {"body", "query", "path"}) or "body": row["msg"]
        for row in error.errors
    }
    return error_json("invalid", "Some values cannot be taken.", 422, details)


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if error.status_code == 403:  # django-ninja's own, for a session without its CSRF token
        return error_json("csrf", "A session needs its CSRF token in X-CSRFToken; a bearer token does not.", 403)
    return error_json("bad_request" if error.status_code == 400 else "error", error.message, error.status_code)


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return error_json("too_large", "The body is larger than anything that is taken here.", 413)


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return error_json("not_found", "There is nothing here.", 404)


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def _database_away(request: HttpRequest, error: Exception) -> HttpResponse:
    request.rollback = True  # type: ignore[attr-defined]
    return database_away(request, error)


@api.exception_handler(DataError)
@api.exception_handler(UnicodeEncodeError)
def _not_storable(request: HttpRequest, error: Exception) -> HttpResponse:
    request.rollback = True  # type: ignore[attr-defined]
    return not_storable(request, error)


@api.exception_handler(Exception)
def _internal(request: HttpRequest, error: Exception) -> HttpResponse:
    request.rollback = True  # type: ignore[attr-defined]
    logger.exception("the API failed", extra={"path": request.path})
    return error_json("internal", "Something broke on our side; it was logged.", 500)
