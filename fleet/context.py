"""What every page's template may read."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from fleet.kit.tenancy import Rights, current
from sites.selectors.identity import waiting


def page_context(request: HttpRequest) -> dict[str, Any]:
    """`rights` (what buttons to draw), `theme` (from its cookie: dark unless light was chosen), `tiles_url`, and
    `waiting_count` (sites whose keys wait; asked for only by pages that show it, and 0 where no scope is open).
    """
    who = current()
    return {
        "rights": getattr(request, "rights", Rights()),
        "theme": "light" if request.COOKIES.get("theme") == "light" else "dark",
        "tiles_url": settings.MAP_TILES_URL,
        "waiting_count": lambda: waiting(who).count() if who is not None else 0,
    }
