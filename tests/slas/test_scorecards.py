"""Scorecards: what is kept of a month, when it is computed anew, and who sees it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from sites.models import Site
from slas.models import Scorecard
from slas.offers import Offer
from slas.periods import begin_of, month_of, month_text
from slas.selectors.scorecards import cards_in
from slas.selectors.site_versions import versions_of_site
from slas.services import counted_lines, scorecards
from slas.services.deriving import derive_due
from slas.services.scorecards import keep_scorecards
from slas.upkeep import ms
from tests.database import OWNER, rows, value
from tests.slas import offered
from tests.slas.factories import TEST, make_contract, objective, segment, states, tenures

pytestmark = pytest.mark.usefixtures("plain_static", "database")
THIS = month_of(datetime.now(UTC), "UTC")
LAST = month_text(THIS - 1)
BEGIN, END = begin_of(THIS - 1, "UTC"), begin_of(THIS, "UTC")
TIERS = {"tiers": [{"below": "99.5", "credit": "5"}, {"below": "98", "credit": "25"}]}


@pytest.fixture
def promised(make_provider: Any, make_site: Any) -> tuple[Any, Any]:
    """Two providers since last month; the first one's site was down for 1 % of it, and of the other's nothing."""
    bad, good = make_provider("bad", name="Bad Hosting"), make_provider("good", name="Good Hosting")
    for provider, lost in ((bad, (END - BEGIN) / 100), (good, timedelta(0))):
        site = make_site(f"{provider.slug}-site", provider, name=f"{provider.name} site")
        tenures(site, (provider, BEGIN, None))
        changes = [(BEGIN, "up"), (BEGIN + timedelta(days=3), "down"), (BEGIN + timedelta(days=3) + lost, "up")]
        states(site, "availability", *(changes if lost else changes[:1]))
        states(site, "reachability", (BEGIN, "reachable"))
    promise = {"begins": BEGIN.isoformat(), "objectives": [objective(scope="pooled", credits=TIERS)]}
    made = make_contract(segment(bad, **promise), segment(good, **promise))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [BEGIN, made.pk], using=OWNER)
    while derive_due():
        pass
    return bad, good


def kept(who: Any = TEST, month: str = LAST) -> dict[str, Any]:
    with scope(who):
        return {row.provider.slug: row for row in cards_in(who, [month])}


def set_as_of(at: datetime, month: str = LAST) -> None:
    rows("UPDATE slas_scorecard SET as_of = %s, due_at = NULL WHERE month = %s", [at, month], using=OWNER)


def test_a_month_is_computed_once_and_to_the_figure(promised):
    assert keep_scorecards() == 2  # this month and the last: before that, nothing was promised
    line = kept()["bad"].lines[0]
    names = ("measured", "floor", "ceiling", "target", "verdict", "credit", "sites", "met", "missed")
    assert [line[name] for name in names] == ["99.00", "99.00", "99.00", "99.5000", "MISSED", "60.00", 1, 0, 1]
    assert line["down_ms"] == (END - BEGIN) // timedelta(milliseconds=100)
    assert [site["slug"] for site in line["worst"]] == ["bad-site"]
    assert kept()["good"].lines[0] | {"worst": []} == kept()["good"].lines[0]
    assert keep_scorecards() == 0


def test_only_the_month_whose_facts_change_is_computed_anew(promised, make_site):
    keep_scorecards()
    set_as_of(database_now() - timedelta(hours=3))
    assert keep_scorecards() == 0
    site = make_site("late", promised[0])
    tenures(site, (promised[0], BEGIN, None))
    rows("INSERT INTO slas_dueincidents (site_id, provider_id, since) VALUES (%s, %s, %s)",
         [site.pk, promised[0].pk, BEGIN + timedelta(days=1)], using=OWNER)  # fmt: skip
    derive_due()
    assert keep_scorecards() == 1
    assert kept()["bad"].lines[0]["sites"] == 2


def test_a_month_that_goes_on_is_looked_at_again_after_an_hour(promised):
    keep_scorecards()
    rows("UPDATE slas_scorecard SET due_at = NULL", using=OWNER)
    set_as_of(database_now() - scorecards.QUIET + timedelta(minutes=1), month_text(THIS))
    assert keep_scorecards() == 0
    set_as_of(database_now() - scorecards.QUIET, month_text(THIS))
    assert keep_scorecards() == 1


def test_a_new_version_counts_for_every_month(promised):
    from slas.models import Contract
    from slas.services.contracts import change_contract
    from tests.conftest import everything
    from tests.slas.factories import agreement

    keep_scorecards()
    with scope(TEST):
        contract = Contract.objects.get()
    easy = segment("bad", begins=BEGIN.isoformat(), objectives=[objective(target="90")])
    change_contract(
        actor=TEST, rights=everything(), contract=contract, agreement=agreement(easy), reason="eased", expect=1
    )
    assert keep_scorecards() == 2
    assert {slug: row.lines[0]["verdict"] for slug, row in kept().items()} == {"bad": "MET"}


# The page ---------------------------------------------------------------------------------------------------
def test_the_worst_stands_first_and_the_page_says_as_of_when(promised, signed_in):
    keep_scorecards()
    response = signed_in("manager").get(f"/slas/?month={LAST}")
    assert [card.provider.slug for card in response.context["cards"]] == ["bad", "good"]
    text = response.content.decode()
    assert "Missed" in text
    assert "60.00 EUR" in text
    assert 'id="as-of"' in text
    assert response.context["as_of"] == min(row.as_of for row in kept().values())


def test_providers_side_by_side(promised, signed_in):
    keep_scorecards()
    client = signed_in("viewer")
    response = client.get(f"/slas/?month={LAST}&provider=bad&provider=good")
    assert [card.provider.slug for card in response.context["beside"]] == ["bad", "good"]
    assert client.get(f"/slas/?month={LAST}&provider=bad").context["beside"] == []


def test_a_provider_sees_its_own_card_and_no_word_of_another(promised, signed_in, access):
    keep_scorecards()
    response = signed_in("provider_viewer", provider=promised[1]).get(f"/slas/?month={LAST}&provider=bad&provider=good")
    assert [card.provider.slug for card in response.context["cards"]] == ["good"]
    assert b"Bad" not in response.content
    who, _ = access("provider_operator", provider=promised[1])
    with scope(who):
        assert {row.provider_id for row in Scorecard.objects.all()} == {promised[1].pk}


def test_who_is_limited_to_a_region_sees_none(promised, signed_in):
    keep_scorecards()
    response = signed_in("manager", regions=["DACH"]).get(f"/slas/?month={LAST}")
    assert response.context["cards"] == []
    assert b"Contracts are not shown to you" in response.content


@pytest.mark.parametrize("month", ["2026-13", "x", "", "0000-00", "2026-1"])
def test_an_odd_month_is_none(promised, signed_in, month):
    assert signed_in("viewer").get("/slas/", {"month": month}).status_code == 200


# Promises that are not shares of time ------------------------------------------------------------------------
@pytest.fixture
def counted(make_provider: Any, make_site: Any, settings: Any, monkeypatch: Any) -> Any:
    """Last month one standard was in time and one late, one outage of two hours was answered after 20 minutes."""
    settings.STANDARDS_OFFERED_BY = offered.SAYS
    nord = make_provider("nord", name="Nord")
    day = timedelta(days=1)
    found = []
    for slug, took in (("quick", 1), ("slow", 3)):
        site = make_site(slug, nord, name=slug.title())
        tenures(site, (nord, BEGIN, None))
        down = [(BEGIN + day, "down"), (BEGIN + day + timedelta(hours=2), "up")] if slug == "slow" else []
        states(site, "availability", (BEGIN, "up"), *down)
        states(site, "reachability", (BEGIN, "reachable"))
        begin = ms(BEGIN + 9 * day)
        found.append(Offer(site.pk, "r1", 2, begin, begin, begin, begin + took * 3_600_000))
    monkeypatch.setattr(offered, "OFFERS", found)
    tiers = {"tiers": [{"below": "90", "credit": "10"}]}
    make_contract(
        segment(
            nord,
            begins=BEGIN.isoformat(),
            objectives=[
                objective(measure="version_sync", target="90", scope="pooled", credits=tiers),
                {"measure": "restoration", "figure": "mttr_h", "limit": "1.5", "burden": "open"},
                objective(measure="response", target="90", limit="15", credits=tiers),
                {"measure": "latency", "percentile": 95, "limit": "40", "scope": "pooled"},
            ],
        )
    )
    rows("UPDATE slas_contractversion SET made_at = %s", [BEGIN], using=OWNER)
    while derive_due():
        pass
    return nord


def test_every_promise_has_a_line(counted):
    keep_scorecards()
    lines = {line["measure"]: line for line in kept()["nord"].lines}
    names = ("promise", "figure", "verdict", "says", "credit")
    assert {name: tuple(line[one] for one in names) for name, line in lines.items()} == {
        "version_sync": (
            "≥ 90 % within each standard's deadline",
            *("50.00 %", "MISSED", "1 on time, 1 late, 0 pending; late: Slow", "120.00"),
        ),
        "restoration mttr_h": ("≤ 1.5 h", "2.00 h", "MISSED", "1 outage", "0"),
        "response": ("≥ 90 % within 15 min", "0.00 %", "MISSED", "1 outage", "120.00"),
        "latency": ("95 of 100 polls ≤ 40 ms", None, None, "0 polls", "0"),
    }


def test_the_page_says_every_promise(counted, signed_in):
    keep_scorecards()
    text = signed_in("viewer").get(f"/slas/?month={LAST}").content.decode()
    for said in (
        "Version synchronisation",
        "Mean time to restore",
        "95 of 100 polls ≤ 40 ms",
        "240.00 EUR",
        "late: Slow",
    ):
        assert said in text


def test_a_month_that_is_over_is_looked_at_while_a_standard_is_pending(counted):
    offered.OFFERS[1] = offered.OFFERS[1]._replace(sent=None, proven=None)
    keep_scorecards()
    assert kept()["nord"].lines[0]["says"] == "1 on time, 0 late, 1 pending"
    set_as_of(database_now() - scorecards.QUIET + timedelta(minutes=1))
    assert keep_scorecards() == 0
    set_as_of(database_now() - scorecards.QUIET)
    offered.OFFERS[1] = offered.OFFERS[1]._replace(sent=ms(END), proven=ms(END) + 1)
    assert keep_scorecards() == 1
    assert kept()["nord"].lines[0]["says"] == "2 on time, 0 late, 0 pending"


def test_round_trips_are_read_anew_when_a_day_is_over_or_one_was_missing(counted, monkeypatch):
    read: list[Any] = []
    real = counted_lines.delays_of
    monkeypatch.setattr(counted_lines, "delays_of", lambda *given: read.append(given) or real(*given))
    keep_scorecards()
    first = len(read)
    assert first == 2

    def again() -> int:
        rows("UPDATE slas_scorecard SET due_at = now() + interval '1 day'", using=OWNER)
        rows("UPDATE slas_scorecard SET as_of = now() - interval '1 hour'", using=OWNER)
        keep_scorecards()
        return len(read) - first

    rows("UPDATE slas_scorecard SET lines = (SELECT jsonb_agg(e || '{\"waits\": false}') FROM"
         " jsonb_array_elements(lines) e)", using=OWNER)  # fmt: skip
    assert again() == 0
    rows("UPDATE slas_scorecard SET lines = (SELECT jsonb_agg(CASE WHEN e ? 'stamp' THEN e || '{\"stamp\": \"1 x\"}'"
         " ELSE e END) FROM jsonb_array_elements(lines) e)", using=OWNER)  # fmt: skip
    assert again() == 2


# A site's versions -------------------------------------------------------------------------------------------
@pytest.fixture
def this_month(make_provider: Any, make_site: Any, settings: Any, monkeypatch: Any) -> tuple[Any, Any]:
    """An hour ago a standard was sent to a site of each provider; a deadline of half an hour."""
    settings.STANDARDS_OFFERED_BY = offered.SAYS
    both = make_provider("nord", name="Nord"), make_provider("sued", name="Sued")
    now, found = database_now(), []
    for provider in both:
        site = make_site(f"{provider.slug}-site", provider)
        tenures(site, (provider, BEGIN, None))
        states(site, "availability", (BEGIN, "up"))
        states(site, "reachability", (BEGIN, "reachable"))
        begin = max(ms(now) - 3_600_000, ms(END))  # the month may have begun just now
        found.append(Offer(site.pk, f"for {provider.slug}", None, begin, begin, begin, None))
    monkeypatch.setattr(offered, "OFFERS", found)
    promise = {"begins": BEGIN.isoformat(), "objectives": [objective(measure="version_sync", target="90", limit="0.5")]}
    make_contract(*(segment(one, **promise) for one in both))
    rows("UPDATE slas_contractversion SET made_at = %s", [BEGIN], using=OWNER)
    keep_scorecards()
    return both


def versions(who: Any = TEST, slug: str = "nord-site") -> list[Any]:
    with scope(who):
        site = Site.objects.filter(slug=slug).first()
        return [] if site is None else [one for _, one in versions_of_site(who, site, database_now())]


def test_a_sites_versions_are_kept_as_of_its_scorecard(this_month):
    (one,) = versions()
    as_of = kept(month=month_text(THIS))["nord"].as_of
    assert (one.standard, one.until, one.proven) == ("for nord", as_of, None)
    lasted = ms(as_of) - offered.OFFERS[0].published
    assert (one.charged_ms, one.outcome) == (lasted, "late" if lasted > 1_800_000 else "pending")
    before = value("SELECT array_agg(xmin::text ORDER BY id) FROM slas_sitesync", using=OWNER)
    set_as_of(database_now() - scorecards.QUIET, month_text(THIS))
    keep_scorecards()
    assert value("SELECT array_agg(xmin::text ORDER BY id) FROM slas_sitesync", using=OWNER) == before
    offered.OFFERS[0] = offered.OFFERS[0]._replace(proven=offered.OFFERS[0].published + 60_000)
    del offered.OFFERS[1]
    set_as_of(database_now() - scorecards.QUIET, month_text(THIS))
    keep_scorecards()
    (one,) = versions()
    assert (one.outcome, one.charged_ms, one.elapsed_ms) == ("on_time", 60_000, 60_000)
    assert versions(slug="sued-site") == []


def test_a_site_says_its_versions_to_its_provider_and_no_other(this_month, signed_in, access):
    page = signed_in("provider_viewer", provider=this_month[0]).get("/slas/sites/nord-site/budget/").content.decode()
    assert "for nord" in page
    assert "for sued" not in page
    who, _ = access("provider_operator", provider=this_month[1])
    assert versions(who) == []
    assert [one.standard for one in versions(who, "sued-site")] == ["for sued"]
    narrowed, _ = access("manager", regions=["DACH"])
    assert versions(narrowed) == []
