"""What every answer carries, how errors are told, and what a request may not say about itself."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.http import HttpResponse
from django.template.response import TemplateResponse
from django.test import Client
from django.urls import path

import fleet.urls
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable
from fleet.kit.tenancy import current
from sites.models import Site
from sites.services.sites import create_sites
from tests.conftest import TEST, everything
from tests.database import APP, OWNER, rows

CSP = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "worker-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve a view at /probe/ for this test."""
    from django.urls import clear_url_caches

    def serve(view: Any, address: str = "probe/") -> None:
        monkeypatch.setattr(fleet.urls, "urlpatterns", [*fleet.urls.urlpatterns, path(address, view)])
        clear_url_caches()

    yield serve
    monkeypatch.undo()
    clear_url_caches()


@pytest.fixture
def without_database(database: None) -> Iterator[Any]:
    """Call it, and the application finds no PostgreSQL any more."""
    settings = connections[APP].settings_dict
    own = {name: settings[name] for name in ("HOST", "PORT")}

    def lose() -> None:
        connections[APP].close()
        settings.update(HOST="127.0.0.1", PORT="9")

    yield lose
    connections[APP].close()
    settings.update(own)


def quiet(client: Client) -> Client:
    """A client that shows the answer to a fault rather than raising it."""
    client.raise_request_exception = False
    return client


# Headers ----------------------------------------------------------------------------------------------------
ANSWERS = [
    *(("GET", "/", 200), ("GET", "/sites/", 200), ("GET", "/map.json", 200), ("GET", "/sites/export.csv", 200)),
    *(("GET", "/api/v1/sites", 200), ("GET", "/api/docs", 200), ("GET", "/healthz", 200), ("GET", "/metrics", 200)),
    *(("GET", "/nothing", 404), ("GET", "/sites/nothing/", 404), ("GET", "/api/v1/sites/nothing", 404)),
    *(("GET", "/static/nothing.js", 404), ("POST", "/", 405), ("DELETE", "/api/v1/sites", 405), ("GET", "/sites", 301)),
    *(
        ("GET", "/accounts/login/", 302),
        ("GET", "/accounts/password/change/", 200),
        ("GET", "/accounts/inactive/", 200),
    ),
]


def assert_safe(response: Any) -> None:
    assert set(response["Content-Security-Policy"].split("; ")) == CSP
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert len(response["X-Request-Id"]) == 16
    assert response["Cache-Control"].split(", ")[0] != "public"
    assert "Server" not in response
    assert "X-Powered-By" not in response


@pytest.mark.parametrize(("method", "address", "status"), ANSWERS)
def test_every_answer_carries_the_security_headers(make_site, signed_in, method, address, status):
    make_site()
    response = signed_in("admin").generic(method, address)
    assert response.status_code == status
    assert_safe(response)


@pytest.mark.parametrize(
    ("address", "status"), [("/", 302), ("/accounts/login/", 200), ("/nothing", 404), ("/api/v1/sites", 401)]
)
def test_also_without_a_session(database, address, status):
    response = Client().get(address)
    assert response.status_code == status
    assert_safe(response)


def test_static_files_carry_the_policy_too(database):
    from django.contrib.staticfiles.storage import staticfiles_storage

    response = Client().get(staticfiles_storage.url("js/app.js"))
    assert response.status_code == 200
    assert set(response["Content-Security-Policy"].split("; ")) == CSP
    assert "immutable" in response["Cache-Control"]
    response.close()


def test_faults_carry_them_too(signed_in, probe):
    def broken(request: Any) -> HttpResponse:
        raise RuntimeError("secret detail")

    probe(broken)
    response = quiet(signed_in("viewer")).get("/probe/")
    assert response.status_code == 500
    assert_safe(response)
    assert b"secret" not in response.content
    assert b"Something broke on our side" in response.content


def test_request_ids_differ(database):
    client = Client()
    assert client.get("/healthz")["X-Request-Id"] != client.get("/healthz")["X-Request-Id"]
    assert client.get("/healthz", headers={"X-Request-Id": "forged"})["X-Request-Id"] != "forged"


# What a request says about itself ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "a b", "", "localhost@evil"]
)
@pytest.mark.parametrize("address", ["/", "/accounts/login/", "/api/v1/sites"])
def test_a_foreign_host_name_is_400(database, host, address):
    response = Client().get(address, headers={"host": host})
    assert response.status_code == 400
    assert b"evil" not in response.content


FORWARDED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Forwarded-For": "203.0.113.66",
    "X-Forwarded-Server": "evil.example",
    "Forwarded": "host=evil.example;proto=https;for=203.0.113.66",
    "X-Original-URL": "/metrics",
    "X-Rewrite-URL": "/metrics",
    "X-HTTP-Method-Override": "DELETE",
}


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarding_headers_are_ignored(make_site, signed_in, name):
    site = make_site()
    client = signed_in("operator")
    headers = {name: FORWARDED[name]}
    response = client.get("/api/docs", headers=headers)
    assert b"evil.example" not in response.content
    assert Client().get("/sites/", headers=headers)["Location"] == "/accounts/login/?next=/sites/"
    assert client.get("/sites", headers=headers)["Location"] == "/sites/"
    assert "Strict-Transport-Security" not in response
    client.post(f"/sites/{site.slug}/poll-now/", headers=headers)
    assert rows("SELECT address FROM kit_auditentry WHERE action = 'site.poll_now'", using=OWNER) == [("127.0.0.1",)]


def test_behind_a_proxy_of_ours_the_client_is_named_in_the_audit(make_site, signed_in, settings):
    settings.TRUST_PROXY = True
    site = make_site()
    client = signed_in("operator")
    client.post(f"/sites/{site.slug}/poll-now/", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.5"})
    client.post(f"/sites/{site.slug}/poll-now/", headers={"X-Forwarded-For": "203.0.113.5, nonsense"})
    client.post(f"/sites/{site.slug}/poll-now/")
    found = rows("SELECT address FROM kit_auditentry WHERE action = 'site.poll_now' ORDER BY id", using=OWNER)
    assert found == [("203.0.113.5",), ("127.0.0.1",), ("127.0.0.1",)]


@pytest.mark.parametrize(
    "address",
    [
        "/?site=%00",
        "/sites/?q=%00",
        "/search/?q=%00",
        "/?q=%00&region=%00",
        "/sites/%00/",
        "/sites/?page=%00&cols=%00&sort=%00",
        "/sites/places/?q=%00",
        "/map.json?%00=%00",
    ],
)
def test_nuls_are_no_fault_of_ours(make_site, signed_in, address):
    make_site()
    assert quiet(signed_in("viewer")).get(address).status_code in {200, 404, 422}


@pytest.mark.parametrize(
    ("size", "rows_shown"), [("25", 25), ("1000000", 50), ("0", 50), ("-1", 50), ("26", 50), ("", 50)]
)
def test_a_page_of_the_list_has_one_of_the_sizes(make_provider, signed_in, size, rows_shown):
    values = {"name": "S", "lat": 1.0, "lon": 2.0, "address": "203.0.113.1:9100", "provider_id": make_provider().pk}
    create_sites(actor=TEST, rights=everything(), rows=[{**values, "slug": f"s-{number}"} for number in range(60)])
    client = signed_in("viewer")
    assert client.get("/sites/", {"per_page": size}).content.count(b"data-row-link") == rows_shown
    last = client.get("/sites/", {"per_page": size, "page": "99"})
    assert last.content.count(b"data-row-link") == 60 % rows_shown


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "\u202e",
        "%",
        "_",
        "\\",
        "'",
        '"',
        "\U0001f3dd",
        "9" * 400,
        "-1",
        "1e400",
    ],
)
def test_odd_queries_are_no_fault_of_ours(make_site, signed_in, text):
    make_site()
    client = quiet(signed_in("viewer"))
    for address in ("/", "/sites/", "/search/", "/overview/attention/", "/sites/export.csv", "/sites/places/"):
        for name in (
            "q",
            "state",
            "provider",
            "region",
            "ring",
            "life",
            "page",
            "per_page",
            "sort",
            "cols",
            "site",
            "range",
        ):
            assert client.get(address, {name: text}).status_code in {200, 404, 422}, (address, name)


# Errors, as whoever asked can read them ---------------------------------------------------------------------
ERRORS = [
    (NotFound("no such thing"), 404, "not_found"),
    (NotAllowed("not yours"), 403, "not_allowed"),
    (Invalid("wrong <b>", details={"name": "bad"}), 422, "invalid"),
    (Conflict("too late"), 409, "conflict"),
    (Unavailable("later"), 503, "unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: str(value))
def test_a_domain_error_is_a_page_a_toast_or_json(signed_in, probe, error, status, code):
    def view(request: Any) -> HttpResponse:
        raise error

    probe(view)
    client = signed_in("viewer")
    page = client.get("/probe/")
    assert page.status_code == status
    assert page["Content-Type"].startswith("text/html")
    assert error.message.replace("<", "&lt;").replace(">", "&gt;").encode() in page.content
    toast = client.get("/probe/", headers={"HX-Request": "true"})
    assert (toast.status_code, toast.content, toast["HX-Reswap"]) == (status, b"", "none")
    assert json.loads(toast["HX-Trigger"]) == {"toast": {"level": "danger", "text": error.message}}
    # A boosted link and a page brought back from history want the whole page.
    for name in ("HX-Boosted", "HX-History-Restore-Request"):
        whole = client.get("/probe/", headers={"HX-Request": "true", name: "true"})
        assert whole["Content-Type"].startswith("text/html")
        assert whole.content


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: str(value))
def test_a_domain_error_below_the_api_is_json(signed_in, probe, error, status, code):
    def view(request: Any) -> HttpResponse:
        raise error

    probe(view, "api/probe/")
    response = signed_in("viewer").get("/api/probe/")
    assert response.status_code == status
    assert response.json() == {"error": {"code": code, "message": error.message, "details": error.details}}


@pytest.mark.parametrize("address", ["/", "/sites/", "/sites/some-site/", "/nothing", "/map.json"])
def test_a_lost_database_is_a_page_that_says_so(make_site, signed_in, without_database, address):
    make_site("some-site")
    client = quiet(signed_in("viewer"))
    without_database()
    response = client.get(address)
    assert response.status_code == 503
    assert b"The database does not answer" in response.content
    assert_safe(response)
    toast = client.get(address, headers={"HX-Request": "true"})
    assert (toast.status_code, toast.content) == (503, b"")


def test_a_database_lost_within_a_view_is_the_same(signed_in, probe):
    def view(request: Any) -> HttpResponse:
        raise OperationalError("server closed the connection unexpectedly")

    probe(view)
    assert quiet(signed_in("viewer")).get("/probe/").status_code == 503


def test_the_sign_in_page_says_so_too(database, without_database):
    without_database()
    response = quiet(Client()).post("/accounts/login/", {"login": "ada", "password": "x"})
    assert response.status_code == 503


# The transaction of a request -------------------------------------------------------------------------------
@pytest.fixture
def site(make_site: Any) -> Site:
    return make_site("some-site")


def rename_then(finish: Any) -> Any:
    """A view that changes a site and then finishes in some way."""

    def view(request: Any) -> Any:
        assert current() == request.who
        Site.objects.filter(slug="some-site").update(notes="changed")
        return finish(request)

    return view


def notes() -> str:
    return str(Site.objects.using(OWNER).get(slug="some-site").notes)


def raise_(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("finish", "status", "kept"),
    [
        (lambda request: HttpResponse("ok"), 200, "changed"),
        (lambda request: HttpResponse("no", status=422), 422, "changed"),
        (lambda request: HttpResponse("broken", status=500), 500, ""),
        (lambda request: HttpResponse("away", status=503), 503, ""),
        (lambda request: raise_(Conflict("late")), 409, ""),
        (lambda request: raise_(RuntimeError("x")), 500, ""),
        (lambda request: rows("SELECT no_such_column FROM edge_sites_site"), 500, ""),
        (lambda request: TemplateResponse(request, "no/such/template.html"), 500, ""),
    ],
    ids=["200", "422", "500", "503", "domain error", "fault", "SQL fault", "late rendering fails"],
)
def test_a_request_is_committed_or_rolled_back_as_a_whole(site, signed_in, probe, finish, status, kept):
    probe(rename_then(finish))
    assert quiet(signed_in("admin")).get("/probe/").status_code == status
    assert notes() == kept
    assert current() is None


def test_a_late_response_is_rendered_inside_the_scope(site, signed_in, probe):
    def view(request: Any) -> TemplateResponse:
        return TemplateResponse(
            request, "error.html", {"title": Site.objects.values_list("slug", flat=True), "status": 1}
        )

    probe(view)
    response = signed_in("viewer").get("/probe/")
    assert response.status_code == 200
    assert b"some-site" in response.content


def test_a_view_without_a_session_sees_no_site_data(site, probe):
    from django.contrib.auth.decorators import login_not_required

    @login_not_required
    def view(request: Any) -> HttpResponse:
        return HttpResponse(str(Site.objects.count()))

    probe(view)
    assert quiet(Client()).get("/probe/").status_code == 500
    assert "permission denied" not in quiet(Client()).get("/probe/").content.decode()


def test_views_are_closed_unless_they_say_otherwise(database, probe):
    probe(lambda request: HttpResponse("open"))
    response = Client().get("/probe/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/probe/")


def test_there_is_no_other_transaction_around_requests(settings):
    assert not any(database.get("ATOMIC_REQUESTS") for database in settings.DATABASES.values())


# The log ----------------------------------------------------------------------------------------------------
def test_faults_are_logged_with_their_request_and_no_secrets(signed_in, probe, caplog):
    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=500)

    probe(view)
    client = signed_in("viewer")
    with caplog.at_level(logging.DEBUG):
        response = client.get("/probe/?token=hush", headers={"X-Secret": "hush"})
    (record,) = [row for row in caplog.records if row.name == "fleet.middleware"]
    assert record.getMessage() == "GET /probe/"
    assert (record.status, record.request) == (500, response["X-Request-Id"])  # type: ignore[attr-defined]
    session = client.cookies["__Host-session"].value
    assert session not in caplog.text
