"""What holds on every page: weight, accessibility, keys, themes, htmx's own settings, use without JavaScript."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from fleet.stack.state import ROOT
from tests.browser.conftest import SignIn
from tests.browser.stage import Stage
from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser
AXE = Path(ROOT, "node_modules", "axe-core", "axe.min.js")
PATHS = (
    *("/", "/?site=north-0", "/sites/", "/sites/north-0/", "/sites/north-0/edit/", "/sites/new/", "/sites/import/"),
    *(
        "/sites/waiting/",
        "/providers/",
        "/providers/north/",
        "/providers/north/edit/",
        "/wall/",
        "/search/?q=oslo",
        "/api/docs",
    ),
    *("/accounts/logout/", "/accounts/password/change/"),
)
FIRST_VISIT_BYTES, LATER_BYTES, OTHER_BYTES = 650_000, 40_000, 250_000


def look_at(page: Page, *paths: str, opened: bool = False) -> None:
    """Each page, with all that folds `opened`: nothing serious for axe, and nothing wider than the window."""
    for path in paths:
        page.goto(path, wait_until="networkidle")
        if opened:
            page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert serious(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical, as "rule: element"."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["dark", pytest.param("light", marks=pytest.mark.full)])
def test_axe_finds_nothing_serious(sign_in: SignIn, theme: str) -> None:
    page = sign_in("admin", theme=theme)
    for path in PATHS:
        page.goto(path, wait_until="networkidle" if path != "/wall/" else "load")
        assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
        assert serious(page) == [], path


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.full)])
def test_axe_finds_nothing_serious_on_a_phone_or_signed_out(stage: Stage, sign_in: SignIn, theme: str) -> None:
    page = sign_in("noc", theme=theme, width=390, height=844)
    for path in ("/?site=north-0", "/sites/", "/sites/north-0/"):
        page.goto(path, wait_until="networkidle")
        assert serious(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    assert serious(page) == []


def _bytes_of(page: Page, path: str) -> int:
    """Bytes that came over the wire for a page until it is quiet."""
    client = page.context.new_cdp_session(page)
    sizes: list[float] = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    client.send("Network.enable")
    page.goto(path, wait_until="networkidle")
    page.wait_for_timeout(1000)
    client.detach()
    return int(sum(sizes))


def test_pages_are_light(stage: Stage, sign_in: SignIn, record_property: Any) -> None:
    page = sign_in("noc")
    cookies = page.context.cookies()
    for path, most in (("/", FIRST_VISIT_BYTES), ("/sites/", OTHER_BYTES), ("/sites/north-0/", OTHER_BYTES)):
        fresh = page.context.browser.new_context(base_url=stage.url)  # type: ignore[union-attr]
        fresh.add_cookies(cookies)  # type: ignore[arg-type]
        first = fresh.new_page()
        size = _bytes_of(first, path)
        record_property(f"bytes {path}", size)
        assert size <= most, path
        again = _bytes_of(first, path)
        record_property(f"bytes again {path}", again)
        assert again <= LATER_BYTES, path
        fresh.close()


def test_htmx_runs_nothing_that_it_is_sent(sign_in: SignIn) -> None:
    page = sign_in("noc")
    config = page.evaluate("htmx.config")
    wanted = {
        "allowEval": False,
        "selfRequestsOnly": True,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "historyCacheSize": 0,
    }
    assert {name: config[name] for name in wanted} == wanted


def test_keys_search_and_go(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.keyboard.press("/")
    page.keyboard.type("athens")
    expect(page.locator("#palette [role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_url("**/sites/south-5/")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/sites/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "Helsinki Shop"
    page.keyboard.press("?")
    expect(page.locator("#keys-help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys-help")).to_be_hidden()


def test_the_theme_is_kept(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.click("[data-theme-toggle]")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"
    page.goto("/sites/")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "light"


def test_the_list_sorts_filters_and_keeps_its_url(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.goto("/sites/")
    rows = page.locator("#sites tbody [data-row-link]")
    expect(rows).to_have_count(7)
    page.fill("#filter-q", "depot")
    expect(rows).to_have_count(2)
    assert "q=depot" in page.url
    page.get_by_role("link", name="Site", exact=True).click()
    expect(rows.first).to_have_text("Tromsø Depot")
    page.reload()
    expect(rows.first).to_have_text("Tromsø Depot")
    expect(rows).to_have_count(2)


def test_a_state_changes_in_its_row(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.goto("/sites/")
    cell = page.locator(f"[data-site-id='{stage.sites['Helsinki Shop'].pk}'] [data-state-cell]")
    expect(cell).to_have_text("Up")
    stage.fail("down", stage.sites["Helsinki Shop"])
    expect(cell).to_have_text("Down")
    stage.heal(stage.sites["Helsinki Shop"])
    expect(cell).to_have_text("Up")


def test_charts_are_drawn_and_share_a_zoom(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.goto("/sites/north-0/?range=1h")
    expect(page.locator(".uplot")).not_to_have_count(0)
    assert page.locator(".uplot").count() >= 5
    page.locator(".u-over").first.scroll_into_view_if_needed()
    over = page.locator(".u-over").first.bounding_box()
    assert over is not None
    page.mouse.move(over["x"] + over["width"] * 0.3, over["y"] + 40)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.7, over["y"] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("[data-zoom-reset]")).to_be_visible()


def test_a_place_fills_in_where_it_is(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.goto("/sites/new/")
    page.locator("#id_place").press_sequentially("Lju")
    page.get_by_role("button", name="Ljubljana").click()
    assert page.input_value("#id_time_zone") == "Europe/Ljubljana"
    assert page.input_value("#id_country") == "SI"
    assert abs(float(page.input_value("#id_lat")) - 46.05) < 0.1


def test_everything_needed_works_without_javascript(stage: Stage, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False, base_url=stage.url)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.fill("[name=login]", "noc")
    page.fill("[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.goto("/sites/?q=oslo")
    page.get_by_role("link", name="Oslo Depot").click()
    page.get_by_role("button", name="Poll now").click()
    expect(page.locator("[data-toasts]")).to_contain_text("Oslo Depot is being polled.")
    page.goto("/?site=north-0")
    expect(page.locator("#panel h2")).to_have_text("Oslo Depot")
    context.close()


def test_the_wall_lives(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.goto("/wall/")
    page.wait_for_selector("[data-wall][data-ready]")
    expect(page.locator("[data-figure=up] b")).to_have_text("7")
    stage.fail("down", stage.sites["Oslo Depot"])
    expect(page.locator("#attention")).to_contain_text("Oslo Depot")
    expect(page.locator("[data-wall-news]")).to_contain_text("Oslo Depot is down")
    stage.heal(stage.sites["Oslo Depot"])
    expect(page.locator("#attention .empty")).to_be_visible()
