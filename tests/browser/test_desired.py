"""What a site runs, before a real browser: a document from the form to the history, a freeze, the card by itself."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from sites.models import Site
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import serious
from tests.sites.told import document, forget_desired

pytestmark = pytest.mark.browser
IMAGE = "registry.example/pos@sha256:" + "a" * 64


@pytest.fixture
def site(stage: Stage) -> Iterator[Site]:
    """A site that was never told anything; no other test tells it any, since the signer signs no version twice."""
    found = stage.ask(lambda: Site.objects.using("owner").get(slug="south-6"))
    yield found
    stage.ask(forget_desired, found)


def fill(page: Page, site: Site) -> None:
    page.goto(f"/sites/{site.slug}/desired/apply/")
    page.get_by_label("Name", exact=True).fill("pos")
    page.get_by_label("Version", exact=False).first.fill("4.2.0")
    page.get_by_label("Image", exact=True).fill(IMAGE)
    page.get_by_label("Why").fill("first tills")
    page.get_by_role("button", name="Preview").click()


@LOOKS
def test_from_the_form_over_the_preview_to_the_history(site: Site, sign_in: SignIn, theme: str, width: int) -> None:
    page = sign_in("admin", theme=theme, width=width, height=900)
    page.goto(f"/sites/{site.slug}/")
    page.get_by_role("link", name="Apply a document").click()
    expect(page.get_by_role("heading", name="Apply a document")).to_be_visible()
    assert serious(page) == []
    fill(page, site)
    expect(page.get_by_text("pos: new, at 4.2.0")).to_be_visible()
    expect(page.get_by_text("The site starts 1 container.")).to_be_visible()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#apply-now").click()
    expect(page.get_by_text("first tills").first).to_be_visible()
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_card_tells_of_a_freeze_by_itself(stage: Stage, site: Site, sign_in: SignIn) -> None:
    stage.ask(document, site)
    noc, viewer = sign_in("noc"), sign_in("admin")
    for page in (noc, viewer):
        page.goto(f"/sites/{site.slug}/")
    noc.locator("#desired-freezing summary").click()
    noc.locator("#desired-freeze-reason").fill("a storm is coming")
    noc.locator("#desired-freezing").get_by_role("button", name="Freeze").click()
    for page in (noc, viewer):
        expect(page.locator("#desired .idstate", has_text="Frozen")).to_be_visible()
