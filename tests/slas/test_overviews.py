"""Reports over several contracts: a provider's, a group's, providers side by side; each side its own part."""

import csv
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from io import BytesIO, StringIO
from typing import Any

import openpyxl
import pytest

from fleet.kit.tenancy import scope
from slas.engine import Figures, Totals, figures
from slas.models import Contract
from slas.present.overviews import versions_row
from slas.reporting.counted import Synced
from slas.reporting.pooling import outages_of, pooled, versions_of
from slas.selectors.summaries import Group, paper_over, said_in, slugs_of
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.slas.factories import TEST, make_contract, objective, segment, states, tenures
from tests.slas.test_exports import paper
from tests.slas.test_reports import BEGIN, END, LAST, MONTH, H, at, derive, promised  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("plain_static", "database")


@pytest.fixture
def made(promised: Any, make_site: Any) -> tuple[Any, Any]:  # noqa: F811
    """Both providers under `shops`; the first one's second site, of another ring and region, under `stores` as well."""
    bad = promised[0]
    site = make_site("bad-store", bad, ring="canary", region="Nordics", labels={"tier": "1"})
    tenures(site, (bad, BEGIN, None))
    states(site, "availability", (BEGIN, "up"), (at(5), "down"), (at(5, 5), "up"))
    states(site, "reachability", (BEGIN, "reachable"))
    terms = [objective(target="90", scope="pooled"), objective(measure="reachability", target="99")]
    stores = make_contract(
        segment(bad, begins=BEGIN.isoformat(), objectives=terms), slug="stores", labels={"tier": "1"}
    )
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [BEGIN, stores.pk], using=OWNER)
    derive()
    with scope(TEST):
        contracts = list(Contract.objects.all())
    for contract in contracts:
        ask_for_report(actor=TEST, rights=everything(), contract=contract, period=LAST)
    make_wanted()
    return promised


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def lines_of(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200
    return list(csv.DictReader(StringIO(response.content.decode("utf-8-sig"))))


# Pure -------------------------------------------------------------------------------------------------------
def test_what_is_pooled_is_what_would_have_been_counted_together():
    parts = [Totals(1000, 100, 50, 30, 20, 800), Totals(500, 0, 0, 500, 0, 0), Totals(700, 700, 0, 0, 0, 0)]
    places = [replace(paper().places[0], measure="availability", totals=one, shares=figures(one)) for one in parts]
    words = ["MET", "MISSED", None]
    places = [replace(one, verdict=word) for one, word in zip(places, words, strict=True)]
    together = pooled("availability", places)
    assert together.totals == sum(parts, Totals())
    assert together.shares == figures(together.totals)
    assert (together.met, together.missed, together.open, together.verdict) == (1, 1, 0, "MISSED")
    nothing = pooled("reachability", [])
    assert (nothing.shares, nothing.verdict, nothing.targets) == (Figures(None, None, None, None), None, None)
    assert outages_of([]).mean_h is None


def test_versions_of_several_promises_are_pooled_by_what_was_sent():
    one = Synced(
        *("Bad", "pooled", Fraction(95, 100), None, False), *(3, 8, 2, 1, Fraction(8, 10), "MISSED"),
        *((None,) * 3, (None,) * 3), *(0, 0, 0, 0), *(Decimal(0), Decimal(0), Fraction(1), ""),
    )  # fmt: skip
    other = replace(one, target=Fraction(90, 100), on_time=90, late=0, pending=0, verdict="MET")
    both = versions_of([one, other])
    assert (both.on_time, both.late, both.pending, both.share) == (98, 2, 1, Fraction(98, 100))
    assert (both.met, both.missed, both.open, both.verdict) == (1, 1, 0, "MISSED")
    assert both.targets == (Fraction(90, 100), Fraction(95, 100))
    assert (versions_of([]).share, versions_of([]).verdict, versions_of([]).targets) == (None, None, None)
    row = versions_row(both)
    assert (row["share"], row["promised"]) == (Decimal("98.00"), "90.00 to 95.00 %")


# A provider -------------------------------------------------------------------------------------------------
def test_a_provider_over_all_its_contracts(made, signed_in):
    client = signed_in("viewer")
    text = text_of(client.get("/slas/reports/providers/bad/"))
    assert "2 of 3 promises were kept, 1 missed." in text
    for name in ("Shops", "Stores", "Bad Site", "Bad Store", "Final, revision 1"):
        assert name in text
    with scope(TEST):
        said = said_in(TEST, LAST, made[0])
        whole = paper_over(said, "Bad", LAST, (BEGIN, END))
    assert len(whole.promises) == 3
    assert {one.provider for one in whole.promises} == {"Bad Hosting, Shops", "Bad Hosting, Stores"}
    book = openpyxl.load_workbook(BytesIO(client.get("/slas/reports/providers/bad/export.xlsx").content))
    assert [row[0].value for row in book["Objectives"].iter_rows(min_row=2)] == [one.provider for one in whole.promises]
    assert client.get("/slas/reports/providers/bad/export.json").json()["head"]["contract"] == "Bad Hosting"
    assert client.get("/slas/reports/providers/bad/export.pdf").status_code == 404
    assert client.get("/slas/reports/providers/nobody/").status_code == 404


def test_a_period_without_a_report_shows_the_latest_with_one(made, signed_in):
    text = text_of(signed_in("viewer").get("/slas/reports/providers/bad/", {"period": "1999-01"}))
    assert "Shops" in text


# Side by side -----------------------------------------------------------------------------------------------
def test_providers_stand_side_by_side_on_the_same_objective_and_period(made, signed_in):
    client = signed_in("viewer")
    bad, good = lines_of(client.get("/slas/reports/compare/export.csv"))
    assert (bad["provider"], good["provider"]) == ("Bad Hosting", "Good Hosting")
    # Two sites under the first contract, one of them under the second: 15 h and twice 5 h down, 2 h unknown.
    lost = Fraction(3 * MONTH - 25 * H - 2 * H, 3 * MONTH)
    assert bad["availability floor %"] == f"{int(lost * 10000) / 100:.2f}"
    assert (bad["availability promises"], bad["availability missed"], bad["availability met"]) == ("2", "1", "1")
    assert (bad["availability target from %"], bad["availability target to %"]) == ("90.00", "99.50")
    assert (bad["outages"], bad["longest outage h"], bad["mean outage h"]) == ("2", "15.00", "10.00")
    assert (bad["contracts"], bad["sites"], bad["reports"]) == ("2", "2", "final")
    assert bad["credits"].endswith("EUR")
    assert (good["availability floor %"], good["outages"], good["credits"], good["reachability met"]) == (
        *("100.00", "0", "", "0"),
    )
    only = lines_of(client.get("/slas/reports/compare/export.csv", {"provider": "good"}))
    assert [row["provider"] for row in only] == ["Good Hosting"]
    book = openpyxl.load_workbook(BytesIO(client.get("/slas/reports/compare/export.xlsx").content))
    assert [row[0].value for row in book["Comparison"].iter_rows(min_row=2)] == ["Bad Hosting", "Good Hosting"]
    text = text_of(client.get("/slas/reports/compare/"))
    assert "Not promised" in text
    assert "2 outages, longest 15.00 h" in text
    assert client.get("/slas/reports/compare/export.pdf").status_code == 404


# A group ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "sites"),
    [
        ({}, ["bad-site", "bad-store", "good-site"]),
        ({"ring": "canary"}, ["bad-store"]),
        ({"region": "Nordics"}, ["bad-store"]),
        ({"label": "tier=1"}, ["bad-store"]),
        ({"label": "tier=2"}, []),
        ({"provider": "good"}, ["good-site"]),
        ({"provider": "good", "label": "tier=1"}, []),
        ({"label": "tier=1\x00"}, ["bad-site", "bad-store", "good-site"]),
    ],
    ids=str,
)
def test_a_group_is_what_it_was_when_the_time_ended(made, signed_in, asked, sites):
    found = lines_of(signed_in("viewer").get("/slas/reports/group/export.csv", asked))
    assert sorted({row["site"] for row in found}) == sites


def test_a_group_has_figures_of_its_own(made, signed_in):
    client = signed_in("viewer")
    text = text_of(client.get("/slas/reports/group/", {"ring": "canary"}))
    floor = int(Fraction(MONTH - 5 * H, MONTH) * 10000) / 100
    assert f"Floor {floor:.2f} %" in text
    assert "1 outage, 5.00 h on average, the longest 5.00 h." in text
    odd = client.get("/slas/reports/group/", {"label": "tier"})
    assert odd.status_code == 422
    assert b"Write labels like" in odd.content
    # What a site is labelled today says nothing about last month.
    rows("UPDATE edge_sites_site SET ring = 'late' WHERE slug = 'good-site'", using=OWNER)
    with scope(TEST):
        assert slugs_of(Group(labels={"ring": "late"}), BEGIN, END) == set()


# Each its own -----------------------------------------------------------------------------------------------
def test_a_provider_reads_of_itself_alone(made, signed_in):
    client = signed_in("provider_viewer", provider=made[1])
    addresses = [
        "compare/",
        "compare/export.csv",
        "group/",
        "group/export.csv",
        "providers/good/",
        "compare/?provider=bad",
    ]
    for address in (*addresses, "group/?provider=bad", "providers/good/export.csv"):
        response = client.get(f"/slas/reports/{address}")
        assert response.status_code == 200
        assert b"Bad " not in response.content, address
        assert b"bad-" not in response.content, address
    assert client.get("/slas/reports/providers/bad/").status_code == 404
    assert client.get("/slas/reports/providers/bad/export.csv").status_code == 404


def test_who_sees_some_sites_reads_no_report(made, signed_in):
    client = signed_in("viewer", regions=["Nordics"])
    for address in ("compare/", "group/", "providers/bad/"):
        assert "Reports are not shown to you" in text_of(client.get(f"/slas/reports/{address}"))
    assert lines_of(client.get("/slas/reports/group/export.csv")) == []
