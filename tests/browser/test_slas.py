"""SLAs before a real browser: a contract from its form, maintenance from both sides, and axe on every page."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from playwright.sync_api import expect

from fleet.kit.tenancy import scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from sites.models import Site
from slas.models import Contract, Incident
from slas.services.deriving import derive_due
from slas.services.disputes import file_dispute
from slas.services.mailing import save_schedule
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.scorecards import keep_scorecards
from slas.services.upkeep import request_window
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_overview import WAIT_MS
from tests.browser.test_pages import look_at
from tests.conftest import everything
from tests.slas.factories import TEST, interval, make_contract, segment

pytestmark = pytest.mark.browser
PAGES = (
    *("/slas/", "/slas/?provider=north&provider=south", "/slas/contracts/", "/slas/contracts/new/?as=json"),
    *("/slas/contracts/shops/", "/slas/contracts/shops/edit/", "/slas/maintenance/", "/slas/maintenance/new/"),
    *("/slas/maintenance/{window}/", "/slas/outages/", "/slas/outages/{outage}/", "/sites/north-0/outages/"),
    *("/slas/disputes/", "/slas/disputes/{dispute}/", "/slas/trends/", "/slas/reports/", "/slas/reports/{report}/"),
    *("/slas/reports/compare/", "/slas/reports/group/", "/slas/reports/providers/north/", "/slas/reports/schedules/"),
    *("/slas/reports/schedules/{schedule}/", "/slas/reports/schedules/new/?contract=shops"),
)
RULES = {"counts": "excluded", "notice_h": "72", "cap_h": "8", "cap_per": "year"}
NOW = datetime.now(UTC).replace(microsecond=0)
BEGINS = NOW + timedelta(days=10)


def _forget() -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("TRUNCATE slas_contract, slas_window, slas_incident, slas_scorecard CASCADE")
        cursor.execute("SET session_replication_role = replica")  # past the guard of facts
        cursor.execute("DELETE FROM edge_sites_stateinterval WHERE source = 'test'")
        cursor.execute("SET session_replication_role = DEFAULT")


@pytest.fixture
def clean(stage: Stage) -> Iterator[None]:
    """Leaves nothing of SLAs to the next test."""
    yield
    stage.ask(_forget)


@pytest.fixture
def promised(stage: Stage, clean: None) -> dict[str, Any]:
    """A contract of both providers with its scorecards, a window that waits, and an outage that is disputed."""

    def make() -> dict[str, Any]:
        make_contract(*(segment(slug, begins="2026-01-01T00:00", maintenance=RULES) for slug in ("north", "south")))
        keep_scorecards()
        actor, rights = access_of(User.objects.using("owner").get(username="north"))
        times = {"begins": BEGINS, "ends": BEGINS + timedelta(hours=2)}
        window = request_window(actor=actor, rights=rights, sites=["north-0"], title="UPS batteries", **times)
        site = Site.objects.using("owner").get(slug="north-0")
        since = site.created_at + timedelta(milliseconds=100)
        interval(site, "availability", "down", since, since + timedelta(milliseconds=300), source="test")
        derive_due()
        with scope(TEST):
            outage = Incident.objects.filter(site=site).latest("pk")
        given = {"cause": "third_party", "text": "an excavator cut the cable"}
        dispute = file_dispute(actor=actor, rights=rights, incident=outage, **given)
        made = {"window": window.pk, "outage": outage.pk, "dispute": dispute.pk}
        return made | {"schedule": _mailed(), "report": _reported()}

    found: dict[str, Any] = stage.ask(make)
    return found


def _mailed() -> int:
    desk = {"provider": "north", "name": "Duty desk", "address": "desk@north.example"}
    values = {"contract": "shops", "each": "month", "lives": ["provisional", "final"], "recipients": [desk]}
    return save_schedule(actor=TEST, rights=everything(), values=values).pk


def _reported() -> int:
    with scope(TEST):
        contract = Contract.objects.get(slug="shops")
    report = ask_for_report(actor=TEST, rights=everything(), contract=contract, period=f"{NOW:%Y-%m}")
    make_wanted()
    return report.pk


@LOOKS
def test_axe_finds_nothing_serious(sign_in: SignIn, promised: dict[str, Any], theme: str, width: int) -> None:
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, *(path.format(**promised) for path in PAGES))


@pytest.mark.usefixtures("clean")
def test_a_contract_is_made_in_the_form_and_a_fault_shows_at_its_field_while_one_types(sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.get_by_role("link", name="SLA", exact=True).click()
    page.get_by_role("link", name="Contracts", exact=True).click()
    page.locator("#contract-new").click()
    page.locator("#id_name").fill("Shops")
    page.locator("#id_slug").fill("shops")
    page.locator("#segments-0-provider").select_option("north")
    page.locator("#segments-0-begins").fill(f"{NOW:%Y-%m}-01T00:00")
    page.locator("#segments-0-fee").fill("1200")
    target, fault = (
        page.locator("#segments-0-objectives-0-target"),
        page.locator("#fault-segments-0-objectives-0-target"),
    )
    target.fill("100")
    expect(fault).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#contract-says")).to_contain_text("1 thing to mend.")
    target.fill("99.9")
    expect(page.locator("#contract-says")).to_contain_text("This can be agreed on.", timeout=WAIT_MS)
    expect(fault).to_be_empty()
    page.locator("#id_reason").fill("agreed in a meeting")
    page.locator("#contract-save").click()
    expect(page.get_by_text("Agreed: version 1 counts from now on.")).to_be_visible()
    expect(page.locator("main")).to_contain_text("99.9 %")


@pytest.mark.usefixtures("promised")
def test_a_provider_asks_for_maintenance_and_a_manager_approves_it(sign_in: SignIn) -> None:
    page = sign_in("north")
    page.get_by_role("link", name="SLA", exact=True).click()
    page.get_by_role("link", name="Maintenance", exact=True).click()
    page.locator("#window-new").click()
    page.locator("#id_title").fill("New uplink")
    page.locator("#id_begins").fill(f"{NOW + timedelta(hours=9):%Y-%m-%dT%H:%M}")
    page.locator("#id_ends").fill(f"{NOW + timedelta(hours=10):%Y-%m-%dT%H:%M}")
    page.locator("#id_sites").fill("north-1")
    expect(page.locator("#effects")).to_contain_text("It counts only if whoever approves it says why.", timeout=WAIT_MS)
    page.locator("#id_begins").fill(f"{BEGINS:%Y-%m-%dT%H:%M}")
    page.locator("#id_ends").fill(f"{BEGINS + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    expect(page.locator("#effects")).not_to_contain_text("It counts only if", timeout=WAIT_MS)
    page.locator("#window-send").click()
    expect(page.get_by_text("Asked for; the other side answers.")).to_be_visible()
    assert page.locator("#window-approve").count() == 0
    other = sign_in("manager")
    other.goto("/slas/maintenance/")
    other.locator("[data-row-link]", has_text="New uplink").click()
    other.locator("#window-approve").click()
    expect(other.get_by_text("The maintenance is approved")).to_be_visible()
    page.reload()
    expect(page.locator(".pagehead")).to_contain_text("Approved")


@pytest.mark.usefixtures("promised")
def test_trends_are_drawn_where_they_are_fetched_and_again_in_another_theme(sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.goto("/slas/contracts/shops/")
    canvases = page.locator("#trends [data-trend] canvas")
    expect(canvases).to_have_count(2, timeout=WAIT_MS)
    expect(page.locator("[data-trend-reading]").first).to_contain_text("99.50 % promised")
    page.evaluate("document.dispatchEvent(new Event('theme:change'))")
    expect(canvases).to_have_count(2)
    table = page.locator("#trends details").first
    expect(table.get_by_role("cell", name="99.50 %")).to_have_count(0)
    table.locator("summary").click()
    expect(table.locator("td", has_text="99.50 %").first).to_be_visible()
    page.goto("/slas/?provider=north&provider=south")
    expect(page.locator("#trends [data-trend] canvas").first).to_be_visible(timeout=WAIT_MS)


@pytest.mark.usefixtures("promised")
def test_a_schedule_is_made_in_the_form(sign_in: SignIn) -> None:
    page = sign_in("manager")
    page.goto("/slas/reports/")
    page.locator("#by-mail").click()
    page.locator("summary", has_text="New schedule").click()
    page.locator("#new-contract").select_option("shops")
    page.locator("#schedule-new").click()
    page.locator("#contacts-south").fill("Night desk <night@south.example>")
    page.locator("#schedule-save").click()
    expect(page.get_by_text("It is saved; the next revision is mailed.")).to_be_visible()
    expect(page.locator(".mailpeople")).to_contain_text("the part of South")
    page.locator("#schedule-switch").click()
    expect(page.locator(".facts")).to_contain_text("Paused")
