"""The API of who sites are."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from agent.protocol.identity import read_join
from sites.models import JoinToken, SiteIdentity
from tests.database import OWNER, rows
from tests.openapi import assert_error
from tests.sites.identities import FINGERPRINT, ROOT_SHA256, certificate, enrolled, freeze_row, keys, ready_for

pytestmark = pytest.mark.usefixtures("signer")
STEPS = ("join", "accept", "reject", "revoke", "freeze", "thaw")
BODIES = {"join": {}, "accept": {"fingerprint": FINGERPRINT}}


def call(client: Any, step: str, **body: Any) -> Any:
    sent = BODIES.get(step, {"reason": "because"}) | body
    return client.post(f"/api/v1/sites/oslo/identity/{step}", sent, content_type="application/json")


def contents() -> list[Any]:
    names = ("edge_sites_site", "edge_sites_jointoken", "edge_sites_siteidentity", "kit_auditentry")
    return [rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in names]


def test_a_site_without_keys(make_site, api_client):
    make_site("oslo")
    assert api_client("viewer").get("/api/v1/sites/oslo/identity").json() == {
        "state": "none",
        "fingerprint": None,
        "accepted_at": None,
        "accepted_by": None,
        "waiting": None,
        "frozen": False,
        "frozen_at": None,
        "frozen_reason": "",
        "certificate": None,
        "certificates": [],
    }


def test_an_enrolled_site_that_presents_other_keys(make_site, api_client):
    site = make_site("oslo")
    identity = enrolled(site)
    certificate(identity, revoked_at=timezone.now(), ends=timezone.now() + timedelta(days=6))
    keys(site, fingerprint="f" * 39, host="edge-2")
    freeze_row(site, "Odd")
    shown = api_client("viewer").get("/api/v1/sites/oslo/identity").json()
    assert (shown["state"], shown["frozen"], shown["frozen_reason"]) == ("waiting", True, "Odd")
    assert (shown["fingerprint"], shown["accepted_by"]) == (FINGERPRINT, "nina")
    assert (shown["waiting"]["fingerprint"], shown["waiting"]["host"]) == ("f" * 39, "edge-2")
    assert [row["revoked_at"] is None for row in shown["certificates"]] == [False, True]
    assert shown["certificate"] == shown["certificates"][1]


def test_a_join_string_comes_once_and_is_not_to_be_kept(make_site, api_client):
    site = make_site("oslo")
    client = api_client("operator")
    answer = call(client, "join", pre_authorised=True)
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    join = read_join(answer.json()["join"])
    assert (join.site, join.root_sha256.hex()) == (site.uuid, ROOT_SHA256)
    token = JoinToken.objects.using(OWNER).get()
    assert (token.pre_authorised, answer.json()["expires_at"][:19]) == (True, token.expires_at.isoformat()[:19])
    # Without a body too, and then keys wait for a look.
    assert client.generic("POST", "/api/v1/sites/oslo/identity/join").status_code == 201
    assert not JoinToken.objects.using(OWNER).get(withdrawn_at=None).pre_authorised


def test_steps_and_what_they_lead_to(make_site, api_client):
    site = make_site("oslo")
    client = api_client("operator")
    for step, state, is_frozen in (
        ("accept", "accepted", False),
        ("reject", "rejected", False),
        ("revoke", "revoked", False),
        ("freeze", "none", True),
        ("thaw", "none", False),
    ):
        ready_for(step, site)
        shown = call(client, step)
        assert shown.status_code == 200, step
        assert (shown.json()["state"], shown.json()["frozen"]) == (state, is_frozen), step
        assert_error(call(client, step), 409, "conflict")


def test_other_keys_are_not_accepted(make_site, api_client):
    keys(make_site("oslo"))
    for fingerprint in ("", "é", FINGERPRINT[:-1], FINGERPRINT.replace("f", "e")):
        assert_error(call(api_client("operator"), "accept", fingerprint=fingerprint), 409, "conflict")
    assert_error(call(api_client("operator"), "accept", fingerprint="x" * 101), 422, "invalid")
    assert SiteIdentity.objects.using(OWNER).get().state == "pending"


@pytest.mark.parametrize("step", STEPS)
def test_whoever_may_not_changes_nothing(make_site, make_provider, api_client, step):
    site = make_site("oslo")
    ready_for(step, site)
    own = [api_client(role, provider=site.provider) for role in ("provider_viewer", "provider_operator")]
    refused = [api_client("viewer"), api_client("manager"), *own]
    foreign = [api_client("admin", provider=make_provider()), api_client("operator", regions=["Nowhere"])]
    before = contents()
    for client in refused:
        assert_error(call(client, step), 403, "not_allowed")
        assert client.get("/api/v1/sites/oslo/identity").status_code == 200
    for client in foreign:
        assert_error(call(client, step), 404, "not_found")
        assert_error(client.get("/api/v1/sites/oslo/identity"), 404, "not_found")
    assert contents() == before


def test_the_waiting_list_pages_in_the_order_of_arrival(make_site, make_provider, api_client):
    own = make_provider("own")
    for slug, provider in (("b", own), ("a", own), ("c", None)):
        keys(make_site(slug, provider=provider), host=f"host-{slug}")
    keys(make_site("done", provider=own), "accepted")
    client = api_client("provider_viewer", provider=own)
    first = client.get("/api/v1/identities/waiting?limit=1").json()
    second = client.get("/api/v1/identities/waiting", {"limit": 1, "cursor": first["next"]}).json()
    assert [page["items"][0]["site"] for page in (first, second)] == ["b", "a"]
    assert second["next"] is None
    assert first["items"][0].keys() == {
        *("site", "name", "provider", "fingerprint", "host", "agent", "remote", "presented_at")
    }
    assert len(api_client("viewer").get("/api/v1/identities/waiting").json()["items"]) == 3
