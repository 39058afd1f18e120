"""The request as middleware leaves it: with the viewer's scope and rights."""

from django.http import HttpRequest

from fleet.kit.tenancy import Rights, Scope


class ScopedRequest(HttpRequest):
    """What every view may count on (fleet.middleware.ScopeMiddleware sets it)."""

    who: Scope
    rights: Rights
    request_id: str
