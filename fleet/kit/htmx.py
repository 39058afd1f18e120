"""Page or fragment: decided in one place."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render as django_render
from django.utils.cache import patch_vary_headers


def wants_fragment(request: HttpRequest) -> bool:
    """Whether htmx asked for a part of a page (a boosted or restored request wants the whole)."""
    details: Any = getattr(request, "htmx", None)
    return bool(details) and not details.boosted and not details.history_restore_request


def render(
    request: HttpRequest, *, page: str, fragment: str, context: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    """Render `fragment` for htmx, `page` (which includes it) for everyone else; sets Vary: HX-Request."""
    template = fragment if wants_fragment(request) else page
    response = django_render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def toast(response: HttpResponse, text: str, *, level: str = "success") -> HttpResponse:
    """Have the browser show `text` (level: success, info, warning, danger). Returns the response."""
    response["HX-Trigger"] = json.dumps({"toast": {"level": level, "text": text}})
    return response
