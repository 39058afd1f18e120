"""Standards and compliance before a real browser: from the form to the ring, drift that shows by itself, axe."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from agent.backends.catalogue import make_component
from fleet.standards.services.judging import judge_all
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import look_at
from tests.database import OWNER, rows, truncate
from tests.fleet.standards.factories import make_ring, make_standard

pytestmark = pytest.mark.browser
VISION = make_component("workload", "vision-qc", "7.3.2")
IMAGE = f"registry.example/vision-qc@{VISION.digest}"
PAGES = (
    *("/compliance/?state=all", "/standards/", "/standards/r1/", "/standards/new/", "/standards/new/?as=yaml"),
    *("/standards/diff/?before=r1&after=r2", "/standards/r2/give/?ring=rest", "/rings/", "/rings/rest/", "/rings/new/"),
    "/sites/north-0/compliance/",
)
_TABLES = "standards_standard, standards_ring, standards_ringstandard, standards_sitecompliance"


def _forget() -> None:
    truncate(f"{_TABLES}, standards_complianceinterval, standards_componentverdict")
    rows("UPDATE edge_sites_sitestate SET compliance = 'unknown'", using=OWNER)


@pytest.fixture
def standards(stage: Stage) -> Iterator[None]:
    """Two standards, one of which all sites follow; and the process that judges."""

    def make() -> None:
        make_ring(make_standard("r1", {"workloads": [{"name": "vision-qc", "image": IMAGE}]}), "rest")
        make_standard("r2", {"os": {"kernel": "6.9.0"}})
        judge_all()

    stage.start_worker("worker")
    stage.ask(make)
    yield
    stage.end("worker")
    stage.ask(_forget)


@pytest.mark.usefixtures("standards")
@LOOKS
def test_axe_finds_nothing_serious(sign_in: SignIn, theme: str, width: int) -> None:
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, *PAGES)


@pytest.mark.usefixtures("standards")
def test_from_the_form_over_publishing_to_the_ring(sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Standards", exact=True).click()
    page.get_by_role("link", name="New standard").click()
    page.locator("#id_name").fill("2026.12-r1")
    page.locator("#id_w-0-name").fill("vision-qc")
    page.locator("#id_w-0-image").fill(IMAGE)
    page.get_by_role("button", name="YAML").click()
    assert IMAGE in page.locator("#id_text").input_value()
    assert page.locator("#id_name").input_value() == "2026.12-r1"
    page.get_by_role("button", name="Keep the draft").click()
    page.locator("#publish").click()
    page.get_by_role("link", name="Give it to a ring").click()
    page.get_by_role("link", name="Rest").click()
    expect(page.locator(".effects")).to_contain_text("7 sites will be in drift")
    page.locator("#id_reason").fill("december")
    page.locator("#give-now").click()
    expect(page.get_by_text("Rest follows 2026.12-r1 from now on.")).to_be_visible()


@pytest.mark.usefixtures("standards")
def test_drift_shows_by_itself_on_the_page_and_on_the_sites_card(sign_in: SignIn, stage: Stage) -> None:
    page: Page = sign_in("noc")
    page.goto("/compliance/?state=all")
    expect(page.locator(".sharechart canvas")).to_be_visible()
    row = page.locator("tr", has_text="Oslo Depot").first
    before = row.locator(".state").inner_text()
    stage.judge("down", stage.sites["Oslo Depot"])
    card: Page = sign_in("noc")
    card.goto("/sites/north-0/")
    expect(card.locator("#site-compliance")).to_contain_text("exited")
    expect(row).to_contain_text("exited")
    stage.settle()
    expect(row).not_to_contain_text("exited")
    expect(row.locator(".state")).to_have_text(before)


@pytest.mark.usefixtures("standards")
def test_a_ring_counts_the_sites_that_its_selector_holds_while_one_types(sign_in: SignIn) -> None:
    page = sign_in("admin")
    page.goto("/rings/rest/")
    expect(page.locator("#ring-held")).to_contain_text("It holds 7 active sites")
    page.locator("#id_labels").press_sequentially("never=there")
    expect(page.locator("#ring-held")).to_contain_text("It holds 0 active sites")
