"""How a button answers: a toast where the page stays, the way back where it does not."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

from fleet.kit.htmx import toast, wants_fragment
from fleet.kit.http import ScopedRequest
from sites.models import Site


def done(request: ScopedRequest, site: Site, text: str) -> HttpResponse:
    """A toast for htmx (whose lists then ask again), else back to the page that the button was on."""
    if wants_fragment(request):
        response = toast(HttpResponse(status=204), text)
        response["HX-Trigger"] = response["HX-Trigger"][:-1] + ', "changed": {}}'
        return response
    messages.success(request, text)
    back = request.headers.get("Referer", "")
    hosts = {request.get_host()}
    is_ours = url_has_allowed_host_and_scheme(back, allowed_hosts=hosts, require_https=request.is_secure())
    return HttpResponseRedirect(back if is_ours else site.get_absolute_url())
