"""A site's past before a real browser: what a cut left, what the journal corrected, and its pages."""

import pytest
from playwright.sync_api import expect

from sites.models import SiteState, StateInterval
from tests.browser.conftest import SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import serious
from tests.flows.system import wait_for

pytestmark = pytest.mark.browser


def unreachable(site_id: int) -> bool:
    return SiteState.objects.using("owner").filter(site=site_id, reachability="unreachable").exists()


def corrected(site_id: int) -> bool:
    return StateInterval.objects.using("owner").filter(site=site_id).exclude(superseded_at=None).exists()


def test_a_cut_is_on_the_time_line_with_what_was_thought_before(stage: Stage, sign_in: SignIn) -> None:
    site = stage.sites["Oslo Depot"]
    stage.fail("dark", site)
    wait_for(lambda: stage.ask(unreachable, site.pk), what="the site to be unreachable")
    stage.settle()
    wait_for(lambda: stage.ask(corrected, site.pk), what="the journal to correct what was unknown")
    pages = [sign_in("noc", theme=theme, width=width, height=900) for theme, width in (("dark", 1440), ("light", 390))]
    for page in pages:
        page.goto(f"/sites/{site.slug}/")
        page.get_by_role("link", name="Time line and its evidence").click()
        reachability = page.get_by_role("region", name="Reachability")
        expect(reachability.get_by_text("Unreachable").first).to_be_visible()
        expect(page.locator(".history .is-fallen")).to_have_count(0)
        assert serious(page) == []
        page.get_by_role("link", name="With what was recorded before").click()
        fallen = page.locator(".history .is-fallen").first
        expect(fallen).to_contain_text("corrected on")
        expect(fallen).to_contain_text("by the site's journal entries")
        assert serious(page) == []
        page.get_by_role("link", name="Only what stands").click()
        expect(page.locator(".history .is-fallen")).to_have_count(0)
        page.get_by_role("link", name="24 h").click()
        expect(page.get_by_role("heading", name="Last 24 h")).to_be_visible()
        page.get_by_role("link", name="Journal", exact=True).click()
        expect(page.get_by_role("heading", name="Journal", exact=True, level=1)).to_be_visible()
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
