"""Webhooks by the API: answers, secrets that are told once, pages of messages, keys of idempotency, denials."""

import json
from datetime import timedelta
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from fleet.rollouts.hooks import spelled
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.selectors.webhooks import secrets_of
from tests.conftest import TEST
from tests.database import OWNER, rows
from tests.fleet.rollouts.receiver import one_webhook
from tests.openapi import assert_error, operations

pytestmark = pytest.mark.usefixtures("database")
ROOT = "/api/v1/webhooks"
NEW = {"name": "chat", "url": "https://hooks.example.com/in", "kinds": ["rollout.started", "rollout.failed"]}
OPERATIONS = [operation for operation in operations() if operation.path.startswith(ROOT)]


@pytest.fixture
def admin(api_client: Any) -> Any:
    return api_client("admin")


def post(client: Any, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(path, data=body or {}, content_type="application/json", headers=headers)


def kept() -> list[Any]:
    tables = ("rollouts_webhookendpoint", "rollouts_webhookdelivery", "kit_auditentry", "kit_keptanswer")
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


def test_a_webhook_is_made_and_its_secret_told_once(admin):
    response = post(admin, ROOT, NEW)
    assert response.status_code == 201
    assert response["Cache-Control"] == "no-store"
    made = response.json()
    with scope(TEST):
        row = WebhookEndpoint.objects.get()
    assert made.pop("secret") == spelled(secrets_of(row, row.made_at)[0])
    assert made == {
        "id": row.pk,
        **NEW,
        "active": True,
        "off_reason": "",
        "failing_since": None,
        "old_until": None,
        "made_by": row.made_by,
        "made_at": made["made_at"],
        "waiting": 0,
        "given_up": 0,
        "last_at": None,
    }
    assert admin.get(f"{ROOT}/{row.pk}").json() == made
    assert admin.get(ROOT).json() == {"items": [made], "next": None}


def test_the_same_request_again_makes_no_second_one_and_keeps_no_secret(admin):
    first, second = (post(admin, ROOT, NEW, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    secret = first.json()["secret"]
    assert secret not in str(kept())
    assert len(admin.get(ROOT).json()["items"]) == 1
    assert_error(post(admin, ROOT, {**NEW, "name": "x"}, **{"Idempotency-Key": "k"}), 409, "conflict")
    path = f"{ROOT}/{first.json()['id']}/rotate"
    one, two = (post(admin, path, **{"Idempotency-Key": "r"}).json() for _ in range(2))
    assert one == two
    assert one["secret"] != secret
    assert one["old_until"] is not None
    assert one["secret"] not in str(kept())
    assert post(admin, path).json()["secret"] != one["secret"]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"url": "http://a.example/"}, "url"), ({"name": ""}, "name"), ({"kinds": ["rollout.exploded"]}, "kinds")],
)
def test_what_cannot_be_taken_is_named(admin, change, field):
    error = assert_error(post(admin, ROOT, {**NEW, **change}), 422, "invalid")
    assert error["details"].keys() == {field}
    pk = one_webhook().pk
    error = assert_error(admin.patch(f"{ROOT}/{pk}", change, content_type="application/json"), 422, "invalid")
    assert error["details"].keys() == {field}


def test_it_is_changed_switched_off_and_on_and_removed(admin):
    pk = one_webhook().pk

    def change(**values: Any) -> Any:
        return admin.patch(f"{ROOT}/{pk}", values, content_type="application/json").json()

    assert change(name="other", kinds=["rollout.failed", "rollout.started"])["kinds"] == NEW["kinds"]
    off = change(active=False)
    assert (off["active"], off["name"], off["off_reason"][:12]) == (False, "other", "Switched off")
    assert change(active=True)["active"] is True
    assert admin.delete(f"{ROOT}/{pk}").status_code == 204
    assert_error(admin.get(f"{ROOT}/{pk}"), 404, "not_found")


def test_messages_are_listed_by_state_shown_and_sent_again(admin):
    pk = one_webhook().pk
    sent = post(admin, f"{ROOT}/{pk}/test", **{"Idempotency-Key": "t"})
    assert sent.status_code == 202
    assert post(admin, f"{ROOT}/{pk}/test", **{"Idempotency-Key": "t"}).json() == sent.json()
    test = sent.json()
    assert (test["kind"], test["state"], test["attempts"], test["rollout"]) == ("webhook.test", "waiting", 0, None)
    path = f"{ROOT}/{pk}/deliveries"
    items = admin.get(path).json()["items"]
    assert [item["state"] for item in items] == ["waiting", "given_up"]
    assert [item["id"] for item in admin.get(f"{path}?state=given_up").json()["items"]] == [items[1]["id"]]
    first = admin.get(f"{path}?limit=1").json()
    assert admin.get(path, {"cursor": first["next"]}).json() == {"items": items[1:], "next": None}
    detail = admin.get(f"{path}/{items[1]['id']}").json()
    assert detail == {**items[1], "body": detail["body"]}
    assert json.loads(detail["body"])["data"] == {"webhook": "own-hook"}
    again = post(admin, f"{path}/{items[1]['id']}/redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    with scope(TEST):
        row = WebhookDelivery.objects.get(pk=items[1]["id"])
    assert row.give_up_at - row.next_at == timedelta(hours=24)
    other = one_webhook("other").pk
    assert_error(admin.get(f"{ROOT}/{other}/deliveries/{items[1]['id']}"), 404, "not_found")


@pytest.mark.parametrize("role", ["viewer", "operator", "manager"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_roles_of_the_fleet_without_the_right_are_refused(api_client, role, operation):
    one_webhook()
    client = api_client(role)
    before = kept()
    assert_error(operation.call(client), 403, "not_allowed")
    assert kept() == before


@pytest.mark.parametrize(
    "member",
    [
        *({"role": role, "provider": True} for role in ("provider_viewer", "provider_operator", "admin", "operator")),
        {"role": "admin", "regions": ["DACH"]},
        {"role": "admin", "labels": {"tier": "1"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_for_providers_and_parts_of_the_fleet_there_are_none(api_client, make_provider, member, operation):
    one_webhook()
    client = api_client(**{**member, "provider": make_provider()} if member.get("provider") else member)
    before = kept()
    response = operation.call(client)
    if "{webhook}" in operation.path:
        assert_error(response, 404, "not_found")
    else:
        assert_error(response, 403, "not_allowed")
    assert b"own-hook" not in response.content
    assert b"hooks.example.com" not in response.content
    assert kept() == before
