"""SLAs before a real browser: a contract from its form, maintenance from both sides, and axe on every page."""

import subprocess
import sys
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
from slas.services.report_files import make_files
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.scorecards import keep_scorecards
from slas.services.upkeep import request_window
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.reported import keep_report
from tests.browser.stage import Stage
from tests.browser.test_pages import look_at
from tests.conftest import everything
from tests.database import truncate
from tests.slas.factories import TEST, interval, make_contract, objective, segment

pytestmark = pytest.mark.browser
PAGES = (
    *("/slas/", "/slas/?provider=north&provider=south", "/slas/contracts/", "/slas/contracts/new/?as=json"),
    *("/slas/contracts/shops/", "/slas/contracts/shops/edit/", "/slas/maintenance/", "/slas/maintenance/new/"),
    *("/slas/maintenance/{window}/", "/slas/outages/", "/slas/outages/{outage}/", "/sites/north-0/outages/"),
    *("/slas/disputes/", "/slas/disputes/{dispute}/"),
    *("/slas/reports/", "/slas/reports/{report}/", "/slas/reports/{said}/?promise=latency"),
    "/slas/reports/{report}/sites/north-0/",
    *("/slas/trends/", "/slas/reports/compare/", "/slas/reports/group/", "/slas/reports/providers/north/"),
    *("/slas/reports/schedules/", "/slas/reports/schedules/{schedule}/", "/slas/reports/schedules/new/?contract=shops"),
)
PROMISES = [
    objective(),
    objective(measure="version_sync", target="90", limit="24"),
    {"measure": "restoration", "figure": "mttr_h", "limit": "4"},
    objective(measure="response", target="90", limit="15"),
    {"measure": "latency", "percentile": 95, "limit": "50"},
]
RULES = {"counts": "excluded", "notice_h": "72", "cap_h": "8", "cap_per": "year"}
NOW = datetime.now(UTC).replace(microsecond=0)
BEGINS = NOW + timedelta(days=10)


def _forget() -> None:
    truncate("slas_contract, slas_window, slas_incident, slas_scorecard")
    with connections["owner"].cursor() as cursor:
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
        terms = {"begins": "2026-01-01T00:00", "maintenance": RULES, "objectives": PROMISES}
        make_contract(*(segment(slug, **terms) for slug in ("north", "south")))
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
        schedule = _mailed()
        with scope(TEST):
            contract = Contract.objects.get()
        report = ask_for_report(actor=TEST, rights=everything(), contract=contract, period=f"{NOW:%Y-%m}")
        make_wanted()
        return {
            "window": window.pk,
            "outage": outage.pk,
            "dispute": dispute.pk,
            "report": report.pk,
            "schedule": schedule,
            "said": keep_report("shops", "north"),
        }

    found: dict[str, Any] = stage.ask(make)
    return found


def _mailed() -> int:
    desk = {"provider": "north", "name": "Duty desk", "address": "desk@north.example"}
    values = {"contract": "shops", "each": "month", "lives": ["provisional", "final"], "recipients": [desk]}
    return save_schedule(actor=TEST, rights=everything(), values=values).pk


@LOOKS
def test_axe_finds_nothing_serious(
    sign_in: SignIn, stage: Stage, promised: dict[str, Any], theme: str, width: int
) -> None:
    assert stage.ask(make_files) == 4
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, *(path.format(**promised) for path in PAGES))


MAKE_FILES = (
    "import django; django.setup(); from slas.services.report_files import make_files; assert make_files() == 4"
)


def test_signed_files_show_by_themselves_and_are_downloaded(
    sign_in: SignIn, stage: Stage, promised: dict[str, Any]
) -> None:
    page = sign_in("admin")
    page.goto(f"/slas/reports/{promised['report']}/")
    expect(page.get_by_text("Being made; it shows here by itself.")).to_have_count(4)
    environ = stage.environ | {"DJANGO_SETTINGS_MODULE": "fleet.settings"}
    subprocess.run([sys.executable, "-c", MAKE_FILES], env=environ, check=True)
    page.get_by_role("link", name="PDF, evidence").click()
    for kind, begin in (("pdf", b"%PDF-"), ("bundle", b'{"payload":')):
        link = page.locator(f"#file-north-{kind}")
        expect(link).to_be_visible()
        with page.expect_download() as found:
            link.click()
        assert found.value.path().read_bytes().startswith(begin)
        assert found.value.suggested_filename.startswith(f"shops-north-{NOW:%Y-%m}-r1.")
    page.get_by_text("How to check them").click()
    expect(page.get_by_text("python3 slas-verify.pyz bundle.json --key")).to_be_visible()


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
    expect(fault).not_to_be_empty()
    expect(page.locator("#contract-says")).to_contain_text("1 thing to mend.")
    target.fill("99.9")
    expect(page.locator("#contract-says")).to_contain_text("This can be agreed on.")
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
    expect(page.locator("#effects")).to_contain_text("It counts only if whoever approves it says why.")
    page.locator("#id_begins").fill(f"{BEGINS:%Y-%m-%dT%H:%M}")
    page.locator("#id_ends").fill(f"{BEGINS + timedelta(hours=1):%Y-%m-%dT%H:%M}")
    expect(page.locator("#effects")).not_to_contain_text("It counts only if")
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


def test_sites_of_a_report_are_chosen_by_promise_and_searched(promised: dict[str, Any], sign_in: SignIn) -> None:
    page = sign_in("manager")
    page.goto(f"/slas/reports/{promised['said']}/", wait_until="networkidle")
    page.locator("#promise").select_option("latency")
    page.locator("#site-search").fill("north-0")
    page.get_by_role("button", name="Show").click()
    row = page.locator("section[aria-labelledby=sites-title] tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("90 ms")
    page.goto("about:blank")  # else it asks again for a report that the clean-up has taken away


@pytest.mark.usefixtures("promised")
def test_trends_are_drawn_where_they_are_fetched_and_again_in_another_theme(sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.goto("/slas/contracts/shops/")
    canvases = page.locator("#trends [data-trend] canvas")
    expect(canvases).to_have_count(4)
    expect(page.locator("[data-trend-reading]").first).to_contain_text("99.50 % promised")
    page.evaluate("document.dispatchEvent(new Event('theme:change'))")
    expect(canvases).to_have_count(4)
    table = page.locator("#trends details").first
    expect(table.get_by_role("cell", name="99.50 %")).to_have_count(0)
    table.locator("summary").click()
    expect(table.locator("td", has_text="99.50 %").first).to_be_visible()
    page.goto("/slas/?provider=north&provider=south")
    expect(page.locator("#trends [data-trend] canvas").first).to_be_visible()


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
