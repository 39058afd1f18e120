"""The API of what sites are told to run."""

import json
from typing import Any

import pytest

from agent.protocol.desired import MAX_BLOB_BYTES, digest
from fleet.kit.models import AuditEntry
from sites.models import Blob, DesiredDocument
from tests.database import OWNER, rows
from tests.openapi import assert_error
from tests.sites.identities import keys
from tests.sites.told import IMAGE, WORKLOADS, blob, document, receipt, standing

PATH = "/api/v1/sites/oslo/desired"
STEPS = ("apply", "freeze", "thaw")


def post(client: Any, path: str, **body: Any) -> Any:
    return client.post(path, body, content_type="application/json")


def put(client: Any, path: str, body: bytes) -> Any:
    return client.generic("POST", f"/api/v1/blobs/{path}", body, content_type="application/octet-stream")


def contents() -> list[Any]:
    names = ("edge_sites_desireddocument", "edge_sites_sitedesired", "edge_sites_blob", "kit_auditentry")
    return [rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in names]


def test_a_site_that_was_told_nothing(make_site, api_client):
    make_site("oslo")
    client = api_client("viewer")
    assert client.get(PATH).json() == {
        "version": 0,
        "document": None,
        "hold": False,
        "answer": None,
        "reported": None,
        "recovering": False,
        "recovery_problem": "",
    }
    for name in ("documents", "receipts"):
        assert client.get(f"{PATH}/{name}").json() == {"items": [], "next": None}


def test_where_a_site_stands(make_site, api_client):
    site = make_site("oslo")
    made = document(site, 3, hold=True)
    standing(site, answer="refused", answer_reason="expired", answer_detail="too late", answered_at=made.signed_at)
    standing(site, reported_epoch=1, reported_version=2, reported_state="applying", done=4, total=9)
    shown = api_client("viewer").get(PATH).json()
    assert (shown["version"], shown["hold"], shown["recovering"]) == (3, True, False)
    assert shown["document"]["version"] == "1.3"
    assert shown["document"]["content"]["workloads"] == WORKLOADS
    assert shown["answer"] | {"at": None} == {"state": "refused", "reason": "expired", "detail": "too late", "at": None}
    told = {"version": "1.2", "state": "applying", "detail": "", "done": 4, "total": 9, "at": None}
    assert shown["reported"] == told


def test_a_site_that_recovers_says_why_its_counters_are_not_believed(make_site, api_client):
    site = make_site("oslo")
    document(site)
    why = {"answer_reason": "counters", "answer_detail": "it has signed for version 1.9"}
    standing(site, recovering=True, answer="accepted", answered_at="2026-11-23T21:00:00Z", **why)
    shown = api_client("viewer").get(PATH).json()
    assert (shown["recovering"], shown["recovery_problem"]) == (True, "it has signed for version 1.9")
    assert shown["answer"] is None  # what is kept there now is no answer to a document


def test_an_administrator_applies_and_sees_what_is_the_newest(make_site, api_client):
    make_site("oslo", life="active")
    client = api_client("admin")
    made = post(client, PATH, content={"workloads": WORKLOADS}, reason="first tills", expect=0)
    assert (made.status_code, made.json()["version"]) == (201, 1)
    assert made.json()["document"]["signed_at"] is None
    again = {"content": {}, "reason": "and away again"}
    assert_error(post(client, PATH, **again, expect=0), 409, "conflict")
    assert_error(post(client, PATH, **again), 409, "conflict")  # the first is not signed yet
    assert DesiredDocument.objects.using(OWNER).count() == 1
    assert AuditEntry.objects.using(OWNER).get(action="site.apply").note == "first tills"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"content": {"workloads": [{"name": "pos", "image": "pos:latest"}]}}, "workloads[0].image"),
        ({"content": {"site": "x"}}, "no member 'site'"),
        ({"content": []}, "Some values cannot be taken"),
        ({"content": {}, "expect": "1.1"}, "Some values cannot be taken"),
        ({"content": {}, "reason": "x"}, "Say why"),
    ],
)
def test_what_is_no_document_is_422_and_changes_nothing(make_site, api_client, body, said):
    make_site("oslo", life="active")
    client = api_client("admin")
    before = contents()
    response = post(client, PATH, **{"reason": "because", **body})
    assert said in assert_error(response, 422, "invalid")["message"]
    assert contents() == before


def test_documents_page_newest_first_and_each_is_there_by_its_version(make_site, api_client):
    site = make_site("oslo")
    for version in (1, 2, 3):
        document(site, version, {"os": {"packages": {"curl": str(version)}}})
    client = api_client("viewer")
    first = client.get(f"{PATH}/documents?limit=2").json()
    rest = client.get(f"{PATH}/documents", {"limit": 2, "cursor": first["next"]}).json()
    assert [row["version"] for row in first["items"]] == ["1.3", "1.2"]
    assert ([row["version"] for row in rest["items"]], rest["next"]) == (["1.1"], None)
    assert "content" not in first["items"][0]
    one = client.get(f"{PATH}/documents/1.2").json()
    assert one["content"]["os"] == {"packages": {"curl": "2"}}
    for version in ("1.4", "2.1", "1", "x", "1.x", "1." + "9" * 40, "-1.1", "²."):
        assert_error(client.get(f"{PATH}/documents/{version}"), 404, "not_found")


def test_envelopes_are_the_very_bytes(make_site, api_client):
    site = make_site("oslo")
    made = document(site, envelope=b'{"signed": 1}')
    document(site, 2, envelope=None)
    signed = receipt(site)
    client = api_client("viewer")
    answer = client.get(f"{PATH}/documents/1.1/envelope")
    assert (answer.content, answer["Content-Type"]) == (
        bytes(made.envelope),
        "application/vnd.archipelago.desired.v1+json",
    )
    assert answer["Content-Disposition"] == 'attachment; filename="oslo-desired-1.1.json"'
    assert_error(client.get(f"{PATH}/documents/1.2/envelope"), 409, "conflict")
    (row,) = client.get(f"{PATH}/receipts").json()["items"]
    assert (row["version"], row["state"], row["document_known"]) == ("1.1", "applied", True)
    assert row["sha256"] == digest(bytes(signed.envelope))
    evidence = client.get(f"{PATH}/receipts/{row['id']}/envelope")
    assert evidence.content == bytes(signed.envelope)
    assert evidence["Content-Type"] == "application/vnd.archipelago.receipt.v1+json"
    for number in (str(row["id"] + 1), "x", "-1", "9" * 30):
        assert_error(client.get(f"{PATH}/receipts/{number}/envelope"), 404, "not_found")


def test_receipts_and_documents_of_another_site_are_not_to_be_had_through_ones_own(make_site, api_client):
    make_site("oslo")
    other = make_site("bergen")
    document(other)
    number = receipt(other).pk
    client = api_client("viewer")
    assert_error(client.get(f"{PATH}/receipts/{number}/envelope"), 404, "not_found")
    assert_error(client.get(f"{PATH}/documents/1.1"), 404, "not_found")


def test_freeze_and_thaw(make_site, api_client):
    site = make_site("oslo", life="active")
    client = api_client("operator")
    assert_error(post(client, f"{PATH}/freeze", reason="storm"), 409, "conflict")
    document(site)
    standing(site, reported_epoch=1, reported_version=1, reported_state="applied")
    frozen = post(client, f"{PATH}/freeze", reason="storm")
    assert (frozen.status_code, frozen.json()["hold"], frozen.json()["version"]) == (200, True, 2)
    assert_error(post(client, f"{PATH}/freeze", reason="storm"), 409, "conflict")
    DesiredDocument.objects.using(OWNER).filter(envelope=None).update(refused="no")
    assert post(client, f"{PATH}/thaw", reason="calm").json()["hold"] is False


@pytest.mark.parametrize(
    "undone",
    [
        {"reported_epoch": 1, "reported_version": 2, "reported_state": "rolled_back"},
        {"reported_epoch": 1, "reported_version": 2, "reported_state": "failed"},
        {"reported_epoch": 1, "reported_version": 1, "reported_state": "applied", "answer": "refused"},
    ],
    ids=["rolled back", "failed", "refused"],
)
def test_a_freeze_repeats_what_stands_and_not_what_came_to_nothing(make_site, api_client, undone):
    site = make_site("oslo", life="active")
    document(site)
    receipt(site)
    bad = document(site, 2, {"workloads": [{**WORKLOADS[0], "version": "6.6.6"}]})
    standing(site, **undone)
    frozen = post(api_client("operator"), f"{PATH}/freeze", reason="look at it first").json()
    assert (frozen["version"], frozen["hold"]) == (3, True)
    assert frozen["document"]["content"]["workloads"] == WORKLOADS != bad.content["workloads"]


def test_where_nothing_stands_or_it_is_not_known_a_freeze_would_change_the_site_and_is_refused(make_site, api_client):
    site = make_site("oslo", life="active")
    document(site)
    client = api_client("operator")
    for values, said in (
        ({"reported_epoch": 1, "reported_version": 1, "reported_state": "failed"}, "apply one first"),
        ({"reported_epoch": 1, "reported_version": 4, "reported_state": "applied"}, "1.4, which is not known here"),
        ({"recovering": True}, "has not told its counters"),
    ):
        standing(site, **values)
        before = contents()
        assert said in assert_error(post(client, f"{PATH}/freeze", reason="storm"), 409, "conflict")["message"]
        assert contents() == before


@pytest.mark.parametrize("step", STEPS)
def test_whoever_may_not_changes_nothing(make_site, make_provider, api_client, step):
    site = make_site("oslo", life="active")
    document(site, hold=step == "thaw")
    own = [api_client(role, provider=site.provider) for role in ("provider_viewer", "provider_operator")]
    refused = [api_client("viewer"), api_client("manager"), *own]
    refused += [api_client("operator")] if step == "apply" else []
    foreign = [api_client("admin", provider=make_provider()), api_client("admin", regions=["Nowhere"])]
    body = {"content": {}, "reason": "because"} if step == "apply" else {"reason": "because"}
    path = PATH if step == "apply" else f"{PATH}/{step}"
    before = contents()
    for client in refused:
        assert_error(post(client, path, **body), 403, "not_allowed")
        assert client.get(PATH).status_code == 200
    for client in foreign:
        assert_error(post(client, path, **body), 404, "not_found")
    assert contents() == before


# Blobs ------------------------------------------------------------------------------------------------------
def test_blobs_are_kept_under_their_digest_and_listed_without_their_bytes(api_client):
    client = api_client("admin")
    wheel = put(client, "wheels", b"PK\x03\x04 a wheel")
    assert (wheel.status_code, wheel.json()) == (201, {"digest": digest(b"PK\x03\x04 a wheel")})
    config = put(client, "configs", b'{ "env": {"A": "1"} }')
    kept = bytes(Blob.objects.using(OWNER).get(digest=config.json()["digest"]).body)
    assert json.loads(kept)["env"] == {"A": "1"}
    assert put(client, "configs", b'{"env": {"A": "1"}}').json() == config.json()
    listed = client.get("/api/v1/blobs").json()
    assert sorted((row["kind"], row["size"]) for row in listed["items"]) == [("config", len(kept)), ("wheel", 12)]
    assert {key for row in listed["items"] for key in row} == {"digest", "kind", "size"}
    first = client.get("/api/v1/blobs?limit=1").json()
    assert client.get("/api/v1/blobs", {"cursor": first["next"]}).json()["items"] == listed["items"][1:]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("wheels", b"", 422, "invalid"),
        ("wheels", b"no wheel", 422, "invalid"),
        ("wheels", b"PK" + bytes(MAX_BLOB_BYTES), 413, "too_large"),
        ("configs", b"", 422, "invalid"),
        ("configs", b"[]", 422, "invalid"),
        ("configs", b"[" * 100_000, 422, "invalid"),
        ("configs", b'{"privileged": true}', 422, "invalid"),
        ("configs", b'{"env": {"A B": "1"}}', 422, "invalid"),
    ],
)
def test_what_is_no_blob_is_refused(api_client, path, body, status, code):
    client = api_client("admin")
    before = contents()
    assert_error(put(client, path, body), status, code)
    assert contents() == before


def test_the_largest_wheel_is_taken(api_client):
    body = b"PK" + bytes(MAX_BLOB_BYTES - 2)
    assert put(api_client("admin"), "wheels", body).status_code == 201
    assert Blob.objects.using(OWNER).get().size == MAX_BLOB_BYTES


def test_blobs_are_put_by_the_fleets_administrators_and_listed_by_those_who_apply(make_provider, api_client):
    blob(b"{}")
    own = make_provider("own")
    limited = [api_client("admin", provider=own), api_client("admin", regions=["DACH"])]
    others = [api_client(role) for role in ("viewer", "operator", "manager")]
    others += [api_client(role, provider=own) for role in ("provider_viewer", "provider_operator")]
    before = contents()
    for client in (*limited, *others):
        assert_error(put(client, "configs", b'{"env": {"A": "1"}}'), 403, "not_allowed")
        assert_error(put(client, "wheels", b"PK wheel"), 403, "not_allowed")
    for client in limited:
        assert [row["size"] for row in client.get("/api/v1/blobs").json()["items"]] == [2]
    for client in others:
        assert_error(client.get("/api/v1/blobs"), 403, "not_allowed")
    assert contents() == before


def test_an_administrator_of_a_provider_names_blobs_that_are_there_and_no_others(make_site, make_provider, api_client):
    own = make_provider("own")
    site = make_site("oslo", own, life="active")
    keys(site)
    client = api_client("admin", provider=own)
    named = {"name": "pos", "image": IMAGE, "config_sha256": blob(b'{"env":{}}')}
    assert_error(
        post(client, PATH, content={"workloads": [named | {"config_sha256": digest(b"x")}]}, reason="because"),
        422,
        "invalid",
    )
    assert post(client, PATH, content={"workloads": [named]}, reason="because").status_code == 201
