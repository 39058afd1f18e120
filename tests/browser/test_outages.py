"""Outages before a real browser: taken and spoken of at night by keyboard; disputed by a provider, and decided."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from fleet.people.services import make_user
from slas.services.deriving import derive_due
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage, slow_passwords
from tests.browser.test_pages import look_at
from tests.conftest import PASSWORD, TEST
from tests.database import OWNER, rows, truncate
from tests.flows.system import wait_for

pytestmark = pytest.mark.browser
TABS = 80


def _forget() -> None:
    truncate(
        "slas_incident, slas_incidentspan, slas_finding, slas_incidentnote, slas_dispute, slas_disputestep,"
        " slas_disputefile, slas_adjustment"
    )


@pytest.fixture
def outage(stage: Stage) -> Iterator[int]:
    """Oslo is down, and its outage is on record. Returns its number."""
    stage.fail("down", stage.sites["Oslo Depot"])
    stage.wait_for_state("Oslo Depot", "down")

    def number() -> int:
        derive_due()
        found = rows("SELECT incident_id FROM slas_incidentspan WHERE kind = 'down' AND valid_to IS NULL", using=OWNER)
        return int(found[0][0]) if found else 0

    wait_for(lambda: stage.ask(number), what="the outage to be derived")
    yield stage.ask(number)
    stage.settle()
    stage.ask(_forget)


def tab_to(page: Page, name: str) -> None:
    """Reach an element by the Tab key alone."""
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    pytest.fail(f"the Tab key does not reach {name}")


def test_at_night_it_is_taken_and_spoken_of_by_keyboard(outage: int, sign_in: SignIn) -> None:
    page = sign_in("noc")
    row = page.locator("#attention [data-site=north-0]")
    expect(row).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator("#att-north-0")).to_be_focused()
    page.keyboard.press("a")
    expect(row.locator(".owner")).to_contain_text("noc")
    expect(page.locator("#att-north-0")).to_be_focused()
    page.keyboard.press("o")
    page.wait_for_url(f"**/slas/outages/{outage}/")
    expect(page.locator(".sitestate .owner")).to_contain_text("noc")
    tab_to(page, "comment-text")
    page.keyboard.type("Called the depot: a fuse.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#talk .auditlist")).to_contain_text("Called the depot: a fuse.")


def test_what_is_pressed_the_moment_the_list_is_drawn_anew_is_heard(outage: int, sign_in: SignIn) -> None:
    page = sign_in("noc")
    row = page.locator("#attention [data-site=north-0]")
    expect(row).to_be_visible()
    page.locator("#att-north-0").focus()
    # A page that is left for a new one, as a form's own submission does, would lose this.
    page.evaluate(
        """() => {
          window.stays = true;
          document.addEventListener("htmx:afterSwap", (event) => {
            if (event.target.id === "attention") setTimeout(() => document.querySelector("#take-north-0")?.click());
          });
          window.htmx.trigger(document.body, "changed");
        }"""
    )
    expect(row.locator(".owner")).to_contain_text("noc")
    expect(page.locator("#att-north-0")).to_be_focused()
    assert page.evaluate("window.stays")


def test_a_provider_disputes_and_a_manager_accepts(stage: Stage, outage: int, sign_in: SignIn) -> None:
    def manager() -> None:
        with slow_passwords():  # nobody else needs one: the stage has none
            make_user(actor=TEST, username="meg", password=PASSWORD, role="manager")

    stage.ask(manager)
    page = sign_in("north")
    page.goto(f"/slas/outages/{outage}/")
    page.get_by_text("Dispute this outage").click()
    page.locator("#id_cause").last.select_option("third_party")
    page.locator("#id_text").last.fill("A digger cut the cable.")
    page.locator("#id_file").set_input_files({"name": "cut.txt", "mimeType": "text/plain", "buffer": b"a digger"})
    page.locator("#dispute").click()
    expect(page.get_by_text("cut.txt").first).to_be_visible()
    where = page.url
    page = sign_in("meg")
    expect(page.locator("#attention")).to_contain_text("Dispute on Oslo Depot")
    page.goto(where)
    page.locator("#id_reason").fill("The photo shows it.")
    page.locator("#accept").click()
    expect(page.locator("h1")).to_contain_text("Accepted")


@LOOKS
def test_axe_finds_nothing_serious_and_phones_need_not_scroll_sideways(
    outage: int, sign_in: SignIn, theme: str, width: int
) -> None:
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, "/slas/outages/", f"/slas/outages/{outage}/", "/slas/disputes/", "/sites/north-0/outages/")
