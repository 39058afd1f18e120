"""What must be there before an operation of the API on SLAs can be done: a contract, a window that may be answered."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.people.selectors import access_of
from sites.models import Site
from slas.services.upkeep import request_window
from tests.slas.factories import make_contract, segment

SLAS = ("/api/v1/maintenance", "/api/v1/contracts")


def ready_for(operation: str, site: Site, make_person: Callable[..., Any]) -> None:
    """Contract `shops` of the site's provider, and window 1, asked for by the side that an administrator may answer."""
    make_contract(segment(site.provider))
    role = {"cancel_maintenance": ("operator", {})}.get(operation, ("provider_operator", {"provider": site.provider}))
    actor, rights = access_of(make_person(role[0], username="asks", **role[1]))
    begins = datetime.now(UTC) + timedelta(days=5)
    request_window(
        actor=actor,
        rights=rights,
        sites=[site.slug],
        title="Cable",
        begins=begins,
        ends=begins + timedelta(hours=1),
    )
