"""Pages for what went wrong: what happened, and what to do."""

import logging

from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from fleet.kit.errors import DomainError
from fleet.kit.htmx import toast, wants_fragment

logger = logging.getLogger(__name__)
DATABASE_AWAY = (OperationalError, InterfaceError)
NOT_STORABLE = (DataError, UnicodeEncodeError)
TITLES = {
    400: "That request could not be read",
    403: "That is not yours to do",
    404: "There is nothing here",
    409: "Somebody was faster",
    422: "That could not be taken",
    500: "Something broke on our side",
    503: "A part of the system is away",
}


def error_json(code: str, message: str, status: int, details: dict[str, object] | None = None) -> JsonResponse:
    """The one error shape of the API."""
    return JsonResponse({"error": {"code": code, "message": message, "details": details or {}}}, status=status)


def in_api_shape(response: HttpResponse) -> HttpResponse:
    """An answer of the API, with errors that the framework wrote as text (405) put into the one shape."""
    if response.status_code < 400 or response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    shaped = error_json("not_allowed_method", f"{response.reason_phrase}.", response.status_code)
    if response.has_header("Allow"):
        shaped["Allow"] = response["Allow"]
    return shaped


def is_api(request: HttpRequest) -> bool:
    """Whether the caller is a program that wants JSON."""
    return request.path.startswith("/api/") and not request.path.startswith("/api/docs")


def respond(request: HttpRequest, *, status: int, message: str, code: str = "error") -> HttpResponse:
    """JSON for the API, a toast for htmx, a page for a browser."""
    if is_api(request):
        return error_json(code, message, status)
    if wants_fragment(request):
        response = HttpResponse(status=status)
        response["HX-Reswap"] = "none"
        return toast(response, message, level="danger")
    context = {"status": status, "title": TITLES.get(status, "That did not work"), "message": message}
    return render(request, "error.html", context, status=status)


def database_away(request: HttpRequest, error: Exception) -> HttpResponse:
    """503 while PostgreSQL does not answer."""
    logger.error("database away: %s", str(error).split("\n")[0])
    message = "The database does not answer. Try again shortly."
    return respond(request, status=503, message=message, code="unavailable")


def not_storable(request: HttpRequest, error: Exception) -> HttpResponse:
    """422 for a text or number that PostgreSQL cannot hold (a NUL, half a character, 2^80), wherever it came in."""
    logger.warning("not storable: %s", str(error).split("\n")[0])
    return respond(request, status=422, message="A value holds what cannot be stored.", code="invalid")


def from_domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """A DomainError, as whoever asked can read it."""
    if is_api(request):
        return error_json(error.code, error.message, error.status, error.details)
    return respond(request, status=error.status, message=error.message, code=error.code)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400."""
    return respond(request, status=400, message="Check the address and the form, and try again.", code="bad_request")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    return respond(request, status=403, message="Your role does not allow this.", code="not_allowed")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404, also for what exists but is not the viewer's to know."""
    return respond(
        request, status=404, message="It may have been renamed, or you may have no right to see it.", code="not_found"
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return respond(request, status=500, message="It was logged. Trying again in a moment may help.", code="internal")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form whose token is missing or old."""
    return respond(
        request, status=403, message="This page has been open for too long. Reload it and try again.", code="csrf"
    )
