"""Screens of who sites are: the card, the join string, the waiting room, the filter, the attention list."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agent.identity import Identity, Keys
from agent.protocol.identity import read_join
from fleet.kit.models import AuditEntry
from sites.models import JoinToken, Provider, Site, SiteIdentity
from sites.services.enrolment import present_keys
from sites.validators import validate_free_slug
from tests.database import OWNER, rows, tables
from tests.sites.identities import FINGERPRINT, ROOT_SHA256, certificate, enrolled, freeze_row, keys, ready_for

pytestmark = pytest.mark.usefixtures("plain_static", "signer")
MakeSite = Callable[..., Site]
MakeProvider = Callable[..., Provider]
SignedIn = Callable[..., Client]
STEPS = ("join", "accept", "reject", "revoke", "freeze", "thaw")
HOSTILE = '<script>alert(1)</script>\u05d0"\' hx-get="/x"'


def at(slug: str, step: str) -> str:
    return f"/sites/{slug}/identity/{step}/"


def body(step: str, slug: str = "oslo") -> dict[str, str]:
    return {
        "join": {},
        "accept": {"fingerprint": FINGERPRINT, "compared": "on"},
        "revoke": {"reason": "stolen", "confirm": slug},
    }.get(step, {"reason": "because"})


def stored(site: Site) -> Site:
    return Site.objects.using(OWNER).get(pk=site.pk)


def state_of(site: Site) -> list[str]:
    return list(
        SiteIdentity.objects.using(OWNER).filter(site_id=site.pk).order_by("pk").values_list("state", flat=True)
    )


def everything_stored() -> list[Any]:
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables()]


def contents() -> list[Any]:
    names = ("edge_sites_site", "edge_sites_jointoken", "edge_sites_siteidentity", "kit_auditentry")
    return [rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in names]


# The whole way ----------------------------------------------------------------------------------------------
def test_a_site_joins_with_what_the_page_says_and_is_accepted_by_its_fingerprint(
    make_site: MakeSite, signed_in: SignedIn
) -> None:
    site = make_site("oslo")
    client = signed_in("operator", username="nina")
    join = read_join(client.post(at("oslo", "join")).context["join"])
    assert (join.site, join.root_sha256.hex(), join.gateway) == (site.uuid, ROOT_SHA256, settings.GATEWAY_ADDRESS)

    theirs = Identity(site=UUID(str(site.uuid)), keys=Keys.make())
    presented = present_keys(theirs.enrol_request(join.secret, host="edge-1"), remote="198.51.100.7")
    assert presented.fingerprint == theirs.keys.fingerprint
    page = client.get("/sites/waiting/").content.decode()
    assert presented.fingerprint in page
    assert "198.51.100.7" in page

    answer = client.post(at("oslo", "accept"), {"fingerprint": presented.fingerprint, "compared": "on"})
    assert (answer.status_code, answer["Location"]) == (302, "/sites/oslo/")
    assert present_keys(theirs.enrol_request(join.secret, host="edge-1"), remote="").state == "accepted"
    assert "accepted by <bdi>nina" in client.get(at("oslo", "")[:-1]).content.decode().lower().replace("</dt><dd>", " ")


# The join string --------------------------------------------------------------------------------------------
def test_the_join_string_is_in_one_answer_and_nowhere_else(
    make_site: MakeSite, signed_in: SignedIn, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site("oslo")
    client = signed_in("operator")
    with caplog.at_level(logging.DEBUG):
        answer = client.post(at("oslo", "join"))
    word = answer.context["join"]
    secret = read_join(word).secret
    assert answer.content.decode().count(word) == 1
    assert "no-store" in answer["Cache-Control"]
    assert answer.cookies.get("messages") is None
    kept = str(everything_stored()) + caplog.text
    for trace in (word, word.partition(".")[2][:40], secret.hex(), secret.hex().upper()):
        assert trace not in kept
    for path in ("/sites/oslo/", at("oslo", "")[:-1], "/sites/waiting/", "/"):
        assert word not in client.get(path).content.decode()
    assert client.get(at("oslo", "join")).status_code == 405
    entry = AuditEntry.objects.using(OWNER).get(action="identity.join_string")
    assert (entry.object_id, entry.after) == (str(site.pk), {"pre_authorised": False})


def test_another_join_string_withdraws_the_one_before(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("oslo")
    client = signed_in("operator")
    first, second = (client.post(at("oslo", "join")).context["join"] for _ in range(2))
    assert first != second
    tokens = JoinToken.objects.using(OWNER).order_by("pk")
    assert [token.withdrawn_at is None for token in tokens] == [False, True]


@pytest.mark.parametrize(
    ("sent", "taken"), [({"pre_authorised": "on"}, True), ({}, False), ({"pre_authorised": "x"}, False)]
)
def test_keys_are_accepted_unseen_only_when_that_is_ticked(
    make_site: MakeSite, signed_in: SignedIn, sent: dict[str, str], taken: bool
) -> None:
    make_site("oslo")
    page = signed_in("operator").post(at("oslo", "join"), sent).content.decode()
    assert JoinToken.objects.using(OWNER).get().pre_authorised is taken
    assert ("accepted without a look" in page) is taken


@pytest.mark.usefixtures("no_signer")
def test_without_the_signer_nothing_is_half_done(
    make_site: MakeSite, signed_in: SignedIn, api_client: SignedIn
) -> None:
    make_site("oslo")
    client, program, viewer = signed_in("operator"), api_client("operator"), signed_in("viewer")
    before = contents()
    answer = client.post(at("oslo", "join"))
    assert answer.status_code == 503
    assert "The signer does not answer" in answer.content.decode()
    assert "signer.sock" not in answer.content.decode()
    toast = client.post(at("oslo", "join"), headers={"hx-request": "true"})
    assert (toast.status_code, "The signer does not answer" in toast["HX-Trigger"]) == (503, True)
    error = program.generic("POST", "/api/v1/sites/oslo/identity/join")
    assert (error.status_code, error.json()["error"]["code"]) == (503, "unavailable")
    # Who may not make one is told so, signer or not.
    assert viewer.post(at("oslo", "join")).status_code == 403
    assert contents() == before


@pytest.mark.parametrize("trouble", ["retired", "frozen"])
def test_what_cannot_join_gets_no_join_string(make_site: MakeSite, signed_in: SignedIn, trouble: str) -> None:
    site = make_site("oslo")
    if trouble == "retired":
        Site.objects.using(OWNER).filter(pk=site.pk).update(life="retired")
    else:
        freeze_row(site)
    client = signed_in("operator")
    assert b"Make join string" not in client.get("/sites/oslo/").content
    assert client.post(at("oslo", "join")).status_code == 409
    assert not JoinToken.objects.using(OWNER).exists()


# Decisions --------------------------------------------------------------------------------------------------
def test_other_keys_than_those_compared_are_not_accepted(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("oslo")
    keys(site)
    client = signed_in("operator")
    for fingerprint, compared, status in (
        (FINGERPRINT, "", 422),
        (FINGERPRINT.replace("0", "1"), "on", 409),
        ("é\u202e", "on", 409),
        ("", "on", 409),
    ):
        answer = client.post(at("oslo", "accept"), {"fingerprint": fingerprint, "compared": compared})
        assert answer.status_code == status, fingerprint
    assert state_of(site) == ["pending"]
    assert client.post(at("oslo", "accept"), body("accept")).status_code == 302
    assert state_of(site) == ["accepted"]


def test_each_decision_says_who_and_why(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("oslo")
    client = signed_in("operator", username="nina")
    for step in STEPS[2:]:
        ready_for(step, site)
        assert client.post(at("oslo", step), body(step) | {"reason": f"{step}: seen"}).status_code == 302
        assert f"{step}: seen" in client.get("/sites/oslo/").content.decode()
        entry = AuditEntry.objects.using(OWNER).latest("pk")
        assert (entry.actor, entry.action, entry.note) == ("nina", f"identity.{step}", f"{step}: seen")


@pytest.mark.parametrize("reason", ["", "  ", "no", "x" * 301, "two\nlines", "bidi\u202e"])
@pytest.mark.parametrize("step", STEPS[2:])
def test_no_decision_without_a_reason(make_site: MakeSite, signed_in: SignedIn, step: str, reason: str) -> None:
    site = make_site("oslo")
    ready_for(step, site)
    client = signed_in("operator")
    before = contents()
    assert client.post(at("oslo", step), body(step) | {"reason": reason}).status_code == 422
    assert contents() == before


@pytest.mark.parametrize("confirm", ["", "Oslo", "bergen", "oslo-1"])
def test_revoking_wants_the_short_name(make_site: MakeSite, signed_in: SignedIn, confirm: str) -> None:
    site = make_site("oslo")
    enrolled(site)
    answer = signed_in("operator").post(at("oslo", "revoke"), {"reason": "stolen", "confirm": confirm})
    assert answer.status_code == 422
    assert state_of(site) == ["accepted"]


def test_a_decision_answers_htmx_with_a_toast_and_has_the_lists_ask_again(
    make_site: MakeSite, signed_in: SignedIn
) -> None:
    keys(make_site("oslo"))
    answer = signed_in("operator").post(at("oslo", "accept"), body("accept"), headers={"hx-request": "true"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert '"changed": {}' in answer["HX-Trigger"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
def test_who_may_not_enrol_changes_nothing_and_sees_no_button(
    make_site: MakeSite, signed_in: SignedIn, role: str, step: str
) -> None:
    site = make_site("oslo")
    ready_for(step, site)
    client = signed_in(role, **({} if role in {"viewer", "manager"} else {"provider": site.provider}))
    before = contents()
    assert client.post(at("oslo", step), body(step)).status_code == 403
    assert contents() == before
    for path in ("/sites/oslo/", "/sites/waiting/"):
        page = client.get(path).content.decode()
        assert "Oslo" in page or step not in {"accept", "reject", "thaw"}
        assert at("oslo", step) not in page


@pytest.mark.parametrize("step", STEPS)
def test_a_foreign_site_is_not_there(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn, step: str
) -> None:
    site = make_site("oslo")
    ready_for(step, site)
    keys(make_site("own", provider=(own := make_provider())))
    clients = signed_in("provider_operator", provider=own), signed_in("operator", regions=["Nowhere"])
    before = contents()
    for client in clients:
        assert client.post(at("oslo", step), body(step)).status_code == 404
        assert client.get("/sites/oslo/identity/").status_code == 404
        assert b"Oslo" not in client.get("/sites/waiting/").content
    assert contents() == before


# The card ---------------------------------------------------------------------------------------------------
def card(client: Client, slug: str = "oslo") -> str:
    answer = client.get(f"/sites/{slug}/identity/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_card_says_in_words_how_far_a_site_has_come(make_site: MakeSite, signed_in: SignedIn) -> None:
    site, client = make_site("oslo"), signed_in("operator")
    assert ("Not enrolled" in card(client), client.get("/sites/oslo/").context["identity"].state) == (True, "none")
    first = keys(site)
    assert client.get("/sites/oslo/").context["identity"].state == "waiting"
    assert f'name="fingerprint" value="{FINGERPRINT}"' in card(client)
    SiteIdentity.objects.using(OWNER).filter(pk=first.pk).update(
        state="accepted", decided_at=timezone.now(), decided_by="nina"
    )
    assert client.get("/sites/oslo/").context["identity"].state == "accepted"
    made = certificate(first)
    assert client.get("/sites/oslo/").context["identity"].state == "enrolled"
    text = card(client)
    assert made.serial in text
    assert "ends within 3 days" not in text
    type(made).objects.using(OWNER).update(not_after=timezone.now() + timedelta(days=2, hours=23))
    assert "ends within 3 days" in card(client)
    type(made).objects.using(OWNER).update(not_after=timezone.now() - timedelta(minutes=1))
    assert client.get("/sites/oslo/").context["identity"].state == "expired"
    freeze_row(site, "Other keys came")
    text = card(client)
    assert "Other keys came" in text
    assert "Thaw" in text
    client.post(at("oslo", "revoke"), body("revoke"))
    assert client.get("/sites/oslo/").context["identity"].state == "revoked"


def test_keys_of_an_earlier_provider_are_nobodys_to_accept(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn
) -> None:
    site = make_site("oslo")
    keys(site, "accepted")
    keys(site)
    Site.objects.using(OWNER).filter(pk=site.pk).update(provider_id=make_provider("new").pk)
    client = signed_in("operator")
    assert client.get("/sites/oslo/").context["identity"].state == "none"
    assert client.get("/sites/waiting/").context["total"] == 0
    assert client.get("/sites/?identity=none").context["table"].paginator.count == 1


def test_the_card_asks_as_often_for_many_certificates_as_for_one(make_site: MakeSite, signed_in: SignedIn) -> None:
    identity, client = enrolled(make_site("oslo")), signed_in("operator")
    counts = []
    for number in (0, 1, 30):
        for _ in range(number):
            certificate(identity)
            keys(identity.site, "rejected")
        with CaptureQueriesContext(connection) as seen:
            client.get("/sites/oslo/identity/")
        counts.append(len(seen))
    assert counts[0] == counts[1] == counts[2] <= 12
    shown = client.get("/sites/oslo/").context["identity"]
    assert (len(shown.certificates), len(shown.history)) == (20, 20)
    assert shown.accepted.pk == identity.pk


@pytest.mark.parametrize("path", ["/sites/oslo/", "/sites/oslo/identity/", "/sites/waiting/", "/"])
def test_what_a_site_says_of_itself_is_text(make_site: MakeSite, signed_in: SignedIn, path: str) -> None:
    site = make_site("oslo")
    keys(site, "rejected", host=HOSTILE, agent=HOSTILE[:64], remote=HOSTILE[:64], reason=HOSTILE, decided_by=HOSTILE)
    keys(site, host=HOSTILE, agent=HOSTILE[:64], remote=HOSTILE[:64])
    freeze_row(make_site("bergen"), HOSTILE)
    page = signed_in("operator").get(path).content.decode()
    assert "<script>alert" not in page
    assert 'hx-get="/x"' not in page
    if path != "/":
        assert "<bdi>&lt;script&gt;" in page


# The waiting room -------------------------------------------------------------------------------------------
def test_the_waiting_room_is_in_order_and_asks_as_often_for_three_as_for_one(
    make_site: MakeSite, signed_in: SignedIn
) -> None:
    client, counts = signed_in("operator"), []
    assert b"Nobody waits" in client.get("/sites/waiting/").content
    for number, slug in enumerate(("b", "a", "c")):
        keys(make_site(slug), presented_at=timezone.now() - timedelta(hours=[2, 3, 1][number]))
        with CaptureQueriesContext(connection) as seen:
            answer = client.get("/sites/waiting/")
        counts.append(len(seen))
    assert [row["site"].slug for row in answer.context["rows"]] == ["a", "b", "c"]
    assert counts[0] == counts[2] <= 15
    assert 'data-live="attention:0"' in answer.content.decode()


def test_the_navigation_counts_what_waits_only_when_something_does(make_site: MakeSite, signed_in: SignedIn) -> None:
    site, client = make_site("oslo"), signed_in("viewer")
    assert 'id="nav-waiting" hidden>0<' in client.get("/sites/").content.decode()
    keys(site)
    assert 'id="nav-waiting">1<' in client.get("/sites/").content.decode()
    fragment = client.get("/sites/waiting/", headers={"hx-request": "true"}).content.decode()
    assert 'id="nav-waiting" hx-swap-oob="true">1<' in fragment
    assert client.get("/sites/waiting/").content.decode().count('id="nav-waiting"') == 1


def test_waiting_is_no_name_for_a_site() -> None:
    with pytest.raises(ValidationError):
        validate_free_slug("waiting")


# Lists ------------------------------------------------------------------------------------------------------
def test_the_list_filters_by_identity(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("none")
    keys(make_site("pending"))
    enrolled(make_site("good"))
    enrolled(make_site("late"), ends=timezone.now() + timedelta(days=2))
    enrolled(make_site("over"), ends=timezone.now() - timedelta(days=2))
    keys(make_site("rejected"), "rejected")
    both = make_site("renewed")
    certificate(enrolled(both, ends=timezone.now() + timedelta(days=1)))
    freeze_row(make_site("frozen"))
    client = signed_in("viewer")
    for kind, slugs in {
        "none": ["frozen", "none", "rejected"],
        "waiting": ["pending"],
        "enrolled": ["good", "late", "over", "renewed"],
        "expiring": ["late", "over"],
        "frozen": ["frozen"],
    }.items():
        table = client.get(f"/sites/?identity={kind}").context["table"]
        assert sorted(row.record.slug for row in table.paginated_rows) == slugs, kind
    assert b"pending" not in client.get("/sites/export.csv?identity=expiring").content
    assert client.get("/sites/?identity=nonsense").status_code == 200


def test_frozen_comes_first_in_what_needs_attention_and_waiting_is_there(
    make_site: MakeSite, signed_in: SignedIn
) -> None:
    rows("UPDATE edge_sites_sitestate SET shown = 'down' WHERE site_id = %s", [make_site("sick").pk], using=OWNER)
    keys(make_site("fresh", region="North"))
    freeze_row(make_site("odd"), "Other keys came")
    client = signed_in("viewer")
    attention = client.get("/").context["attention"]
    assert [row["site"].slug for row in attention["rows"]] == ["odd", "sick", "fresh"]
    assert attention["total"] == 3
    assert attention["rows"][0]["why"] == "Identity frozen: Other keys came"
    north = client.get("/overview/attention/?region=North").context["attention"]
    assert [row["site"].slug for row in north["rows"]] == ["fresh"]
    assert client.get("/wall/").status_code == 200


def test_many_that_wait_leave_room_for_what_is_down(make_site: MakeSite, signed_in: SignedIn) -> None:
    for _ in range(12):
        keys(make_site())
    rows("UPDATE edge_sites_sitestate SET shown = 'down' WHERE site_id = %s", [make_site("sick").pk], using=OWNER)
    answer = signed_in("viewer").get("/overview/attention/")
    attention = answer.context["attention"]
    assert (attention["rows"][0]["site"].slug, len(attention["rows"])) == ("sick", 11)
    assert (attention["total"], attention["more_waiting"]) == (13, 2)
    assert b"2 more in the waiting room" in answer.content
