"""Outages and disputes on pages: what they show, who may do what, and that nothing foreign is there."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fleet.kit.tenancy import scope
from slas.models import Dispute, DisputeFile, Finding, Incident, IncidentNote
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from tests.database import OWNER, rows
from tests.meta.routes import DISPUTE, OUTAGE, PAGES
from tests.slas.factories import NOVEMBER, TEST, states

pytestmark = pytest.mark.usefixtures("database", "plain_static")
EVIL = b"%PDF-1.7 <script>alert(1)</script>"


@pytest.fixture
def two(make_provider: Any, make_site: Any) -> Any:
    """An own site that is down, and a foreign one; their outages are 1 and 2."""
    found = []
    for slug, name in (("own", "Own Site"), ("quagga", "Quagga Site")):
        provider = make_provider(slug, name=f"{slug.title()} Hosting")
        site = make_site(f"{slug}-site", provider, name=name, region="DACH" if slug == "own" else "Iberia")
        states(site, "availability", (NOVEMBER, "up"), (NOVEMBER + timedelta(hours=5), "down"))
        derive_due()
        found.append(provider)
    return found


@pytest.fixture
def disputed(two: Any, access: Any) -> Any:
    """Disputes 1 and 2 on outages 1 and 2, each with a file."""
    for pk, provider in enumerate(two, 1):
        actor, rights = access("provider_operator", provider=provider)
        with scope(TEST):
            incident = Incident.objects.get(pk=pk)
        said = "Quagga says" if pk == 2 else "a digger"
        made = file_dispute(actor=actor, rights=rights, incident=incident, cause="third_party", text=said)
        attach_file(actor=actor, rights=rights, dispute=made, name="proof.pdf", body=EVIL + str(pk).encode())
    return two


def test_lists_show_what_passes_the_filters_with_a_fixed_number_of_queries(
    two, signed_in, django_assert_max_num_queries
):
    client = signed_in("operator")
    for query, own, foreign in (
        ("", True, True),
        ("?state=open&kind=down&charged=nobody&cause=unknown&unowned=1", True, True),
        ("?state=over", False, False),
        ("?provider=own", True, False),
        ("?site=quagga", False, True),
        ("?period=2026-11", True, True),
        ("?period=2020-01", False, False),
        ("?kind=witches&period=soon", True, True),
    ):
        with django_assert_max_num_queries(14):
            page = client.get(f"/slas/outages/{query}")
        assert page.status_code == 200
        assert ((b"Own Site" in page.content), (b"Quagga Site" in page.content)) == (own, foreign), query
    lines = client.get("/slas/outages/export.csv?provider=own").content.decode().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("1,own-site,Own Site,Own Hosting,down,2026-11-01T05:00:00+00:00")


@pytest.mark.parametrize("route", [route for route in PAGES if route.about in (OUTAGE, DISPUTE)], ids=str)
def test_what_is_foreign_is_404_like_what_is_not(disputed, signed_in, route):
    before = [
        rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in ("slas_dispute", "slas_incidentnote")
    ]
    for member in (
        {"role": "provider_operator", "provider": disputed[0]},
        {"role": "manager", "provider": disputed[0]},
        {"role": "manager", "regions": ["DACH"]},
    ):
        client = signed_in(member.pop("role"), **member)
        for method in route.methods:
            send = client.get if method == "GET" else client.post
            foreign = send(route.at("2"), {"reason": "because", "text": "mine", "cause": "link"})
            assert foreign.status_code == 404
            assert b"Quagga" not in foreign.content
            assert foreign.content == send(route.at("999"), {}).content
    assert before == [
        rows(f"SELECT t::text FROM {name} t ORDER BY 1", using=OWNER) for name in ("slas_dispute", "slas_incidentnote")
    ]


def test_a_provider_sees_its_own_in_lists(disputed, signed_in):
    client = signed_in("provider_viewer", provider=disputed[0])
    for path in ("/slas/outages/", "/slas/outages/export.csv", "/slas/disputes/?state=all", "/slas/outages/1/"):
        page = client.get(path)
        assert page.status_code == 200
        assert b"Quagga" not in page.content
        assert b"Own" in page.content
    for step in ("take", "comment", "correct", "dispute"):
        assert client.post(f"/slas/outages/1/{step}/", {"text": "x"}).status_code == 403
    for step in ("attach", "decide", "withdraw"):
        assert client.post(f"/slas/disputes/1/{step}/", {"reason": "because"}).status_code == 403
    with scope(TEST):
        assert IncidentNote.objects.count() == 0
        assert Dispute.objects.filter(state="open").count() == 2


def test_the_page_of_an_outage_tells_all_that_was_said_and_what_proves_it(disputed, signed_in):
    noc = signed_in("operator")
    assert b"Nobody has taken it" in noc.get("/slas/outages/1/").content
    assert noc.post("/slas/outages/1/take/", {"text": "I look"}).status_code == 302
    assert noc.post("/slas/outages/1/comment/", {"text": "one\nline"}).status_code == 302
    assert noc.post("/slas/outages/1/comment/", {"text": " "}).status_code == 422
    assert noc.post("/slas/outages/1/correct/", {"cause": "power", "reason": "because"}).status_code == 403
    manager = signed_in("manager")
    assert manager.post("/slas/outages/1/correct/", {"cause": "power", "reason": ""}).status_code == 422
    assert (
        manager.post("/slas/outages/1/correct/", {"cause": "power", "reason": "the street was dark"}).status_code == 302
    )
    page = manager.get("/slas/outages/1/").content.decode()
    for words in ("I look", "one line", "the street was dark", "corrected the cause: power", "Dispute 1", "Take over"):
        assert words in page, words
    assert "Own Hosting" in page
    with scope(TEST):
        assert Finding.objects.filter(is_correction=True).count() == 1


def test_from_the_claim_to_the_decision(two, signed_in):
    client: Client = signed_in("provider_operator", provider=two[0])
    claim = {"cause": "third_party", "text": "a digger", "begins": "2026-11-01T05:00:00", "ends": "2026-11-01T06:00:00"}
    odd = SimpleUploadedFile("a.exe", b"MZ\x00\x01")
    assert client.post("/slas/outages/1/dispute/", claim | {"file": odd}).status_code == 422
    with scope(TEST):
        assert Dispute.objects.count() == 0  # both or neither
    good = SimpleUploadedFile("a.pdf", EVIL)
    filed = client.post("/slas/outages/1/dispute/", claim | {"file": good})
    assert filed.status_code == 302
    with scope(TEST):
        number = DisputeFile.objects.get().pk
    file = client.get(f"{filed['Location']}files/{number}/")
    assert file.content == EVIL
    assert file["Content-Type"] == "application/octet-stream"
    assert file["Content-Disposition"].startswith("attachment")
    assert file["X-Content-Type-Options"] == "nosniff"
    manager = signed_in("manager")
    page = manager.get(filed["Location"]).content
    assert b"<script>alert" not in page
    assert b'id="accept"' in page
    bad = {"decision": "adjusted", "reason": "not all of it", "begins": "2026-11-01T04:00:00"}
    assert manager.post(f"{filed['Location']}decide/", bad).status_code == 422
    half = bad | {"begins": "", "ends": "2026-11-01T05:30:00", "cause": ""}
    assert manager.post(f"{filed['Location']}decide/", half).status_code == 302
    assert b"at most 1,800 s no longer count" in client.get(filed["Location"]).content
    assert manager.post(f"{filed['Location']}decide/", {"decision": "rejected", "reason": "again"}).status_code == 422
    with scope(TEST):
        assert (Dispute.objects.get().state, DisputeFile.objects.count()) == ("adjusted", 1)
