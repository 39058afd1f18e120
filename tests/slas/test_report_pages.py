"""Pages of reports: read like a document, asked for, decided on; one site's time to the poll; files."""

import json
import re
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from slas.models import Report
from slas.services.report_making import make_wanted
from tests.database import OWNER, rows
from tests.slas.factories import states, tenures
from tests.slas.test_reports import BEGIN, LAST, ask, promised, undecided  # noqa: F401  (fixtures)

pytestmark = pytest.mark.usefixtures("plain_static", "database")


@pytest.fixture
def made(promised: Any) -> Report:  # noqa: F811
    report = ask()
    make_wanted()
    return report


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_it_reads_like_a_document_the_verdict_first(made, signed_in):
    text = text_of(signed_in("viewer").get(f"/slas/reports/{made.pk}/"))
    said = [
        "Missed",
        "1 of 2 promises were kept, 1 missed. Credits:",
        "What was promised",
        "Floor",
        "Ceiling",
        "Credits",
    ]
    said += [
        "Outages 1",
        "15 h 00 min",
        "Not known, nobody",
        "Sites worst first",
        "Bad Site",
        "Good Site",
        "Revision 1",
    ]
    at = 0
    for one in said:
        at = text.find(one, at)
        assert at >= 0, (one, text)


def test_a_site_is_shown_to_the_poll(made, signed_in):
    client = signed_in("viewer")
    text = text_of(client.get(f"/slas/reports/{made.pk}/sites/bad-site/"))
    pieces = re.findall(r"(?:Up|Down|Unknown) \d+ \w{3} \d\d:", text)
    assert [piece.split()[0] for piece in pieces] == ["Up", "Down", "Up", "Unknown", "Up"], text
    assert "poll: down, fact" in text
    assert client.get(f"/slas/reports/{made.pk}/sites/nowhere/").status_code == 404


def test_a_sites_month_costs_the_same_however_many_sites_there_are(made, signed_in, promised, make_site):  # noqa: F811
    client, costs = signed_in("viewer"), []
    address = f"/slas/reports/{made.pk}/sites/bad-site/"
    for sites in (5, 0):
        client.get(address)  # what is asked once a session
        with CaptureQueriesContext(connections["default"]) as found:
            assert client.get(address).status_code == 200
        costs.append(len(found))
        for number in range(sites):
            site = make_site(f"more-{number}", promised[0])
            tenures(site, (promised[0], BEGIN, None))
            states(site, "availability", (BEGIN, "up"))
        ask()
        make_wanted()
    assert costs[1] <= costs[0] <= 23


def test_it_is_asked_for_and_says_how_far_it_is(promised, signed_in):  # noqa: F811
    client = signed_in("operator")
    assert "No report yet" in text_of(client.get("/slas/reports/"))
    response = client.post("/slas/reports/make/", {"contract": "shops", "period": LAST})
    assert response.status_code == 302
    assert "It waits for a worker" in text_of(client.get(response.url))
    make_wanted()
    assert "1 of 2 promises" in text_of(client.get(response.url))
    assert "1 of 2 promises" in text_of(client.get("/slas/reports/"))
    odd = client.post("/slas/reports/make/", {"contract": "shops", "days": "2026-02-31..2026-03-01"})
    assert odd.status_code == 422
    assert b"There is no such day." in odd.content


def test_who_may_not_ask_is_not_offered_it(made, signed_in):
    client = signed_in("viewer")
    assert b"report-make" not in client.get("/slas/reports/").content
    assert b"report-again" not in client.get(f"/slas/reports/{made.pk}/").content
    assert client.post("/slas/reports/make/", {"contract": "shops", "period": LAST}).status_code == 403


def test_a_manager_decides_on_the_page(undecided, signed_in):  # noqa: F811
    address = f"/slas/reports/{undecided.pk}/"
    assert b"Decide on the figure" not in signed_in("operator").get(address).content
    client = signed_in("manager")
    assert b"Decide on the figure" in client.get(address).content
    form = {"provider": "open", "measure": "availability", "figure": "97", "reason": "by telephone"}
    odd = client.post(f"{address}decide/", form | {"figure": "101"})
    assert odd.status_code == 422
    assert b'value="101"' in odd.content
    assert client.post(f"{address}decide/", form).status_code == 302
    make_wanted()
    text = text_of(client.get(address))
    assert "A decision on availability: by telephone" in text
    assert "Undetermined → Missed" in text.replace("  ", " ")
    assert "decided on 97.00 %" in text
    assert "This is revision 1, not the newest" in text_of(client.get(f"{address}?revision=1"))
    assert client.get(f"{address}?revision=9").status_code == 404


def test_a_provider_reads_its_own_side(made, promised, signed_in):  # noqa: F811
    client = signed_in("provider_viewer", provider=promised[1])
    for address in ("/slas/reports/", f"/slas/reports/{made.pk}/", f"/slas/reports/{made.pk}/export.csv"):
        content = client.get(address).content
        assert b"Bad Hosting" not in content
        assert b"bad-site" not in content
    assert "1 of 1 promises were kept" in text_of(client.get(f"/slas/reports/{made.pk}/"))
    assert client.get(f"/slas/reports/{made.pk}/sites/bad-site/").status_code == 404


def test_files_say_what_the_page_says(made, signed_in):
    client = signed_in("viewer")
    found = json.loads(client.get(f"/slas/reports/{made.pk}/export.json").content)
    assert [one["verdict"] for one in found["promises"]] == ["MISSED", "MET"]
    assert client.get(f"/slas/reports/{made.pk}/export.xlsx").content[:2] == b"PK"
    assert b"bad-site" in client.get(f"/slas/reports/{made.pk}/export.csv").content
    assert client.get(f"/slas/reports/{made.pk}/export.exe").status_code == 404


def test_what_failed_says_so(made, signed_in):
    rows("UPDATE slas_report SET problem = 'It could not be made.'", using=OWNER)
    assert "It could not be made." in text_of(signed_in("viewer").get(f"/slas/reports/{made.pk}/"))
