"""The live map, its figures, filters and panel, in a real Chromium."""

import json
import time
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, WebSocketRoute, expect

from tests.browser.conftest import SignIn
from tests.browser.stage import NORTH, SOUTH, Stage
from tests.flows.system import wait_for

pytestmark = pytest.mark.browser
ALL = {name for name, *_ in (*NORTH, *SOUTH)}
STALE_MS = 5_500  # the page promises 5 s; the rest is for seeing it
# A connection that is held back is silent, and would be dropped: let nobody look whether it is.
NEVER_STALE = """
    const set = window.setInterval;
    window.setInterval = (run, ms, ...more) => (ms === 500 ? 0 : set(run, ms, ...more));
"""


def open_map(page: Page, query: str = "") -> None:
    page.goto(f"/{query}")
    page.wait_for_selector("[data-map][data-drawn]")


def figure(page: Page, kind: str) -> Any:
    return page.locator(f"[data-figure={kind}] b")


def drawn(page: Page) -> dict[str, str]:
    """Names and shapes of the sites that the map has drawn as single markers."""
    return page.evaluate(
        """() => Object.fromEntries(document.querySelector("[data-map]").fleetMap.map
            .queryRenderedFeatures({layers: ["sites"]}).map(({properties}) => [properties.name, properties.kind]))"""
    )


def click_marker(page: Page, slug: str) -> None:
    where = page.evaluate(
        """(slug) => { const {map, fleet} = document.querySelector("[data-map]").fleetMap;
            const {lon, lat} = fleet.bySlug.get(slug); const {x, y} = map.project([lon, lat]);
            const box = map.getCanvas().getBoundingClientRect(); return [box.x + x, box.y + y]; }""",
        slug,
    )
    page.mouse.click(*where)


def test_a_failure_turns_marker_and_figures_without_reload(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    expect(figure(page, "up")).to_have_text("7")
    wait_for(lambda: drawn(page) == dict.fromkeys(ALL, "up"), what="all markers")
    page.evaluate("window.untouched = true")

    stage.fail("down", stage.sites["Oslo Depot"])
    expect(figure(page, "down")).to_have_text("1")
    expect(figure(page, "up")).to_have_text("6")
    wait_for(lambda: drawn(page)["Oslo Depot"] == "down", what="the marker to turn")
    expect(page.locator("#attention [data-site=north-0]")).to_be_visible()

    stage.fail("dark", stage.sites["Madrid Plant"])
    expect(figure(page, "unreachable")).to_have_text("1")
    wait_for(lambda: drawn(page)["Madrid Plant"] == "unreachable", what="the marker to turn")

    stage.settle()
    expect(figure(page, "up")).to_have_text("7")
    expect(page.locator("#attention .empty")).to_be_visible()
    assert page.evaluate("window.untouched")


def test_a_click_on_a_marker_opens_the_panel_and_the_url_keeps_it(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    wait_for(lambda: "Athens Shop" in drawn(page), what="the marker")
    click_marker(page, "south-5")
    panel = page.locator("#panel")
    expect(panel.locator("h2")).to_have_text("Athens Shop")
    for part in ("Load", "Versions", "Last events"):
        expect(panel.get_by_role("heading", name=part)).to_be_visible()
    assert page.url.endswith("?site=south-5")

    page.reload()
    expect(panel.locator("h2")).to_have_text("Athens Shop")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.url == f"{stage.url}/"


def test_taking_a_sites_trouble_shows_who_has_it(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    stage.fail("degraded", stage.sites["Łódź Plant"])
    row = page.locator("#attention [data-site=south-6]")
    row.get_by_role("button", name="Take").click()
    expect(row.locator(".owner")).to_have_text("noc")
    expect(page.locator("[data-toasts]")).to_contain_text("You took Łódź Plant.")
    stage.settle()


def test_filters_live_in_the_url_and_survive_a_reload(sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    page.select_option("[data-filters] [name=region]", "South")
    page.fill("[data-filters] [name=q]", "shop")
    wait_for(lambda: set(drawn(page)) == {"Athens Shop"}, what="the filtered map")
    assert page.url.endswith("/?region=South&q=shop")
    expect(figure(page, "up")).to_have_text("1")

    page.reload()
    page.wait_for_selector("[data-map][data-drawn]")
    wait_for(lambda: set(drawn(page)) == {"Athens Shop"}, what="the same map after the reload")
    assert page.input_value("[data-filters] [name=region]") == "South"
    page.get_by_role("link", name="Clear").click()
    wait_for(lambda: set(drawn(page)) == ALL, what="the whole map")


def test_a_figure_is_a_filter(sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    page.click("[data-figure=down]")
    wait_for(lambda: drawn(page) == {}, what="an empty map")
    assert page.url.endswith("/?state=down")
    expect(figure(page, "up")).to_have_text("7")
    page.click("[data-figure=down]")
    wait_for(lambda: set(drawn(page)) == ALL, what="the whole map")


def test_a_provider_sees_its_own_sites_and_nothing_else(stage: Stage, sign_in: SignIn) -> None:
    own, foreign = {name for name, *_ in NORTH}, {name for name, *_ in SOUTH}
    page = sign_in("north")
    frames: list[dict[str, Any]] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: frames.append(json.loads(text))))
    open_map(page)
    known = page.evaluate("[...document.querySelector('[data-map]').fleetMap.fleet.bySlug.keys()]")
    assert sorted(known) == ["north-0", "north-1", "north-2", "north-3"]
    expect(figure(page, "up")).to_have_text(str(len(own)))

    stage.fail("down", stage.sites["Madrid Plant"], stage.sites["Oslo Depot"])
    expect(figure(page, "down")).to_have_text("1")
    stage.wait_for_state("Madrid Plant", "down")
    page.wait_for_timeout(1500)
    ids = {row[0] for frame in frames if frame["t"] == "d" for row in frame["d"]}
    assert ids <= {stage.sites[name].pk for name in own}
    hints = {pk for frame in frames if frame["t"] == "h" for topic, pk in frame["h"] if topic == "site"}
    assert hints <= {stage.sites[name].pk for name in own}
    stage.settle()

    for path in ("/", "/sites/?life=all", "/sites/export.csv", "/search/?q=a", "/providers/", "/map.json", "/wall/"):
        text = page.request.get(f"{stage.url}{path}").text()
        assert not [name for name in foreign if name in text], path
        assert "South" not in text, path
    listed = page.request.get(f"{stage.url}/api/v1/sites").json()["items"]
    assert {row["name"] for row in listed} == own
    for path in ("/sites/south-4/", "/overview/panel/south-4/", "/sites/south-4/samples.json", "/providers/south/"):
        assert page.request.get(f"{stage.url}{path}").status == 404, path


def test_a_silent_connection_shows_within_five_seconds_and_catches_up(stage: Stage, sign_in: SignIn) -> None:
    page = sign_in("noc")
    open_map(page)
    page.wait_for_selector("html[data-link=live]")
    stage.freeze_web()
    try:
        started = time.monotonic()
        expect(page.locator("[data-stale-bar]")).to_be_visible(timeout=STALE_MS)
        assert time.monotonic() - started < STALE_MS / 1000
        stage.fail("down", stage.sites["Oslo Depot"])
        stage.wait_for_state("Oslo Depot", "down")
    finally:
        stage.thaw_web()
    expect(page.locator("[data-stale-bar]")).to_be_hidden()
    expect(figure(page, "down")).to_have_text("1")
    stage.settle()


def test_what_happens_between_the_drawing_of_a_page_and_its_connection_is_shown(stage: Stage, sign_in: SignIn) -> None:
    held: list[WebSocketRoute] = []
    pages = [sign_in("noc") for _ in range(2)]
    for page in pages:
        page.route_web_socket("**/ws/live/", lambda connection: held.append(connection))
        page.add_init_script(NEVER_STALE)
    overview, site = pages
    open_map(overview)
    expect(figure(overview, "up")).to_have_text("7")
    site.goto("/sites/north-0/")
    expect(site.locator("#site-live .state").first).to_have_text("Up")
    try:
        stage.fail("down", stage.sites["Oslo Depot"])
        stage.wait_for_state("Oslo Depot", "down")
        time.sleep(1.5)  # Whatever was still to be said of it has been said: nobody who connects now hears it.
        assert figure(overview, "up").inner_text() == "7"
        for connection in held:
            connection.connect_to_server()
        expect(figure(overview, "down")).to_have_text("1")
        expect(site.locator("#site-live .state").first).to_have_text("Down")
    finally:
        stage.settle()


def test_what_is_said_of_a_part_while_it_is_fetched_is_shown(stage: Stage, sign_in: SignIn) -> None:
    held: list[tuple[Route, APIResponse]] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page = sign_in("noc")
    page.goto("/sites/north-0/")
    state = page.locator("#site-live .state").first
    expect(state).to_have_text("Up")
    page.wait_for_selector("html[data-link=live]")
    time.sleep(1.5)  # What the new connection caught up with is fetched by now.
    page.route("**/sites/north-0/?range=*", hold_the_first)
    try:
        page.evaluate("document.getElementById('site-live').dispatchEvent(new CustomEvent('live'))")
        wait_for(lambda: page.wait_for_timeout(50) or held, what="the first fetch")
        stage.fail("down", stage.sites["Oslo Depot"])
        stage.wait_for_state("Oslo Depot", "down")
        page.wait_for_timeout(1500)
        (route, response) = held[0]
        route.fulfill(response=response)
        expect(state).to_have_text("Down")
    finally:
        stage.settle()


def test_a_part_that_could_not_be_fetched_is_fetched_again(stage: Stage, sign_in: SignIn) -> None:
    failed: list[str] = []

    def fail_the_first(route: Route) -> None:
        if failed:
            route.continue_()
        else:
            failed.append(route.request.url)
            route.fulfill(status=503)

    page = sign_in("noc", fails=True)
    page.goto("/sites/north-0/")
    state = page.locator("#site-live .state").first
    expect(state).to_have_text("Up")
    page.wait_for_selector("html[data-link=live]")
    time.sleep(1.5)
    page.route("**/sites/north-0/?range=*", fail_the_first)
    try:
        stage.fail("down", stage.sites["Oslo Depot"])
        stage.wait_for_state("Oslo Depot", "down")
        expect(state).to_have_text("Down")
        assert failed
    finally:
        stage.settle()
