"""Error budgets from the database, each derived by hand; alerts at their thresholds, to the millisecond."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from slas.models import Budget, BurnAlert, ContractVersion
from slas.present.budgets import lines_of
from slas.selectors.budgets import STALE, Watch, alerts_in, budgets_in, budgets_of, left_of
from slas.services import budgets as service
from slas.services.contracts import change_contract
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.calls import get
from tests.slas.factories import (
    NOVEMBER,
    TEST,
    agreement,
    interval,
    make_contract,
    objective,
    segment,
    states,
    tenures,
)

pytestmark = pytest.mark.usefixtures("plain_static", "database")
H = 3_600_000
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
NOW = NOVEMBER + timedelta(days=20)
# 5 minutes and an hour at 14.4 times 0.5 %: 7.2 % of each window.
HOUR_MS = timedelta(milliseconds=259_200)
JUST_NOW = NOW - timedelta(milliseconds=1)


@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


@pytest.fixture
def keep(monkeypatch: Any) -> Callable[..., int]:
    """The pass at a moment."""

    def run(now: datetime = NOW) -> int:
        monkeypatch.setattr(service, "database_now", lambda: now)
        return service.work_out_budgets()

    return run


def make(make_site: Any, provider: Any, slug: str, *changes: tuple[datetime, str], since: datetime = LONG_AGO) -> Any:
    site = make_site(slug, provider)
    tenures(site, (provider, LONG_AGO, None))
    states(site, "availability", (since, "up"), *changes)
    return site


def down(end: datetime, span: timedelta) -> tuple[tuple[datetime, str], tuple[datetime, str]]:
    return (end - span, "down"), (end, "up")


def agreed(*segments: Any) -> ContractVersion:
    """A contract that was agreed on long ago."""
    version = make_contract(*segments)
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [LONG_AGO, version.pk], using=OWNER)
    return version


def watch(version: ContractVersion, now: datetime = NOW) -> Watch:
    with scope(TEST):
        (found,) = budgets_of(version.contract, now)
    return found


def fired(**which: Any) -> list[tuple[int, bool]]:
    with scope(TEST):
        found = BurnAlert.objects.filter(**which).order_by("pair", "pk")
        return [(one.pair, one.ended_at is None) for one in found]


# Budgets ----------------------------------------------------------------------------------------------------
def test_the_budget_is_that_of_the_whole_month_from_its_first_day_and_can_go_below_zero(make_site, nord):
    site = make(make_site, nord, "own", *down(NOVEMBER + timedelta(hours=5), timedelta(hours=4)))
    make(make_site, nord, "fine")
    total, *each = watch(agreed(segment("nord")), NOVEMBER + timedelta(days=1)).rows
    own, fine = sorted(each, key=lambda row: row.site_id != site.pk)
    assert (own.budget.allowed_ms, own.budget.spent_ms) == (Fraction(36 * H, 10), 4 * H)  # 0.5 % of 720 hours
    assert (own.budget.left_ms, own.budget.left) == (Fraction(-4 * H, 10), Fraction(-1, 9))
    assert (fine.budget.left, total.site_id) == (1, None)
    assert (total.budget.allowed_ms, total.budget.spent_ms) == (Fraction(72 * H, 10), 4 * H)


def test_only_service_hours_allow_anything(make_site, nord):
    hours = {"timezone": "UTC", "weekly": {"mon": [["09:00", "17:00"]]}}
    make(make_site, nord, "own")
    total = watch(agreed(segment("nord", calendar=hours))).rows[0]
    assert total.budget.allowed_ms == 5 * 8 * H * Fraction(5, 1000)  # five Mondays


def test_a_site_that_was_retired_has_nothing_ahead(make_site, nord):
    gone = make(make_site, nord, "gone")
    states(gone, "availability")
    interval(gone, "availability", "up", LONG_AGO, NOVEMBER + timedelta(days=12))
    assert watch(agreed(segment("nord"))).rows[0].budget.allowed_ms == 12 * 24 * H * Fraction(5, 1000)


def test_what_is_kept_is_what_is_worked_out_and_only_what_changed_is_written(make_site, nord, keep):
    site = make(make_site, nord, "own", *down(NOVEMBER + timedelta(days=2), timedelta(hours=1)))
    version = agreed(segment("nord"))
    keep()
    with scope(TEST):
        kept = {row.site_id: (row.allowed_ms, row.spent_ms, row.left_ms) for row in Budget.objects.all()}
    assert kept == dict.fromkeys([None, site.pk], (36 * H // 10, H, 26 * H // 10))
    keep(NOW + timedelta(minutes=1))
    with scope(TEST):
        assert Budget.objects.get(site=site).as_of == NOW
        assert Budget.objects.get(site=None).as_of == NOW + timedelta(minutes=1)
    change_contract(
        actor=TEST, rights=everything(), contract=version.contract, expect=1, reason="dearer",
        agreement=agreement(segment("nord", objectives=[objective(target="99")])),
    )  # fmt: skip
    rows("UPDATE slas_contractversion SET made_at = %s WHERE number = 2", [NOW], using=OWNER)
    keep(NOW + timedelta(minutes=2))
    with scope(TEST):
        assert {row.segment.version.number for row in Budget.objects.select_related("segment__version")} == {2}


# Alerts -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("short_of_ms", "pairs"), [(0, [(0, True)]), (1, [])])
def test_an_alert_begins_at_its_threshold_and_not_a_millisecond_below(make_site, nord, keep, short_of_ms, pairs):
    make(make_site, nord, "own", *down(NOW, HOUR_MS - timedelta(milliseconds=short_of_ms)))
    agreed(segment("nord", objectives=[objective(burn=["14.4", "14.3", "14.2", "14.1"])]))
    keep()
    assert fired() == pairs


def test_it_ends_when_the_short_window_is_over_it_and_begins_only_once(make_site, nord, keep):
    site = make(make_site, nord, "own", *down(NOW, HOUR_MS))
    agreed(segment("nord"))
    assert keep() == len(fired(ended_at=None)) > 0
    keep(NOW + timedelta(seconds=1))
    assert fired(pair=0) == [(0, True)]
    keep(NOW + timedelta(minutes=6))
    assert fired(pair=0) == [(0, False)]
    with scope(TEST):
        one = BurnAlert.objects.get(pair=0)
    assert (one.site_id, one.began_at, one.rate_long, one.threshold) == (site.pk, NOW, 14.4, 14.4)


def test_none_before_a_full_long_window_of_history(make_site, nord, keep):
    make(make_site, nord, "own", *down(NOW, HOUR_MS), since=NOW - timedelta(minutes=59, seconds=59))
    agreed(segment("nord"))
    keep()
    assert fired() == []
    keep(NOW + timedelta(seconds=1))
    assert fired() == [(0, True)]


def test_frozen_while_less_than_half_is_known(make_site, nord, keep):
    changes = ((NOW - timedelta(minutes=59), "unknown"), (NOW - timedelta(minutes=29), "up"), *down(NOW, HOUR_MS))
    make(make_site, nord, "own", *changes)
    agreed(segment("nord", objectives=[objective(burn=["14.4", "14.3", "14.2", "14.1"])]))
    keep()
    assert fired() == [(0, True)]
    states_of = ((NOW - timedelta(minutes=60), "unknown"), (NOW - timedelta(minutes=29), "up"), *down(NOW, HOUR_MS))
    make(make_site, nord, "dim", *states_of)
    keep()
    assert len(fired()) == 1


def test_a_pooled_promise_burns_for_all_together(make_site, nord, keep):
    make(make_site, nord, "own", *down(NOW, HOUR_MS))
    make(make_site, nord, "fine")
    agreed(segment("nord", objectives=[objective(scope="pooled", burn=["7.2", "7.1", "7", "6.9"])]))
    keep()
    with scope(TEST):
        assert [(one.site_id, one.rate_long) for one in BurnAlert.objects.all()] == [(None, 7.2)]


# What is left -----------------------------------------------------------------------------------------------
def test_what_is_left_of_some_sites_is_the_worst_of_their_segments(make_site, nord, keep):
    bad = make(make_site, nord, "bad", *down(NOVEMBER + timedelta(days=2), timedelta(hours=3.6)))
    fine, none = make(make_site, nord, "fine"), make_site("none")
    agreed(segment("nord"))
    keep()
    with scope(TEST):
        assert left_of([bad.pk], NOW) == (0, "")
        assert left_of([bad.pk, fine.pk], NOW) == (Fraction(1, 2), "")
        assert left_of([none.pk], NOW) is None
        share, problem = left_of([bad.pk], NOW + STALE + timedelta(seconds=1))
    assert share is None
    assert problem.startswith("was last worked out at 2026-11-21 00:00 UTC")


# Who sees it ------------------------------------------------------------------------------------------------
def test_a_provider_sees_its_own_and_who_is_limited_none(make_site, make_provider, nord, keep, access):
    other = make_provider("sued")
    make(make_site, nord, "own", *down(NOW, HOUR_MS))
    make(make_site, other, "theirs", *down(NOW, HOUR_MS))
    agreed(segment("nord"), segment("sued"))
    keep()
    for provider in (nord, other):
        who, _ = access("provider_viewer", provider=provider)
        with scope(who):
            assert {row.provider_id for row in budgets_in(who)} == {provider.pk}
            assert {row.provider_id for row in alerts_in(who)} == {provider.pk}
    who, _ = access("viewer", regions=["north"])
    with scope(who):
        assert not budgets_in(who).exists()
        assert not alerts_in(who).exists()


def test_the_api_lists_what_its_caller_may_see(make_site, make_provider, nord, api_client):
    make_site("own", nord)
    make_site("theirs", make_provider("sued"))
    make_contract(segment("nord", begins="2025-01-01T00:00"), segment("sued", begins="2025-01-01T00:00"))
    service.work_out_budgets()
    whole = {row["provider"]: row for row in get(api_client("manager"), "/budgets?whole=true")["items"]}
    assert sorted(whole) == ["nord", "sued"]
    assert whole["nord"]["left_ms"] == whole["nord"]["allowed_ms"] > 0
    theirs = api_client("provider_viewer", provider=nord)
    assert {(row["provider"], row["site"]) for row in get(theirs, "/budgets")["items"]} == {
        ("nord", None),
        ("nord", "own"),
    }
    assert get(theirs, "/burn-alerts?active=true") == {"items": [], "next": None}
    assert get(api_client("viewer", regions=["north"]), "/budgets")["items"] == []


# Where people see it ----------------------------------------------------------------------------------------
def test_pages_say_what_is_left_signed_and_since_when_it_burns(
    make_site, make_provider, nord, keep, signed_in, monkeypatch
):
    make(make_site, nord, "own", *down(JUST_NOW, timedelta(hours=4)))
    make(make_site, make_provider("sued"), "theirs")
    agreed(segment("nord"), segment("sued"))
    keep()
    show_at(monkeypatch, NOW)
    manager = signed_in("manager")
    for path in ("/slas/contracts/shops/", "/slas/contracts/shops/budget/", "/slas/sites/own/budget/"):
        page = manager.get(path).content.decode()
        assert "<b>−24.0 min</b> left, <b>−11.2 %</b>" in page, path  # 3 h 36 min allowed, 4 h lost
        assert "times as fast as allowed" in page, path
        assert NOW.isoformat() in page, path
    site = manager.get("/slas/sites/theirs/budget/").content.decode()
    assert "<b>216 min</b> left, <b>100.0 %</b>" in site
    assert "times as fast" not in site
    theirs = signed_in("provider_viewer", provider=nord)
    assert "sued" not in theirs.get("/slas/contracts/shops/budget/").content.decode().lower()
    assert theirs.get("/slas/sites/theirs/budget/").status_code == 404
    limited = signed_in("viewer", regions=["north"])
    assert limited.get("/slas/contracts/shops/budget/").status_code == 404


def test_what_burns_needs_attention_and_is_counted_at_risk_by_whom_it_is_for(
    make_site, make_provider, nord, keep, signed_in, monkeypatch
):
    other = make_provider("sued")
    for slug in ("own", "too"):
        make(make_site, nord, slug, *down(JUST_NOW, timedelta(hours=4)))
    agreed(segment("nord"), segment("sued"))
    keep()
    show_at(monkeypatch, NOW)
    page = signed_in("manager").get("/").content.decode()
    assert "200.0 times as fast as allowed: availability of 2 sites" in page
    assert "<b>2</b>SLA at risk" in page
    assert page.count('href="/slas/contracts/shops/#budget"') == 2
    for who in (signed_in("provider_viewer", provider=other), signed_in("viewer", regions=["north"])):
        assert "as fast as allowed" not in who.get("/overview/attention/").content.decode()
        assert "<b>0</b>SLA at risk" in who.get("/slas/at-risk/").content.decode()
    assert "<b>2</b>SLA at risk" in signed_in("provider_viewer", provider=nord).get("/slas/at-risk/").content.decode()


def show_at(monkeypatch: Any, now: datetime) -> None:
    """Pages take this moment for now."""
    monkeypatch.setattr("slas.views.budgets.database_now", lambda: now)


def test_a_site_that_lost_more_than_its_part_of_a_promise_of_all_together_breaks_none(make_site, nord, keep):
    make(make_site, nord, "bad", *down(NOW - timedelta(days=10), timedelta(hours=4)))
    make(make_site, nord, "fine")
    agreed(segment("nord", objectives=[objective(scope="pooled")]))
    keep()
    with scope(TEST):
        lines = lines_of(budgets_in(TEST), [], {}, {})
    looks = {line.budget.site.slug if line.budget.site else "": line.look[1] for line in lines}
    assert looks == {"": "On track", "bad": "Beyond its part", "fine": "On track"}
