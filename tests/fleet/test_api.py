"""The API's root: who gets in, and that every error has the one shape."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test import Client

import sites.api
from tests.database import APP, OWNER, rows
from tests.fleet.rollouts.ready import ready_for as rollouts_ready_for
from tests.fleet.rollouts.receiver import one_webhook
from tests.fleet.standards.factories import ready_for as standards_ready_for
from tests.openapi import OF_PROVIDERS, Operation, assert_error, operations
from tests.sites.identities import ready_for
from tests.sites.told import blob, told_for
from tests.slas.ready import SLAS
from tests.slas.ready import ready_for as slas_ready_for

OPERATIONS = operations()
UNSAFE = [operation for operation in OPERATIONS if not operation.is_safe]
# Of these operations those that a session without its CSRF token is refused, whatever they change.
POSTED = [operation for operation in OPERATIONS if operation.method != "GET"]
STANDARDS = ("/api/v1/standards", "/api/v1/rings")
WEBHOOKS = "/api/v1/webhooks"
ROLLOUTS = ("/api/v1/rollouts", "/api/v1/holds")
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
each_posted = pytest.mark.parametrize("operation", POSTED, ids=str)
each_unsafe = pytest.mark.parametrize("operation", UNSAFE, ids=str)


@pytest.fixture
def ours(make_provider: Any, make_site: Any, signer: None, request: pytest.FixtureRequest) -> Any:
    """A site that the sweep may act on, brought to where the operation under test may be done."""
    site = make_site("some-site", make_provider("ours"))
    callspec = getattr(request.node, "callspec", None)
    operation = callspec.params.get("operation") if callspec else None
    if operation is not None:
        ready_for(operation.name.removeprefix("identity_"), site)
        if "/desired" in operation.path:
            told_for(operation.name.removeprefix("desired_"), site)
        elif operation.name == "desired_blobs":
            blob(b"{}")
        if operation.path.startswith(STANDARDS):
            standards_ready_for(operation.name)
        if operation.path.startswith(WEBHOOKS):
            one_webhook()
        if operation.path.startswith(ROLLOUTS):
            rollouts_ready_for(operation.name, site, request.getfixturevalue("make_person"))
        if operation.path.startswith(SLAS):
            slas_ready_for(operation.name, site, request.getfixturevalue("make_person"))
    return site


def contents() -> list[Any]:
    """All that a call could change."""
    tables = (
        *("edge_sites_site", "edge_sites_sitetenure", "edge_sites_pollschedule", "kit_auditentry"),
        *("edge_sites_jointoken", "edge_sites_siteidentity", "edge_sites_sitecertificate"),
        *("edge_sites_desireddocument", "edge_sites_sitedesired", "edge_sites_blob"),
        *("standards_standard", "standards_ring", "standards_ringstandard", "kit_keptanswer"),
        *("rollouts_webhookendpoint", "rollouts_webhookdelivery"),
        *("rollouts_rollout", "rollouts_wave", "rollouts_sitestep", "rollouts_approval", "rollouts_rolloutevent"),
        *("rollouts_hold", "rollouts_providercalendar", "slas_window", "slas_contract", "slas_contractversion"),
        *("slas_incidentnote", "slas_finding", "slas_dispute", "slas_disputestep", "slas_disputefile"),
        *("slas_report", "slas_decision", "slas_mailschedule", "slas_maildelivery"),
    )
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


def browser(person: Any) -> tuple[Client, str]:
    """A client as strict as a browser's server side, signed in, and its CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    client.get("/accounts/password/change/")
    return client, client.cookies["__Host-csrf"].value


def who_may(operation: Operation, site: Any, make_person: Any) -> Any:
    """Somebody who may do it: an administrator, but for what is a provider's own."""
    if operation.name in OF_PROVIDERS:
        return make_person("provider_operator", provider=site.provider)
    return make_person("admin")


# Who gets in ------------------------------------------------------------------------------------------------
def test_the_operations_are_those():
    assert sorted(str(operation) for operation in OPERATIONS) == [
        "DELETE /api/v1/report-schedules/{schedule}",
        "DELETE /api/v1/rings/{ring}",
        "DELETE /api/v1/standards/{standard}",
        "DELETE /api/v1/webhooks/{webhook}",
        "GET /api/v1/blobs",
        "GET /api/v1/budgets",
        "GET /api/v1/burn-alerts",
        "GET /api/v1/compliance",
        "GET /api/v1/compliance/drift",
        "GET /api/v1/compliance/history",
        "GET /api/v1/compliance/sites",
        "GET /api/v1/compliance/sites.csv",
        "GET /api/v1/compliance/spread",
        "GET /api/v1/contracts",
        "GET /api/v1/contracts/{contract}",
        "GET /api/v1/contracts/{contract}/versions",
        "GET /api/v1/contracts/{contract}/versions/{number}",
        "GET /api/v1/disputes",
        "GET /api/v1/disputes/{dispute}",
        "GET /api/v1/disputes/{dispute}/files/{file}",
        "GET /api/v1/holds",
        "GET /api/v1/identities/waiting",
        "GET /api/v1/maintenance",
        "GET /api/v1/maintenance/{window}",
        "GET /api/v1/outages",
        "GET /api/v1/outages/{outage}",
        "GET /api/v1/providers",
        "GET /api/v1/providers/{provider}/rollout-calendar",
        "GET /api/v1/report-schedules",
        "GET /api/v1/report-schedules/{schedule}",
        "GET /api/v1/report-schedules/{schedule}/mails",
        "GET /api/v1/reports",
        "GET /api/v1/reports/verifier",
        "GET /api/v1/reports/{report}",
        "GET /api/v1/reports/{report}/revisions",
        "GET /api/v1/reports/{report}/revisions/{number}",
        "GET /api/v1/reports/{report}/revisions/{number}/diff",
        "GET /api/v1/reports/{report}/revisions/{number}/files/{provider}/{kind}",
        "GET /api/v1/reports/{report}/revisions/{number}/sites",
        "GET /api/v1/rings",
        "GET /api/v1/rings/{ring}/history",
        "GET /api/v1/rings/{ring}/outcome",
        "GET /api/v1/rollouts",
        "GET /api/v1/rollouts/{rollout}",
        "GET /api/v1/rollouts/{rollout}/approvals",
        "GET /api/v1/rollouts/{rollout}/evaluations",
        "GET /api/v1/rollouts/{rollout}/events",
        "GET /api/v1/rollouts/{rollout}/plan",
        "GET /api/v1/rollouts/{rollout}/steps",
        "GET /api/v1/rollouts/{rollout}/steps/{slug}",
        "GET /api/v1/sites",
        "GET /api/v1/sites/{slug}",
        "GET /api/v1/sites/{slug}/compliance",
        "GET /api/v1/sites/{slug}/desired",
        "GET /api/v1/sites/{slug}/desired/documents",
        "GET /api/v1/sites/{slug}/desired/documents/{version}",
        "GET /api/v1/sites/{slug}/desired/documents/{version}/envelope",
        "GET /api/v1/sites/{slug}/desired/receipts",
        "GET /api/v1/sites/{slug}/desired/receipts/{number}/envelope",
        "GET /api/v1/sites/{slug}/identity",
        "GET /api/v1/sites/{slug}/intervals",
        "GET /api/v1/sites/{slug}/journal",
        "GET /api/v1/sites/{slug}/journal/cursor",
        "GET /api/v1/sites/{slug}/journal/envelopes",
        "GET /api/v1/sites/{slug}/journal/envelopes/{envelope}",
        "GET /api/v1/sites/{slug}/samples",
        "GET /api/v1/sites/{slug}/timeline",
        "GET /api/v1/standards",
        "GET /api/v1/standards/{standard}",
        "GET /api/v1/standards/{standard}/diff",
        "GET /api/v1/summary",
        "GET /api/v1/webhooks",
        "GET /api/v1/webhooks/{webhook}",
        "GET /api/v1/webhooks/{webhook}/deliveries",
        "GET /api/v1/webhooks/{webhook}/deliveries/{delivery}",
        "PATCH /api/v1/rings/{ring}",
        "PATCH /api/v1/sites/{slug}",
        "PATCH /api/v1/standards/{standard}",
        "PATCH /api/v1/webhooks/{webhook}",
        "POST /api/v1/blobs/configs",
        "POST /api/v1/blobs/wheels",
        "POST /api/v1/contracts",
        "POST /api/v1/contracts/preview",
        "POST /api/v1/contracts/validate",
        "POST /api/v1/contracts/{contract}/versions",
        "POST /api/v1/disputes/{dispute}/decide",
        "POST /api/v1/disputes/{dispute}/files",
        "POST /api/v1/disputes/{dispute}/withdraw",
        "POST /api/v1/holds",
        "POST /api/v1/holds/{hold}/lift",
        "POST /api/v1/holds/{hold}/override",
        "POST /api/v1/maintenance",
        "POST /api/v1/maintenance/{window}/approve",
        "POST /api/v1/maintenance/{window}/cancel",
        "POST /api/v1/maintenance/{window}/refuse",
        "POST /api/v1/outages/{outage}/acknowledge",
        "POST /api/v1/outages/{outage}/cause",
        "POST /api/v1/outages/{outage}/comments",
        "POST /api/v1/outages/{outage}/disputes",
        "POST /api/v1/report-schedules",
        "POST /api/v1/report-schedules/{schedule}/again",
        "POST /api/v1/reports",
        "POST /api/v1/reports/{report}/decide",
        "POST /api/v1/rings",
        "POST /api/v1/rings/order",
        "POST /api/v1/rings/{ring}/standard",
        "POST /api/v1/rollouts",
        "POST /api/v1/rollouts/preview",
        "POST /api/v1/rollouts/{rollout}/abort",
        "POST /api/v1/rollouts/{rollout}/answer",
        "POST /api/v1/rollouts/{rollout}/approve",
        "POST /api/v1/rollouts/{rollout}/freeze",
        "POST /api/v1/rollouts/{rollout}/pause",
        "POST /api/v1/rollouts/{rollout}/reject",
        "POST /api/v1/rollouts/{rollout}/reopen-lane",
        "POST /api/v1/rollouts/{rollout}/resume",
        "POST /api/v1/rollouts/{rollout}/roll-back",
        "POST /api/v1/rollouts/{rollout}/roll-back-wave",
        "POST /api/v1/rollouts/{rollout}/start",
        "POST /api/v1/rollouts/{rollout}/submit",
        "POST /api/v1/sites",
        "POST /api/v1/sites/{slug}/desired",
        "POST /api/v1/sites/{slug}/desired/freeze",
        "POST /api/v1/sites/{slug}/desired/thaw",
        "POST /api/v1/sites/{slug}/identity/accept",
        "POST /api/v1/sites/{slug}/identity/freeze",
        "POST /api/v1/sites/{slug}/identity/join",
        "POST /api/v1/sites/{slug}/identity/reject",
        "POST /api/v1/sites/{slug}/identity/revoke",
        "POST /api/v1/sites/{slug}/identity/thaw",
        "POST /api/v1/sites/{slug}/poll",
        "POST /api/v1/sites/{slug}/retire",
        "POST /api/v1/standards",
        "POST /api/v1/standards/{standard}/publish",
        "POST /api/v1/standards/{standard}/withdraw",
        "POST /api/v1/webhooks",
        "POST /api/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver",
        "POST /api/v1/webhooks/{webhook}/rotate",
        "POST /api/v1/webhooks/{webhook}/test",
        "PUT /api/v1/providers/{provider}/rollout-calendar",
        "PUT /api/v1/report-schedules/{schedule}",
        "PUT /api/v1/rollouts/{rollout}/plan",
    ]


@each_operation
@pytest.mark.parametrize("cookie", ["", "forged", "x" * 5000])
def test_without_credentials_every_operation_answers_401_in_json(ours, operation, cookie):
    client = Client(enforce_csrf_checks=True)
    if cookie:
        client.cookies["__Host-session"] = cookie
    before = contents()
    response = operation.call(client)
    assert_error(response, 401, "unauthenticated")
    assert "Location" not in response
    assert not response.cookies.get("__Host-csrf")
    assert contents() == before


@each_operation
def test_somebody_without_a_membership_reaches_nothing(ours, make_person, operation):
    person = make_person("admin")
    client, token = browser(person)
    person.memberships.all().delete()
    before = contents()
    response = operation.call(client, **{"X-CSRFToken": token})
    if "{" in operation.path or operation.name in {"create", "request_maintenance", "make_report"}:
        assert_error(response, 404, "not_found")
    elif (
        operation.path == WEBHOOKS
        or operation.name == "create_report_schedule"
        or "/blobs" in operation.path
        or (operation.path.startswith((*STANDARDS, *ROLLOUTS, "/api/v1/contracts")) and operation.method != "GET")
    ):
        assert_error(response, 403, "not_allowed")
    else:
        assert response.status_code == 200
        assert b"ours" not in response.content
        assert b"some-site" not in response.content
    assert contents() == before


def test_the_description_is_for_those_who_may_call(ours, api_client):
    for path in ("/api/v1/openapi.json", "/api/v1/openapi.json?x=1"):
        assert_error(Client().get(path), 401, "unauthenticated")
    described = api_client("viewer").get("/api/v1/openapi.json").json()
    assert described["paths"].keys() == {operation.path for operation in OPERATIONS}
    assert Client().get("/api/docs").status_code == 302


# CSRF -------------------------------------------------------------------------------------------------------
@each_posted
@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": "forged"}, {"Origin": "https://evil.example"}], ids=str)
def test_a_session_alone_changes_nothing(ours, make_person, operation, headers):
    client, token = browser(make_person("admin"))
    if "Origin" in headers:
        headers = {**headers, "X-CSRFToken": token}
    before = contents()
    assert_error(operation.call(client, **headers), 403, "csrf")
    assert contents() == before


@each_unsafe
def test_a_session_with_its_csrf_token_may_act(ours, make_person, operation):
    client, token = browser(who_may(operation, ours, make_person))
    before = contents()
    assert operation.call(client, **{"X-CSRFToken": token}).status_code in {200, 201, 202, 204}
    assert contents() != before


@each_unsafe
def test_a_token_needs_no_csrf(ours, api_client, operation):
    is_theirs = operation.name in OF_PROVIDERS
    client = api_client("provider_operator", provider=ours.provider) if is_theirs else api_client("admin")
    client.handler.enforce_csrf_checks = True
    before = contents()
    assert operation.call(client).status_code in {200, 201, 202, 204}
    assert contents() != before


# The one shape ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/api/", "/api/v1/", "/api/v1/nothing", "/api/v2/sites", "/api/v1/sites/a/b/c"])
def test_unknown_addresses_are_404_in_json(api_client, path):
    for client in (api_client("viewer"), Client()):
        assert_error(client.get(path), 404, "not_found")
        assert_error(client.post(path), 404, "not_found")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_405_in_json(ours, api_client, method):
    for client in (api_client("admin"), Client()):
        response = client.generic(method, "/api/v1/sites")
        assert_error(response, 405, "not_allowed_method")
        assert sorted(response["Allow"].split(", ")) == ["GET", "POST"]


def test_head_of_an_operation_has_no_body(ours, api_client):
    response = api_client("viewer").head("/api/v1/sites")
    assert (response.status_code, response.content) == (405, b"")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *((text, 400) for text in ("{", "nonsense", "\x00", "[" * 100_000, '{"lat": ' + "9" * 5000 + "}")),
        *((text, 422) for text in ("", "null", "[]", '"x"', "{}", "0")),
    ],
    ids=lambda value: str(value)[:12],
)
def test_bodies_that_are_no_site_are_refused_in_json(ours, api_client, body, status):
    client = api_client("admin")
    before = contents()
    response = client.post("/api/v1/sites", data=body, content_type="application/json")
    assert_error(response, status, "bad_request" if status == 400 else "invalid")
    assert contents() == before


def test_a_body_beyond_the_limit_is_refused_unread(ours, api_client):
    body = '{"notes": "' + "x" * (13 * 1024 * 1024) + '"}'
    response = api_client("admin").patch("/api/v1/sites/some-site", data=body, content_type="application/json")
    assert_error(response, 413, "too_large")


def test_a_foreign_host_name_is_400_in_json(api_client):
    response = api_client("viewer").get("/api/v1/summary", headers={"host": "evil.example"})
    assert_error(response, 400, "bad_request")


def test_values_in_error_details_are_named_by_field(ours, api_client):
    response = api_client("admin").post(
        "/api/v1/sites", data={"slug": "x", "lat": 91, "lon": "east"}, content_type="application/json"
    )
    error = assert_error(response, 422, "invalid")
    assert error["details"].keys() == {"name", "provider", "lat", "lon", "address"}
    assert error["details"]["lat"] == "Input should be less than or equal to 90"


def test_a_fault_of_ours_is_500_in_json_tells_nothing_and_changes_nothing(ours, api_client, monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("secret detail")

    client = api_client("admin")
    before = contents()
    monkeypatch.setattr(sites.api.schemas, "site_detail_out", broken)
    response = client.patch("/api/v1/sites/some-site", data={"name": "Renamed"}, content_type="application/json")
    error = assert_error(response, 500, "internal")
    assert "secret" not in str(error)
    assert contents() == before


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


def test_a_lost_database_is_503_in_json(ours, api_client, make_person, without_database):
    with_token, (with_session, _) = api_client("viewer"), browser(make_person("viewer"))
    without_database()
    for client in (with_token, with_session):
        assert_error(client.get("/api/v1/summary"), 503, "unavailable")


def test_a_database_lost_within_an_operation_is_503_too(ours, api_client, monkeypatch):
    from django.db import OperationalError

    client = api_client("viewer")

    def gone(who: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(sites.api, "figures", gone)
    assert_error(client.get("/api/v1/summary"), 503, "unavailable")


def test_errors_carry_the_security_headers(ours, api_client):
    for response in (Client().get("/api/v1/sites"), api_client("viewer").get("/api/v1/nothing")):
        assert response["Content-Security-Policy"].split("; ").count("default-src 'none'") == 1
        assert response["X-Content-Type-Options"] == "nosniff"
        assert len(response["X-Request-Id"]) == 16


HOSTILE_SLUGS = ("%00", "a%00b", "%ff", "..%2F..%2Fetc", "x" * 5000, "%F0%9F%8F%9D", "'", "%25")


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if "{slug}" in op.path], ids=str)
def test_hostile_slugs_are_client_errors(ours, api_client, operation: Operation):
    client = api_client("admin")
    for slug in HOSTILE_SLUGS:
        response = operation.call(client, slug=slug)
        assert response.status_code in {404, 422}, slug
        assert_error(response, response.status_code, "not_found" if response.status_code == 404 else "invalid")
