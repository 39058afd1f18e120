"""Trends: what stored revisions say, else scorecards; the line that was promised; each its own."""

import json
import re
from datetime import datetime
from html import unescape
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from fleet.kit.tenancy import scope
from slas.selectors.trends import months_until, trends_in
from slas.services.report_making import make_wanted
from slas.services.scorecards import keep_scorecards
from tests.slas.factories import TEST
from tests.slas.test_reports import LAST, ask, promised  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("plain_static", "database")


def drawn(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200
    return [json.loads(unescape(text)) for text in re.findall(r'data-trend="([^"]*)"', response.content.decode())]


def test_the_newest_months_are_twelve(promised):  # noqa: F811
    months = months_until(datetime.fromisoformat("2026-02-10T00:00:00+00:00"))
    assert (months[0], months[-1], len(months)) == ("2025-03", "2026-02", 12)


def test_a_stored_revision_counts_before_the_scorecard(promised, signed_in):  # noqa: F811
    keep_scorecards()
    with scope(TEST):
        before = trends_in(TEST, [LAST])
    assert [(one.provider.slug, one.points[LAST].revision) for one in before] == [("bad", 0), ("good", 0)]
    ask()
    make_wanted()
    with scope(TEST):
        after = trends_in(TEST, [LAST])
    assert [one.points[LAST].revision for one in after] == [1, 1]
    assert [one.points[LAST][:4] for one in after] == [one.points[LAST][:4] for one in before]
    client = signed_in("viewer")
    bad, good = drawn(client.get("/slas/trends/"))
    assert len(bad["months"]) == 12
    assert bad["target"][-2] == 99.5
    assert bad["measured"][-2] == float(after[0].points[LAST].measured or 0)
    assert good["measured"][-2] == 100.0
    assert bad["measured"][:10] == [None] * 10
    page = client.get("/slas/trends/").content.decode()
    assert "report, revision 1" in page
    assert page.count("<table") == 2


def test_it_is_narrowed_to_a_contract_or_a_provider(promised, signed_in):  # noqa: F811
    keep_scorecards()
    client = signed_in("viewer")
    for query, count in (("provider=bad", 1), ("contract=shops", 2), ("contract=none", 0), ("provider=bad%00", 1)):
        assert len(drawn(client.get(f"/slas/trends/?{query}"))) == count, query


def test_each_sees_its_own(promised, signed_in):  # noqa: F811
    keep_scorecards()
    ask()
    make_wanted()
    client = signed_in("provider_viewer", provider=promised[1])
    assert len(drawn(client.get("/slas/trends/"))) == 1
    assert b"Bad Hosting" not in client.get("/slas/trends/").content
    assert drawn(client.get("/slas/trends/?provider=bad")) == []
    some = signed_in("viewer", regions=["Nordics"])
    assert b"Trends are not shown to you" in some.get("/slas/trends/").content


def test_pages_ask_for_it(promised, signed_in):  # noqa: F811
    keep_scorecards()
    client = signed_in("viewer")
    for address, query in (
        ("/slas/", ""),
        ("/slas/contracts/shops/", "contract=shops"),
        ("/providers/bad/", "provider=bad"),
    ):
        content = client.get(address).content.decode()
        assert f'hx-get="/slas/trends/?{query}"' in content, address
        assert "js/trends.js" in content


def test_the_cost_does_not_follow_months(promised, signed_in):  # noqa: F811
    ask()
    make_wanted()
    client = signed_in("viewer")
    client.get("/slas/trends/")
    costs = []
    for _ in range(2):
        with CaptureQueriesContext(connections["default"]) as found:
            client.get("/slas/trends/")
        costs.append(len(found))
        keep_scorecards()
    assert costs[1] <= costs[0] + 1
