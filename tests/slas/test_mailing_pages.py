"""Pages and API of reports by e-mail: made in the form, changed, paused, sent again; who is refused."""

import re
from typing import Any

import pytest

from slas.services.mailing import save_schedule
from tests.conftest import TEST, everything
from tests.database import OWNER, rows, value
from tests.slas.test_mailing import BOSS, DESK, GOOD, make
from tests.slas.test_reports import promised  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("plain_static", "database")
LIST = "/slas/reports/schedules/"
FORM = {"contract": "shops", "provider": "", "each": "month", "lives": ["final", "restated"]}


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def recipients() -> list[tuple[Any, ...]]:
    query = (
        "SELECT r.name, r.address, p.slug FROM slas_mailrecipient r LEFT JOIN edge_sites_provider p"
        " ON p.id = r.provider_id ORDER BY r.address"
    )
    return rows(query, using=OWNER)


def test_it_is_made_changed_and_deleted_on_pages(promised, make_person, signed_in, settings):  # noqa: F811
    make_person("manager", username="boss", email="boss@merrow.example")
    make_person("provider_viewer", username="hosted", provider=promised[1])
    client = signed_in("manager")
    settings.EMAIL_HOST = ""
    listed = text_of(client.get(LIST))
    assert "Nothing is mailed" in listed
    assert settings.EMAIL_FILE_PATH in listed
    page = client.get(f"{LIST}new/", {"contract": "shops"})
    assert 'value="boss@merrow.example"' in page.content.decode()
    assert "Good Hosting : its own part alone" in text_of(page)
    form = FORM | {
        "to": [":boss", "good:hosted"],
        "address :boss": "boss@merrow.example",
        "address good:hosted": "hosted@good.example",
        "contacts bad": "Duty desk <desk@bad.example>\n\n",
    }
    odd = client.post(f"{LIST}new/", form | {"contacts good": "no address", "address :boss": ""})
    assert odd.status_code == 422
    assert b"no address: An address is like" in odd.content
    assert b"boss: An address is like" not in odd.content  # the one that is kept with the person counts
    assert b"Duty desk &lt;desk@bad.example&gt;" in odd.content
    made = client.post(f"{LIST}new/", form)
    assert made.status_code == 302
    assert recipients() == [
        ("boss", "boss@merrow.example", None),
        ("Duty desk", "desk@bad.example", "bad"),
        ("hosted", "hosted@good.example", "good"),
    ]
    edit = client.get(f"{made.url}edit/").content.decode()
    assert edit.count(" checked") == 5
    assert client.post(f"{made.url}edit/", FORM | {"contacts bad": "x@bad.example"}).status_code == 302
    assert recipients() == [("x@bad.example", "x@bad.example", "bad")]
    assert "Paused" in text_of(client.post(f"{made.url}switch/", {"on": "0"}, follow=True))
    assert "it go on first" in text_of(client.post(f"{made.url}again/", follow=True))
    client.post(f"{made.url}switch/", {"on": "1"})
    make()
    sent = text_of(client.post(f"{made.url}again/", follow=True))
    assert "0 mails are on the way" in sent  # the one that is waiting is on its way already
    assert "x@bad.example" in sent
    assert client.post(f"{made.url}delete/").status_code == 302
    assert client.get(made.url).status_code == 404


def test_who_may_not_is_offered_nothing(promised, signed_in):  # noqa: F811
    values = {"contract": "shops", "each": "month", "lives": ["final"], "recipients": [DESK, GOOD]}
    save_schedule(actor=TEST, rights=everything(), values=values)
    for role in ("viewer", "operator"):
        client = signed_in(role)
        assert client.get(LIST).status_code == 403
        assert b"by-mail" not in client.get("/slas/reports/").content
        assert client.get(f"{LIST}new/", {"contract": "shops"}).status_code == 403
    client = signed_in("provider_operator", provider=promised[1])
    assert b"by-mail" in client.get("/slas/reports/").content
    page = client.get(f"{LIST}1/")
    assert b"desk@good.example" in page.content
    for word in (b"desk@bad.example", b"Bad Hosting", b"schedule-switch", b"schedule-again", b"Paths", b"SMTP_HOST"):
        assert word not in page.content
    assert client.get(f"{LIST}1/edit/").status_code == 403
    for step in ("switch", "again", "delete"):
        assert client.post(f"{LIST}1/{step}/").status_code == 403
    assert value("SELECT state FROM slas_mailschedule", using=OWNER) == "active"


def test_the_api_does_the_same(promised, make_person, api_client):  # noqa: F811
    make_person("manager", username="boss")
    client = api_client("manager")
    body = {"contract": "shops", "recipients": [BOSS, DESK]}
    made = client.post("/api/v1/report-schedules", body, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["lives"] == ["final", "restated"]
    odd = body | {"recipients": [DESK | {"address": "a@b.example\r\nBcc: c@d.example"}]}
    refused = client.post("/api/v1/report-schedules", odd, content_type="application/json")
    assert refused.status_code == 422
    assert list(refused.json()["error"]["details"]) == ["recipients.0"]
    make()
    (bad, boss) = client.get("/api/v1/report-schedules/1/mails").json()["items"]
    assert (boss["address"], boss["provider"], bad["provider"], bad["state"]) == (
        *("boss@merrow.example", None, "bad", "waiting"),
    )
    theirs = api_client("provider_operator", provider=promised[0])
    (seen,) = theirs.get("/api/v1/report-schedules").json()["items"]
    assert [one["address"] for one in seen["recipients"]] == ["desk@bad.example"]
    assert theirs.post("/api/v1/report-schedules/1/again").status_code == 403
    other = api_client("provider_operator", provider=promised[1])
    assert other.get("/api/v1/report-schedules/1").status_code == 404
    assert other.get("/api/v1/report-schedules").json()["items"] == []
