"""Standards, rings and compliance over the API."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from agent.protocol import Component
from fleet.kit.tenancy import scope
from fleet.standards.models import Ring, RingStandard, Standard
from fleet.standards.services.judging import judge_due
from tests.database import OWNER, rows
from tests.fleet.standards.factories import CONTENT, IMAGE, SHA256, TEST, make_ring, make_standard, report
from tests.openapi import assert_error
from tests.sites.builders import POS

pytestmark = pytest.mark.usefixtures("database")
OLD_KERNEL = Component("kernel", "linux", "6.1.0-20-amd64")
YAML = f"workloads:\n  - name: pos\n    image: {IMAGE}\n    version: 4.2.1\nos:\n  kernel: 6.1.0-21-amd64\n"


def post(client: Any, path: str, body: Any, **headers: str) -> Any:
    return client.post(f"/api/v1{path}", body, content_type="application/json", headers=headers)


# Standards --------------------------------------------------------------------------------------------------
def test_a_standard_from_json_yaml_and_the_way_to_a_ring(api_client, make_site):
    client = api_client("admin")
    made = post(client, "/standards", {"name": "r1", "text": YAML, "deadline_h": 48, "severity": "security"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["state"], body["deadline_h"], body["severity"]) == ("draft", 48, "security")
    assert body["sha256"] == SHA256  # YAML and JSON that say the same are the same
    same = post(client, "/standards", {"name": "r2", "content": dict(CONTENT)}).json()
    assert same["sha256"] == SHA256
    assert post(client, "/standards/r1/publish", {"expect": SHA256}).json()["state"] == "published"
    assert post(client, "/rings", {"name": "Stable", "slug": "stable"}).status_code == 201
    site = make_site()
    report(site, OLD_KERNEL, POS)
    outcome = client.get("/api/v1/rings/stable/outcome", {"standard": "r1"}).json()
    assert outcome == {"sites": 1, "conform": 0, "drift": 1, "unknown": 0, "newly": 1}
    given = post(client, "/rings/stable/standard", {"standard": "r1", "expect": None, "reason": "the first"})
    assert given.json()["standard"] == "r1"
    judge_due()
    answer = client.get(f"/api/v1/sites/{site.slug}/compliance").json()
    assert (answer["compliance"], [one["words"] for one in answer["differences"]]) == (
        "drift",
        ["kernel: 6.1.0-20-amd64; 6.1.0-21-amd64 is wanted"],
    )
    assert client.get("/api/v1/compliance").json()["by_ring"] == [
        {"name": "stable", "sites": 1, "conform": 0, "drift": 1, "unknown": 0, "none": 0}
    ]
    (drift,) = client.get("/api/v1/compliance/drift").json()["items"]
    assert (drift["words"], drift["sites"]) == ("kernel: 6.1.0-20-amd64; 6.1.0-21-amd64 is wanted", 1)
    spread = client.get("/api/v1/compliance/spread", {"kind": "kernel"}).json()["items"]
    assert spread == [{"kind": "kernel", "name": "linux", "version": "6.1.0-20-amd64", "digest": None, "sites": 1}]
    history = client.get("/api/v1/compliance/history", {"span": "24h"}).json()
    assert (history["step_s"], len(history["drift"])) == (600, 146)
    assert [row["standard"] for row in client.get("/api/v1/rings/stable/history").json()["items"]] == ["r1"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "r1"}, "content"),
        ({"name": "r1", "text": YAML, "site": "x"}, "content"),
        ({"name": "r1", "text": "a: &x [*x]"}, "text"),
        ({"name": "r1", "content": {"workloads": [{"name": "pos", "image": "nginx:1"}]}}, "content"),
        ({"name": "R 1", "text": YAML}, "name"),
        ({"name": "r1", "text": YAML, "deadline_h": 0}, "payload.deadline_h"),
    ],
)
def test_what_is_no_standard_is_refused_with_its_place(api_client, body, field):
    error = assert_error(post(api_client("admin"), "/standards", body), 422, "invalid")
    assert [name.rpartition(".")[2] for name in error["details"]] == [field.rpartition(".")[2]]
    with scope(TEST):
        assert not Standard.objects.exists()


def test_two_standards_are_compared_in_words(api_client):
    make_standard("r1")
    make_standard("r2", {"os": {"kernel": "6.9"}})
    items = api_client("viewer").get("/api/v1/standards/r1/diff", {"to": "r2"}).json()["items"]
    assert [one["words"] for one in items] == [
        "pos: removed (it was at 4.2.1)",
        "kernel: 6.1.0-21-amd64 → 6.9",
    ]


def test_a_draft_is_changed_as_it_was_read(api_client):
    make_standard("r1", state="draft", published_at=None, published_by="")
    client = api_client("admin")

    def patch(**body: Any) -> Any:
        return client.patch("/api/v1/standards/r1", body, content_type="application/json")

    changed = patch(expect=SHA256, content={"os": {"kernel": "6.9"}}).json()
    assert changed["content"]["os"]["kernel"] == "6.9"
    assert_error(patch(expect=SHA256, notes="late"), 409, "conflict")
    assert patch(expect=changed["sha256"], notes="now").json()["notes"] == "now"
    assert client.delete("/api/v1/standards/r1").status_code == 204
    assert_error(client.get("/api/v1/standards/r1"), 404, "not_found")


# Who may ----------------------------------------------------------------------------------------------------
CHANGES = [
    ("post", "/standards", {"name": "x1", "text": YAML}),
    ("patch", "/standards/draft", {"expect": SHA256, "notes": "x"}),
    ("delete", "/standards/draft", None),
    ("post", "/standards/draft/publish", {"expect": SHA256}),
    ("post", "/standards/r1/withdraw", {"reason": "because"}),
    ("post", "/rings", {"name": "B", "slug": "b"}),
    ("patch", "/rings/stable", {"note": "x"}),
    ("delete", "/rings/empty", None),
    ("post", "/rings/order", {"rings": ["empty", "stable"]}),
    ("post", "/rings/stable/standard", {"standard": None, "expect": "r1", "reason": "because"}),
]


@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "provider_viewer", "provider_operator", "region"])
def test_what_a_role_may_not_is_refused_and_changes_nothing(api_client, make_site, role):
    make_standard("draft", state="draft", published_at=None, published_by="")
    make_ring(make_standard("r1"))
    make_ring(None, "empty", 2, none=True)
    site = make_site(region="DACH")
    report(site)
    judge_due()
    membership: dict[str, Any] = {"provider": site.provider} if role.startswith("provider") else {}
    client = api_client("admin", regions=["DACH"]) if role == "region" else api_client(role, **membership)
    tables = ("standards_standard", "standards_ring", "standards_ringstandard", "kit_auditentry")
    before = [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]
    for method, path, body in CHANGES:
        if role == "manager" and ("publish" in path or "withdraw" in path):
            continue
        headers = {"Idempotency-Key": "once"} if method == "post" else {}
        answer = getattr(client, method)(f"/api/v1{path}", body, content_type="application/json", headers=headers)
        assert answer.status_code in {403, 404}, (path, answer.content)
        if role in ("viewer", "operator", "manager", "region"):
            assert answer.status_code == 403, path
    assert [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables] == before


def test_a_provider_reads_of_its_own_sites_and_their_standard_alone(api_client, make_provider, make_site):
    own, foreign = make_provider("own"), make_provider("quagga", name="Quagga")
    make_ring(make_standard("theirs-q"), "ring-q", 1, providers=[foreign.pk], note="quagga only")
    make_ring(make_standard("ours"), "ours", 2)
    make_standard("nobodys-q")
    report(make_site("mine", own), OLD_KERNEL, POS)
    report(make_site("site-q", foreign, name="Quagga Site", region="Islands-Q"), Component("kernel", "linux", "9-q"))
    judge_due()
    client = api_client("provider_operator", provider=own)
    for path in (
        *("/standards", "/rings", "/compliance", "/compliance/sites", "/compliance/sites.csv", "/compliance/drift"),
        *("/compliance/spread", "/compliance/history", "/standards/ours", "/rings/ours/history"),
        *("/compliance/sites?provider=quagga", "/compliance/sites?ring=ring-q", "/compliance/spread?region=Islands-Q"),
    ):
        answer = client.get(f"/api/v1{path}")
        assert answer.status_code == 200, path
        assert [word for word in (b"-q", b"uagga", b"-Q") if word in answer.content] == [], path
    for path in ("/standards/theirs-q", "/standards/nobodys-q", "/rings/ring-q/history", "/sites/site-q/compliance"):
        foreign_answer = client.get(f"/api/v1{path}")
        missing = client.get(f"/api/v1{path.replace('theirs-q', 'none').replace('nobodys-q', 'none')}")
        assert_error(foreign_answer, 404, "not_found")
        assert missing.status_code == 404
    (ring,) = client.get("/api/v1/rings").json()["items"]
    assert (ring["slug"], ring["selector"], ring["standard"]) == ("ours", None, "ours")
    (span,) = client.get("/api/v1/rings/ours/history").json()["items"]
    assert (span["set_by"], span["reason"]) == ("", "")
    assert client.get("/api/v1/compliance").json()["sites"] == 1
    assert_error(client.get("/api/v1/rings/ours/outcome", {"standard": "ours"}), 403, "not_allowed")


def test_a_viewer_of_a_region_reads_of_its_sites_alone(api_client, make_site):
    make_ring(make_standard())
    report(make_site("inside", region="DACH"))
    report(make_site("outside", region="Islands-Q"), Component("kernel", "linux", "9-q"))
    judge_due()
    client = api_client("viewer", regions=["DACH"])
    assert client.get("/api/v1/compliance").json()["sites"] == 1
    for path in ("/compliance/sites", "/compliance/drift", "/compliance/spread", "/compliance/sites.csv"):
        assert b"outside" not in client.get(f"/api/v1{path}").content
        assert b"9-q" not in client.get(f"/api/v1{path}").content
    last = client.get("/api/v1/compliance/history", {"span": "24h"}).json()
    assert max(last["drift"]) == 0


# Lists ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("path", "key"), [("/standards", "name"), ("/compliance/sites", "site")])
def test_pages_follow_one_another(api_client, make_site, path, key):
    for number in range(3):
        make_standard(f"r{number}")
        report(make_site(f"s{number}"))
    judge_due()
    client, found, cursor = api_client("viewer"), [], None
    while True:
        body = client.get(f"/api/v1{path}", {"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += [item[key] for item in body["items"]]
        cursor = body["next"]
        if cursor is None:
            break
    assert found == (["r2", "r1", "r0"] if key == "name" else ["s0", "s1", "s2"])


@pytest.mark.parametrize(
    ("path", "queries"),
    [("/standards", 1), ("/rings", 3), ("/compliance", 7), ("/compliance/sites", 1), ("/compliance/drift", 1)],
)
def test_the_number_of_queries_does_not_grow_with_the_rows(api_client, make_site, path, queries):
    client = api_client("viewer")
    for number in (1, 2, 3):
        make_ring(make_standard(f"r{number}"), f"ring{number}", number, labels={"n": str(number)})
        report(make_site(labels={"n": str(number)}), OLD_KERNEL, POS)
        judge_due()
        if number != 2:
            with CaptureQueriesContext(connections["default"]) as seen:
                assert client.get(f"/api/v1{path}").status_code == 200
            own = [row["sql"] for row in seen if "standards_" in row["sql"] or "edge_sites_" in row["sql"]]
            assert len(own) == queries, own


def test_csv_holds_no_formula(api_client, make_site):
    make_ring(make_standard())
    report(make_site("s1", name="=cmd|x"), OLD_KERNEL, POS)
    judge_due()
    text = api_client("viewer").get("/api/v1/compliance/sites.csv", {"compliance": "drift"}).content.decode("utf-8-sig")
    header, line, _ = text.split("\r\n")
    assert header.startswith("site,name,provider,region,ring,standard,compliance,since,proven_at,cause")
    assert line.startswith("s1,'=cmd|x,")
    assert line.endswith("kernel: 6.1.0-20-amd64; 6.1.0-21-amd64 is wanted,")


# Idempotency-Key --------------------------------------------------------------------------------------------
RING = {"name": "Canary", "slug": "canary"}


def test_a_create_that_is_sent_twice_is_done_once(api_client):
    client = api_client("admin")
    first = post(client, "/rings", RING, **{"Idempotency-Key": "k1"})
    again = post(client, "/rings", RING, **{"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    with scope(TEST):
        assert Ring.objects.count() == 1
    assert_error(post(client, "/rings", {**RING, "note": "x"}, **{"Idempotency-Key": "k1"}), 409, "conflict")
    assert_error(post(client, "/standards", RING, **{"Idempotency-Key": "k1"}), 409, "conflict")
    assert_error(post(client, "/rings", RING, **{"Idempotency-Key": "k2"}), 422, "invalid")  # taken: done, not kept
    assert_error(post(client, "/rings", RING, **{"Idempotency-Key": "k" * 101}), 422, "invalid")


def test_a_create_that_failed_may_be_sent_again(api_client, make_site):
    client = api_client("admin")
    body = {**RING, "providers": ["nobody"]}
    assert_error(post(client, "/rings", body, **{"Idempotency-Key": "k1"}), 404, "not_found")
    assert post(client, "/rings", RING, **{"Idempotency-Key": "k1"}).status_code == 201


def test_keys_are_each_persons_own_and_end_after_a_day(api_client):
    one, other = api_client("admin"), api_client("admin")
    assert post(one, "/rings", RING, **{"Idempotency-Key": "k1"}).status_code == 201
    second = {"name": "Stable", "slug": "stable"}
    assert post(other, "/rings", second, **{"Idempotency-Key": "k1"}).json()["slug"] == "stable"
    rows("UPDATE kit_keptanswer SET at = at - %s", [timedelta(hours=25)], using=OWNER)
    third = {"name": "Late", "slug": "late"}
    assert post(one, "/rings", third, **{"Idempotency-Key": "k1"}).json()["slug"] == "late"


def test_two_that_are_sent_at_once_are_done_once(api_client):
    client = api_client("admin")
    token = client.defaults.get("HTTP_AUTHORIZATION") or client.headers["authorization"]
    answers: list[Any] = []

    def send() -> None:
        from django.test import Client

        answers.append(post(Client(headers={"authorization": token}), "/rings", RING, **{"Idempotency-Key": "k1"}))
        connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    with scope(TEST):
        assert Ring.objects.count() == 1
        assert RingStandard.objects.count() == 0
