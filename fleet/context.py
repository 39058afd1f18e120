"""What every page's template may read."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from fleet.kit.tenancy import Rights, current
from sites.selectors.desired import recovery_of
from sites.selectors.identity import waiting


def page_context(request: HttpRequest) -> dict[str, Any]:
    """`rights` (what buttons to draw), `theme` (from its cookie: dark unless light was chosen), `tiles_url`, and
    `waiting_count` (sites whose keys wait; asked for only by pages that show it, and 0 where no scope is open), and
    `recovery` (how far sites have told their counters since a restore; None while none recovers).
    """
    who = current()
    return {
        "rights": getattr(request, "rights", Rights()),
        "theme": "light" if request.COOKIES.get("theme") == "light" else "dark",
        "tiles_url": settings.MAP_TILES_URL,
        "waiting_count": lambda: waiting(who).count() if who is not None else 0,
        "recovery": lambda: recovery_of(who) if who is not None else None,
    }
