"""The waiting room: sites whose keys wait for a person; and what of identities belongs into lists of trouble."""

from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from fleet.kit.htmx import render, wants_fragment
from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import Scope
from sites.present import clock_of, may_on
from sites.selectors.desired import recovery_of
from sites.selectors.fleet_wide import wrong_clocks
from sites.selectors.identity import frozen, waiting, waiting_in

SHOWN = 100


@require_safe
def waiting_room(request: ScopedRequest) -> HttpResponse:
    """Everything that waits to be accepted, oldest first."""
    rows = [
        {"identity": identity, "site": identity.site, "may_enrol": may_on(request.rights, "site.enrol", identity.site)}
        for identity in waiting_in(request.who, limit=SHOWN)
    ]
    total = waiting(request.who).count()
    context = {
        "rows": rows,
        "total": total,
        "more": total - len(rows),
        "frozen": list(frozen(request.who)[:SHOWN]),
        "in_navigation": wants_fragment(request),
    }
    return render(request, page="sites/waiting.html", fragment="sites/_waiting.html", context=context)


def frozen_rows(who: Scope, *, limit: int) -> list[dict[str, Any]]:
    """Rows of the attention list: `matter`, `site`, `since` and `why`, the longest freeze first."""
    return [
        {
            "matter": "frozen",
            "site": site,
            "since": site.identity_frozen_at,
            "why": f"Identity frozen: {site.identity_frozen_reason}",
        }
        for site in frozen(who)[:limit]
    ]


def waiting_rows(who: Scope, *, limit: int) -> list[dict[str, Any]]:
    """The same for keys that wait, the longest wait first."""
    return [
        {"matter": "waiting", "site": row.site, "since": row.presented_at, "why": "Its keys wait to be accepted"}
        for row in waiting_in(who, limit=limit)
    ]


def clock_rows(who: Scope, *, limit: int) -> list[dict[str, Any]]:
    """The same for sites whose clock is far off, the worst first; since when is not known."""
    return [
        {"matter": "clock", "site": site, "since": None, "why": clock_of(site)}
        for site in wrong_clocks(who, limit=limit)
    ]


def recovery_rows(who: Scope) -> list[dict[str, Any]]:
    """One row while sites recover after a restore: `matter` and `why`; it is about no single site."""
    progress = recovery_of(who)
    if progress is None:
        return []
    return [{"matter": "recovering", "why": f"{progress.told} of {progress.total} sites have told their counters"}]
