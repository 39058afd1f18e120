"""Import of sites from CSV: upload, preview with errors by line, and only then the import itself."""

import base64
import binascii
import zlib

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from fleet.kit.errors import DomainError, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from sites.csv_format import COLUMNS, MAX_BYTES, MAX_ROWS, REQUIRED, Preview, read_sites
from sites.forms import ImportForm
from sites.selectors.access import providers_in, sites_in
from sites.services.sites import create_sites

ERRORS_SHOWN = 200
ROWS_SHOWN = 20


def _packed(data: bytes) -> str:
    """The file as text for the page's form: the second step brings it back, so the server keeps nothing between."""
    return base64.b64encode(zlib.compress(data, 6)).decode()


def _unpacked(text: str) -> bytes:
    """What _packed() made. Raises Invalid for anything else, and for what unpacks beyond the limit."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_BYTES + 1)
    except (binascii.Error, zlib.error):
        raise Invalid("The file came back damaged; upload it again.") from None
    if len(data) > MAX_BYTES or unpacker.unconsumed_tail:
        raise Invalid("The file is too large.")
    return data


def _preview(request: ScopedRequest, data: bytes) -> Preview:
    providers = {provider.slug: provider for provider in providers_in(request.who)}
    return read_sites(data, providers=providers, taken=sites_in(request.who).values_list("slug", flat=True))


@require_http_methods(["GET", "HEAD", "POST"])
def site_import(request: ScopedRequest) -> HttpResponse:
    """Three steps on one address: the form, the preview of an upload, the import of what was previewed."""
    if not request.rights.may("site.change"):
        raise NotAllowed("Your role does not make sites.")
    context = {"form": ImportForm(), "required": REQUIRED, "columns": COLUMNS, "max_rows": MAX_ROWS}
    if request.method != "POST":
        return django_render(request, "sites/import.html", context)
    if "packed" in request.POST:
        return _import(request, _unpacked(request.POST["packed"]))
    form = ImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return django_render(request, "sites/import.html", context | {"form": form}, status=422)
    upload = form.cleaned_data["file"]
    data = upload.read(MAX_BYTES + 1)
    preview = _preview(request, data)
    context |= {
        "preview": preview,
        "name": upload.name,
        "errors": preview.errors[:ERRORS_SHOWN],
        "errors_more": max(0, len(preview.errors) - ERRORS_SHOWN),
        "rows": list(zip(preview.lines, preview.rows, strict=True))[:ROWS_SHOWN],
        "rows_more": max(0, len(preview.rows) - ROWS_SHOWN),
        "provider_names": dict(providers_in(request.who).values_list("pk", "name")),
        "packed": "" if preview.errors else _packed(data),
    }
    return django_render(request, "sites/import.html", context, status=422 if preview.errors else 200)


def _import(request: ScopedRequest, data: bytes) -> HttpResponse:
    """All rows or none: the file is read again, since the fleet may have changed since the preview."""
    preview = _preview(request, data)
    if preview.errors:
        first = preview.errors[0]
        raise Invalid(f"The fleet has changed since the preview. Line {first.line}: {first.message}. Upload it again.")
    try:
        made = create_sites(actor=request.who, rights=request.rights, rows=preview.rows)
    except DomainError as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(reverse("site_import"))
    messages.success(request, f"{len(made)} site{'s' if len(made) != 1 else ''} imported.")
    return HttpResponseRedirect(reverse("site_list"))
