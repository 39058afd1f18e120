"""Reports over the API: asked for, read revision by revision, sites by page, decided on; each side its own part."""

import re
from typing import Any

import pytest

from slas.services.report_making import make_wanted
from tests.slas.test_reports import LAST, ask, promised, undecided  # noqa: F401  (fixtures)

pytestmark = pytest.mark.usefixtures("database")
AT = "/api/v1/reports"


def test_it_is_asked_for_made_and_read(promised, api_client):  # noqa: F811
    client = api_client("operator")
    body = {"contract": "shops", "period": LAST}
    made = client.post(AT, body, content_type="application/json", headers={"Idempotency-Key": "one"})
    assert made.status_code == 202
    assert (made.json()["making"], made.json()["revision"]) == (True, None)
    again = client.post(AT, body, content_type="application/json", headers={"Idempotency-Key": "one"})
    assert again.json() == made.json()
    make_wanted()
    (row,) = client.get(AT).json()["items"]
    assert (row["making"], row["state"], row["revision"]) == (False, "final", 1)
    found = client.get(f"{AT}/{row['id']}/revisions/1").json()
    assert [part["provider"] for part in found["parts"]] == ["bad", "good"]
    assert found["parts"][0]["data"]["promises"][0]["totals"]["down_ms"] == 15 * 3_600_000
    first = client.get(f"{AT}/{row['id']}/revisions/1/sites?limit=1").json()
    assert ([one["slug"] for one in first["items"]], first["next"]) == (["bad-site"], "1")
    last = client.get(f"{AT}/{row['id']}/revisions/1/sites?limit=1&cursor=1").json()
    assert ([one["slug"] for one in last["items"]], last["next"]) == (["good-site"], None)
    assert client.get(f"{AT}/{row['id']}/revisions/1/sites?cursor=x").status_code == 422
    for number in (0, 2, 10**12):
        assert client.get(f"{AT}/{row['id']}/revisions/{number}").status_code == 404
    odd = client.post(AT, body | {"period": "2026-13"}, content_type="application/json")
    assert (odd.status_code, list(odd.json()["error"]["details"])) == (422, ["period"])


def test_a_decision_makes_a_revision_with_its_diff(undecided, api_client):  # noqa: F811
    body = {"provider": "open", "measure": "availability", "figure": "97", "reason": "by telephone"}
    address = f"{AT}/{undecided.pk}"
    assert api_client("operator").post(f"{address}/decide", body, content_type="application/json").status_code == 403
    client = api_client("manager")
    assert client.post(f"{address}/decide", body, content_type="application/json").json()["making"]
    make_wanted()
    found = client.get(f"{address}/revisions/2/diff").json()
    assert found["causes"] == ["A decision on availability: by telephone"]
    assert found["parts"]["open"]["promises"][0]["verdict"] == ["UNDETERMINED", "MISSED"]
    assert [one["number"] for one in client.get(f"{address}/revisions").json()["items"]] == [2, 1]


def test_a_provider_reads_its_own_part(promised, api_client):  # noqa: F811
    report = ask()
    make_wanted()
    client: Any = api_client("provider_operator", provider=promised[1])
    for rest in ("", "/revisions", "/revisions/1", "/revisions/1/diff", "/revisions/1/sites"):
        response = client.get(f"{AT}/{report.pk}{rest}")
        assert response.status_code == 200
        assert not re.search(rb"\bbad\b", response.content.lower())  # digests may hold these letters
