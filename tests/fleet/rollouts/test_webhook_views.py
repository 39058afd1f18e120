"""Screens of webhooks: what they show, what each button does, who is refused, secrets that are shown once."""

import re
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from fleet.rollouts.hooks import ALL_KINDS, spelled
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.selectors.webhooks import secrets_of
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.rollouts.receiver import one_webhook

pytestmark = pytest.mark.usefixtures("database", "plain_static")
NEW = {"name": "chat", "url": "https://hooks.example.com/in", "kinds": ["rollout.failed", "rollout.started"]}
BUTTONS = ("edit", "rotate", "switch", "delete", "test", "messages/1/again")


@pytest.fixture
def admin(signed_in: Any) -> Any:
    return signed_in("admin")


def the_one() -> WebhookEndpoint:
    with scope(TEST):
        return WebhookEndpoint.objects.get()


def states() -> list[str]:
    with scope(TEST):
        return list(WebhookDelivery.objects.order_by("pk").values_list("state", flat=True))


def kept() -> list[Any]:
    tables = ("rollouts_webhookendpoint", "rollouts_webhookdelivery", "kit_auditentry")
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


# Rights -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["viewer", "operator", "manager"])
def test_roles_of_the_fleet_without_the_right_are_refused(signed_in, role):
    one_webhook()
    client = signed_in(role)
    before = kept()
    for path in ("/webhooks/", "/webhooks/new/", "/webhooks/1/", "/webhooks/1/messages/1/"):
        response = client.get(path)
        assert response.status_code == 403, path
        assert b"own-hook" not in response.content
    assert client.post("/webhooks/new/", NEW).status_code == 403
    for button in BUTTONS:
        assert client.post(f"/webhooks/1/{button}/", NEW).status_code == 403, button
    assert kept() == before
    assert b"/webhooks/" not in client.get("/sites/").content


def test_who_may_finds_them_in_the_account_menu(admin):
    assert b'href="/webhooks/"' in admin.get("/sites/").content


# Screens ----------------------------------------------------------------------------------------------------
def test_the_list_says_how_each_is(admin):
    assert b"No webhooks yet" in admin.get("/webhooks/").content
    one_webhook("good")
    one_webhook("bad")
    one_webhook("off")
    rows("UPDATE rollouts_webhookendpoint SET failing_since = now() WHERE name = 'bad' RETURNING id", using=OWNER)
    rows("UPDATE rollouts_webhookendpoint SET is_active = false WHERE name = 'off' RETURNING id", using=OWNER)
    page = admin.get("/webhooks/")
    assert [(row["webhook"].name, row["word"], row["host"]) for row in page.context["rows"]] == [
        ("bad", "Failing", "hooks.example.com"),
        ("good", "On", "hooks.example.com"),
        ("off", "Off", "hooks.example.com"),
    ]
    assert b"hooks.example.com/x" not in page.content, "an address may be a secret"
    fragment = admin.get("/webhooks/", headers={"HX-Request": "true"})
    assert fragment.content.strip().startswith(b'<div class="card" id="webhooks"')


def test_queries_do_not_grow_with_rows(admin):
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    def count(path: str) -> int:
        with CaptureQueriesContext(connections["default"]) as found:
            assert admin.get(path).status_code == 200
        return len(found)

    one_webhook()
    before = (count("/webhooks/"), count("/webhooks/1/"))
    one_webhook("two")
    one_webhook("three")
    for _ in range(2):
        admin.post("/webhooks/1/test/")
    admin.get("/webhooks/")  # takes the messages away that are shown once
    assert (count("/webhooks/"), count("/webhooks/1/")) == before


def test_making_one_shows_its_secret_once(admin):
    assert b"Make it, and show its secret" in admin.get("/webhooks/new/").content
    response = admin.post("/webhooks/new/", NEW)
    row = the_one()
    secret = spelled(secrets_of(row, row.made_at)[0])
    assert response.status_code == 200
    assert secret in response.content.decode().replace("&#x2B;", "+").replace("&#x3D;", "=")
    assert "no-store" in response["Cache-Control"]
    assert (row.name, row.url, row.kinds) == (NEW["name"], NEW["url"], ["rollout.started", "rollout.failed"])
    for path in ("/webhooks/", f"/webhooks/{row.pk}/", f"/webhooks/{row.pk}/edit/"):
        assert secret not in admin.get(path).content.decode()


def test_what_cannot_be_taken_is_said_at_its_field(admin):
    one_webhook("chat")
    before = kept()
    for values, words in (
        ({**NEW, "name": "chat"}, "This name is taken."),
        ({**NEW, "name": "other", "url": "http://a.example/"}, "An address begins with https://."),
        ({**NEW, "name": "other", "kinds": ["rollout.exploded"]}, "Select a valid choice."),
        ({}, "This field is required."),
    ):
        response = admin.post("/webhooks/new/", values)
        assert response.status_code == 422
        assert words in response.content.decode()
    assert kept() == before


def test_the_form_offers_every_kind_once_and_keeps_what_is_ticked(admin):
    row = one_webhook()
    admin.post(f"/webhooks/{row.pk}/edit/", {**NEW, "kinds": ["rollout.wave.opened"]})
    text = admin.get(f"/webhooks/{row.pk}/edit/").content.decode()
    offered = re.findall(r'name="kinds" value="([^"]+)"( checked)?', text)
    assert sorted(kind for kind, _ in offered) == sorted(ALL_KINDS)
    assert [kind for kind, ticked in offered if ticked] == ["rollout.wave.opened"]
    assert the_one().name == "chat"


def test_the_log_can_be_narrowed_and_a_message_looked_at(admin):
    row = one_webhook()
    admin.post(f"/webhooks/{row.pk}/test/")
    page = admin.get(f"/webhooks/{row.pk}/")
    assert [one["message"].state for one in page.context["rows"]] == ["waiting", "given_up"]
    page = admin.get(f"/webhooks/{row.pk}/?state=given_up")
    assert [one["message"].state for one in page.context["rows"]] == ["given_up"]
    assert len(admin.get(f"/webhooks/{row.pk}/?state=nonsense&page=x").context["rows"]) == 2
    rows(
        "UPDATE rollouts_webhookdelivery SET answer = '<script>x</script>', status = 500, tried_at = now(),"
        " latency_ms = 12, problem = 'because' WHERE id = 1 RETURNING id",
        using=OWNER,
    )
    text = admin.get(f"/webhooks/{row.pk}/messages/1/").content.decode()
    assert "&lt;script&gt;x&lt;/script&gt;" in text
    assert "<script>x" not in text
    assert "because" in text
    body = admin.get(f"/webhooks/{row.pk}/messages/2/").content.decode()
    assert "&quot;type&quot;: &quot;webhook.test&quot;" in body
    other = one_webhook("other")
    assert admin.get(f"/webhooks/{other.pk}/messages/1/").status_code == 404


# Buttons ----------------------------------------------------------------------------------------------------
def test_each_button_does_what_it_says(admin):
    row = one_webhook()
    at = f"/webhooks/{row.pk}/"
    (before,) = secrets_of(row, row.made_at)
    response = admin.post(at + "rotate/")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    assert secrets_of(the_one(), row.made_at)[1] == before
    assert b"Messages carry two signatures" in admin.get(at).content
    assert admin.post(at + "test/")["Location"] == at
    assert admin.post(at + "messages/1/again/")["Location"] == at
    assert states() == ["waiting", "waiting"]
    assert admin.post(at + "switch/", {"on": "0"})["Location"] == at
    page = admin.get(at).content
    assert b"It is off." in page
    assert b"Send a test" not in page
    assert states() == ["given_up", "given_up"]
    refused = admin.post(at + "test/", follow=True)
    assert b"It is switched off; switch it on first." in refused.content
    assert b"It is switched off" in admin.post(at + "messages/1/again/", follow=True).content
    admin.post(at + "switch/", {"on": "1"})
    assert the_one().is_active
    assert admin.post(at + "delete/")["Location"] == "/webhooks/"
    with scope(TEST):
        assert not WebhookEndpoint.objects.exists()
        assert not WebhookDelivery.objects.exists()
