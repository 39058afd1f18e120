"""Version synchronisation in reports: each figure by hand, in every file, to each side its own, and restated."""

import csv
import json
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from fleet.kit.signing import ReportKeys
from fleet.kit.tenancy import scope
from slas.crediting import share_by_count
from slas.engine import Verdict
from slas.exports.bundle import payload_of
from slas.exports.pdf import content_of, pdf_of
from slas.exports.sheets import csv_of, json_of, xlsx_of
from slas.exports.vectors import sync_vectors_of
from slas.models import Report
from slas.offers import Offer, Origin
from slas.reporting.counted import Offered
from slas.selectors.trends import trends_in
from slas.services.report_making import keep_reports, make_wanted
from slas.services.scorecards import keep_scorecards
from slas.settlement import Burden, Settled, Tier
from slas.states import Measure, Reach
from slas.terms import Objective
from slas.upkeep import ms
from slas.verify import main
from slas.version_sync import Owner
from tests.database import OWNER, rows
from tests.slas import offered
from tests.slas.factories import TEST, make_contract, objective, segment, states, tenures
from tests.slas.test_report_pages import text_of
from tests.slas.test_reports import BEGIN, END, LAST, ask, at, revisions, told

H = 3_600_000
TIERS = {"tiers": [{"below": "90", "credit": "5"}, {"below": "60", "credit": "25"}]}
SYNC = objective(measure="version_sync", target="90", limit="2", scope="pooled", credits=TIERS)


@pytest.fixture
def promised(make_provider: Any, make_site: Any, settings: Any, database: Any, monkeypatch: Any) -> dict[str, Any]:
    """Two hours for each standard, last month alone. At Bad's three sites one was in time, one late, one is pending.

    `prompt`: sent after an hour of ours, proven two later. `slow`: sent at once, unreachable for an hour, proven after
    five. `open`: offered an hour before the month's end, and never sent.
    """
    settings.REPORT_GRACE_H = 0
    settings.STANDARDS_OFFERED_BY = offered.SAYS
    bad, good = make_provider("bad", name="Bad Hosting"), make_provider("good", name="Good Hosting")
    found: dict[str, Any] = {"bad": bad, "good": good}
    for slug, provider in (("prompt", bad), ("slow", bad), ("open", bad), ("theirs", good)):
        site = found[slug] = make_site(slug, provider)
        tenures(site, (provider, BEGIN, None))
        states(site, "availability", (BEGIN, "up"))
        away = [(at(5, 1), "unreachable"), (at(5, 2), "reachable")] if slug == "slow" else []
        states(site, "reachability", (BEGIN, "reachable"), *away)
    origin = Origin(rollout=7, step=8, document=9, receipt=10, event=11)
    monkeypatch.setattr(offered, "OFFERS", [
        offer(found["prompt"], at(3), sent=at(3, 1), proven=at(3, 3), origin=origin),
        offer(found["slow"], at(5), sent=at(5), proven=at(5, 5)),
        offer(found["open"], END - timedelta(hours=1)),
        offer(found["theirs"], at(3), sent=at(3), proven=at(3, 1)),
    ])  # fmt: skip
    promise = {"begins": BEGIN.isoformat(), "ends": END.isoformat(), "objectives": [SYNC]}
    made = make_contract(segment(bad, **promise), segment(good, **promise))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [BEGIN, made.pk], using=OWNER)
    return found


def offer(
    site: Any, begin: datetime, sent: datetime | None = None, proven: datetime | None = None, **values: Any
) -> Offer:
    moments = (None if one is None else ms(one) for one in (sent, proven))
    return Offer(site.pk, "2026.11-r2", None, ms(begin), ms(begin), *moments, **values)


@pytest.fixture
def made(promised: Any) -> Report:
    report = ask()
    assert make_wanted() == 1
    return report


# Figures ----------------------------------------------------------------------------------------------------
def test_a_report_says_every_figure_of_it(made):
    bad, good = told(made).paper.synced
    assert (bad.provider, bad.target, bad.limit_h, bad.sites) == ("Bad Hosting", Fraction(9, 10), Decimal(2), 3)
    assert (bad.on_time, bad.late, bad.pending, bad.share, bad.verdict) == (1, 1, 1, Fraction(1, 2), "MISSED")
    # What is charged: 2 h and 4 h, and none yet of what waits; by the clock 3 h and 5 h, and 1 h so far.
    assert bad.charged_ms == (2 * H, 4 * H, 4 * H)
    assert bad.elapsed_ms == (3 * H, 5 * H, 5 * H)
    assert (bad.freeze_ms, bad.operator_ms, bad.network_ms, bad.provider_ms) == (0, 2 * H, H, 6 * H)
    assert bad.credit == Decimal("300.00")  # half is below 60 %: a quarter of 1200.00
    assert (good.on_time, good.late, good.share, good.verdict, good.credit) == (1, 0, 1, "MET", Decimal("0.00"))
    late, waits, prompt, theirs = told(made).paper.offered
    assert [one.slug for one in (late, waits, prompt, theirs)] == ["slow", "open", "prompt", "theirs"]
    assert (late.outcome, late.charged_ms, late.network_ms) == ("late", 4 * H, H)
    assert late.spans == ((at(5, 1), at(5, 2), "network"),)
    assert (waits.outcome, waits.sent, waits.proven, waits.until) == ("pending", None, None, END)
    assert (prompt.rollout, prompt.step, prompt.document, prompt.receipt, prompt.event) == (7, 8, 9, 10, 11)
    assert told(made).paper.promises == ()


def test_nothing_offered_is_no_figure(promised, monkeypatch):
    monkeypatch.setattr(offered, "OFFERS", [])
    report = ask()
    make_wanted()
    bad = told(report).paper.synced[0]
    assert (bad.share, bad.verdict, bad.credit) == (None, None, Decimal("0.00"))
    assert bad.charged_ms == bad.elapsed_ms == (None, None, None)


def test_each_site_has_the_same_part_of_the_fee():
    tiers = (Tier(Fraction(9, 10), Fraction(1, 10)), Tier(Fraction(1, 2), Fraction(1, 2)))
    every = Objective(Measure.VERSION_SYNC, Fraction(9, 10), Reach.EACH_SITE, None, Burden.OPEN, "up", None, None, None,
                      tiers, Fraction(1), None)  # fmt: skip
    missed, met = Verdict.MISSED, Verdict.MET
    sites = [Settled(missed, Fraction(0)), Settled(missed, Fraction(3, 4)), Settled(met, Fraction(1))]
    sites.append(Settled(None, None))
    # A half of a third of the fee, a tenth of another, nothing of the last; of the fourth nothing is decided.
    assert share_by_count(every, Settled(missed, Fraction(1, 2)), sites) == Fraction(1, 6) + Fraction(1, 30)
    assert share_by_count(every, Settled(None, None), []) == 0


def test_providers_are_compared_by_it(made, promised, signed_in):
    client = signed_in("viewer")
    text = client.get("/slas/reports/compare/export.csv").content.decode("utf-8-sig")
    bad, good = csv.DictReader(StringIO(text))
    assert [bad[f"version sync {name}"] for name in ("on time %", "on time", "late", "pending", "missed")] == [
        *("50.00", "1", "1", "1", "1"),
    ]
    assert (good["version sync on time %"], good["version sync met"]) == ("100.00", "1")
    assert (bad["sites"], bad["credits"]) == ("3", "300.00 EUR")
    page = client.get("/slas/reports/compare/").content.decode()
    assert "1 on time, 1 late, 1 pending; promised 90.00 %; 0 of 1 kept" in page
    theirs = signed_in("provider_viewer", provider=promised["good"])
    text = theirs.get("/slas/reports/compare/export.csv").content.decode("utf-8-sig")
    assert [row["provider"] for row in csv.DictReader(StringIO(text))] == ["Good Hosting"]
    own = client.get("/slas/reports/providers/bad/").content.decode()
    assert "1 on time, 1 late</td>" in own


# Restated ---------------------------------------------------------------------------------------------------
def a_day_later() -> None:
    rows("UPDATE slas_report SET looked_at = now() - interval '25 hours', due_at = NULL", using=OWNER)


def test_what_is_pending_is_looked_at_again_and_restated_when_it_is_decided(made, promised):
    assert keep_reports() == 0
    a_day_later()
    assert keep_reports() == 1
    make_wanted()
    assert len(revisions(made)) == 1  # it goes on: nothing to be told
    found = offered.OFFERS[2]._replace(sent=ms(END) - H // 2, proven=ms(END) - 1)
    offered.OFFERS[2] = found
    a_day_later()
    assert keep_reports() == 1
    make_wanted()
    after = told(made)
    assert (after.revision.number, after.revision.state) == (2, "restated")
    assert after.causes == ["Facts that came later: open."]
    diff = after.parts[0].diff
    (counted,) = diff["counted"]
    assert counted["figures"] == {"share": ["50.0000", "66.6667"], "on_time": ["1", "2"], "pending": ["1", "0"]}
    assert counted["credit"] == ["300.00 EUR", "60.00 EUR"]
    assert diff["offers"] == [
        {
            "slug": "open",
            "standard": "2026.11-r2",
            "outcome": ["pending", "on_time"],
            "charged_ms": [0, H // 2 - 1],
        }
    ]
    assert after.parts[1].diff == {"causes": [], "promises": [], "sites": [], "counted": [], "offers": []}
    a_day_later()
    assert keep_reports() == 0  # nothing is pending any more


# Files ------------------------------------------------------------------------------------------------------
def test_every_file_says_it(made):
    paper = told(made).paper
    book = load_workbook(BytesIO(xlsx_of(paper)))
    line = dict(zip(*list(book["Version synchronisation"].values)[:2], strict=True))
    assert (line["on time %"], line["on time"], line["late"], line["pending"]) == (50, 1, 1, 1)
    assert (line["charged_p50_ms"], line["elapsed_p99_ms"], line["network_ms"]) == (2 * H, 5 * H, H)
    site = dict(zip(*list(book["Versions by site"].values)[:2], strict=True))
    assert (site["site"], site["outcome"], site["proven"]) == ("slow", "Late", at(5, 5).replace(tzinfo=None))
    assert list(book["Credits"].values)[1][1:] == ("Version sync", 1200, 100, 300, "EUR")
    listed = list(csv.DictReader(StringIO(csv_of(paper, "Versions by site").decode("utf-8-sig"), newline="")))
    assert (listed[0]["site"], listed[0]["charged_ms"]) == ("slow", str(4 * H))
    found = json.loads(json_of(paper))
    assert found["synced"][0]["share"] == 50.0
    assert found["offered"][0]["deadline_h"] == "2"
    content = content_of(paper)
    assert content["synced"][0]["figures"][0] == ["On time", "50.00 %"]
    assert content["credits"] == [["Version sync", "Bad Hosting", "1200.00 EUR", "300.00 EUR"]]
    assert content["sentence"] == "1 of 2 promises were kept, 1 missed. Credits: 300.00 EUR."
    assert pdf_of(paper).startswith(b"%PDF-")


def test_the_verifier_recomputes_it_from_the_bundle(made, tmp_path: Path, capsys: Any):
    paper = told(made).paper
    own = [one for one in paper.offered if one.provider == "Bad Hosting"]
    keys = ReportKeys(pdf="", bundle="", root="", bundle_key=b"k")
    payload = payload_of([], [], report={"contract": "shops"}, keys=keys, offered=[("bad", own)])
    vectors = json.loads(payload)["vectors"]
    assert [one["name"] for one in vectors] == [f"shops bad version_sync {one.slug} 2026.11-r2" for one in own]
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps({"vectors": vectors}))
    assert main([str(path)]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ("freeze_ms", "operator_ms", "network_ms", "provider_ms", "elapsed_ms", "charged_ms")
    for one, line in zip(own, found, strict=True):
        assert {name: line[name] for name in names} == {name: getattr(one, name) for name in names}
        assert (line["ok"], line["verdict"]) == (True, one.outcome)
    vectors[0]["proven"] -= 2 * 3600  # as if it had been in time
    path.write_text(json.dumps({"vectors": vectors}))
    assert main([str(path)]) == 1


def test_what_is_charged_and_finer_than_an_hour_is_recomputed_too():
    one = Offered("P", "s", "S", "x", at(1), at(1), at(1) + timedelta(milliseconds=1), at(1, 2), at(1, 2),
                  Decimal("1.5"), True, ((at(1, 1), at(1, 2), str(Owner.NETWORK)),), "late", 0, 1, H, H - 1, 2 * H,
                  2 * H - 1)  # fmt: skip
    (vector,) = sync_vectors_of([one], "of")
    assert vector["deadline_h"] == 1.5
    assert vector["rules"] == {"network": "charged"}
    assert vector["expect"] == {
        "freeze_ms": 0,
        "operator_ms": 1,
        "network_ms": H,
        "provider_ms": H - 1,
        "elapsed_ms": 2 * H,
        "charged_ms": 2 * H - 1,
        "verdict": "late",
    }


# Pages and the API, and who sees what ------------------------------------------------------------------------
def test_the_page_says_it_and_its_sites_are_found(made, signed_in, plain_static):
    client = signed_in("viewer")
    text = text_of(client.get(f"/slas/reports/{made.pk}/"))
    for said in (
        "At least 90.00 % on time: within 2 h, all sites together",
        "Late 1",
        "Pending 1",
        "Operator 2 h 00 min",
    ):
        assert said in text
    assert "50 2 h 00 min 3 h 00 min" in text  # half were done after
    page = client.get(f"/slas/reports/{made.pk}/?promise=version_sync&q=SLO").content.decode()
    assert "/sites/slow/" in page
    assert "/sites/prompt/" not in page
    assert "No site under it is named like that" in text_of(client.get(f"/slas/reports/{made.pk}/?q=nowhere"))
    text = text_of(client.get(f"/slas/reports/{made.pk}/sites/prompt/"))
    for said in ("On time", "rollout 7, step 8", "signed document 9", "event 11 of the rollout", "signed receipt 10"):
        assert said in text
    assert "not until" in text_of(client.get(f"/slas/reports/{made.pk}/sites/open/"))


def test_a_provider_reads_its_own_and_nothing_of_others(made, promised, signed_in, api_client, plain_static):
    client = signed_in("provider_viewer", provider=promised["good"])
    assert "On time" in text_of(client.get(f"/slas/reports/{made.pk}/sites/theirs/"))
    for slug in ("prompt", "slow", "open"):
        assert client.get(f"/slas/reports/{made.pk}/sites/{slug}/").status_code == 404
    for rest in ("", "?promise=version_sync", "export.json", "export.csv?table=Versions+by+site", "export.xlsx"):
        response = client.get(f"/slas/reports/{made.pk}/{rest}")
        assert response.status_code == 200
        assert b"Bad Hosting" not in response.content
        assert b"slow" not in response.content.lower().replace(b"slowest", b"")
    api = api_client("provider_viewer", username="api", provider=promised["good"])
    found = api.get(f"/api/v1/reports/{made.pk}/revisions/1/sites?measure=version_sync").json()["items"]
    assert [one["slug"] for one in found] == ["theirs"]
    (part,) = api.get(f"/api/v1/reports/{made.pk}/revisions/1").json()["parts"]
    assert [one["on_time"] for one in part["data"]["synced"]] == [1]
    assert "offered" not in part["data"]


def test_a_table_that_there_is_not_is_not_found(made, signed_in, plain_static):
    client = signed_in("viewer")
    assert client.get(f"/slas/reports/{made.pk}/export.csv?table=Secrets").status_code == 404
    assert b"2026.11-r2" in client.get(f"/slas/reports/{made.pk}/export.csv?table=Versions+by+site").content


def test_sites_over_the_api_by_page_and_search(made, api_client):
    client = api_client("viewer")
    address = f"/api/v1/reports/{made.pk}/revisions/1/sites"
    first = client.get(f"{address}?measure=version_sync&limit=2").json()
    assert ([one["slug"] for one in first["items"]], first["next"]) == (["slow", "open"], "2")
    rest = client.get(f"{address}?measure=version_sync&limit=2&cursor=2").json()
    assert ([one["slug"] for one in rest["items"]], rest["next"]) == (["prompt", "theirs"], None)
    assert [one["slug"] for one in client.get(f"{address}?search=THEI").json()["items"]] == ["theirs"]
    assert client.get(f"{address}?measure=nothing").json()["items"] == []


def test_the_trend_draws_the_share_from_cards_and_from_reports(promised):
    keep_scorecards()
    with scope(TEST):
        cards = trends_in(TEST, [LAST])
    ask()
    make_wanted()
    with scope(TEST):
        reports = trends_in(TEST, [LAST])
    for trends, revision in ((cards, 0), (reports, 1)):
        found = [(one.provider.slug, one.measure, *one.points[LAST]) for one in trends]
        assert found == [
            ("bad", "version_sync", Decimal("50.00"), None, Decimal("90.00"), "MISSED", revision),
            ("good", "version_sync", Decimal("100.00"), None, Decimal("90.00"), "MET", revision),
        ]
