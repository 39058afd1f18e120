"""What every page's template may read."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from fleet.kit.tenancy import Rights


def page_context(request: HttpRequest) -> dict[str, Any]:
    """`rights` (what buttons to draw), `theme` (from its cookie: dark unless light was chosen), `tiles_url`."""
    return {
        "rights": getattr(request, "rights", Rights()),
        "theme": "light" if request.COOKIES.get("theme") == "light" else "dark",
        "tiles_url": settings.MAP_TILES_URL,
    }
