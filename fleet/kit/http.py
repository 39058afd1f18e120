"""The request as middleware leaves it: with the viewer's scope and rights."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest

from fleet.kit.tenancy import Rights, Scope


class ScopedRequest(HttpRequest):
    """What every view may count on (fleet.middleware.ScopeMiddleware sets it)."""

    who: Scope
    rights: Rights
    request_id: str


def client_address(request: HttpRequest) -> str:
    """Who called: the peer, or where a proxy of ours stands in front (TRUST_PROXY) whom that proxy says it serves.

    That is the last entry of X-Forwarded-For; what stands before it was sent by the client and may be a lie.
    """
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if not settings.TRUST_PROXY:
        return peer
    named = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(named))
    except ValueError:
        return peer
