"""Rollouts before a real browser: approved by a second person, started, frozen, resumed, aborted, rolled back; axe."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from agent.backends.catalogue import make_component
from fleet.kit.tenancy import scope
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.rollouts.models import Rollout
from fleet.rollouts.services import planning
from sites.services.desired import apply
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import look_at
from tests.conftest import TEST, everything
from tests.database import truncate
from tests.fleet.standards.factories import make_standard
from tests.flows.system import query, wait_for
from tests.sites.told import forget_desired

pytestmark = pytest.mark.browser
VISION = make_component("workload", "vision-qc", "7.3.2")
OTHER = make_component("workload", "vision-qc", "7.3.1")
LONG_MS = 60_000
_TABLES = "rollouts_rollout, rollouts_attempt, rollouts_gateevaluation, rollouts_hold, rollouts_rolloutevent"


def _forget() -> None:
    truncate(f"{_TABLES}, standards_standard")


def _forget_desired(stage: Stage) -> None:
    for site in stage.sites.values():
        forget_desired(site)


def _plan(stage: Stage) -> Rollout:
    """Two waves of two and five sites, planned by noc; a site soaks for a minute."""
    actor, rights = access_of(User.objects.get(username="noc"))
    image = f"registry.example/vision-qc@{OTHER.digest}"
    make_standard("r2", {"workloads": [{"name": "vision-qc", "image": image, "version": OTHER.version}]})
    sites = [site.pk for site in stage.sites.values()]
    values = {
        "name": "winter",
        "standard": "r2",
        "start_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
        "waves": [
            {"name": "Canaries", "sites": sites[:2], "canary": True, "gates": [{"type": "soak", "seconds": 5}]},
            {"name": "All others", "sites": sites[2:]},
        ],
        "times": {"soak_s": 60},
        "caps": {"in_flight": 2},
    }
    return planning.plan_rollout(actor=actor, rights=rights, values=values)


def _tell(stage: Stage) -> None:
    """The canaries are told what they run: that is what they go back to."""
    workload = {"name": "vision-qc", "image": f"registry.example/vision-qc@{VISION.digest}", "version": VISION.version}
    for site in list(stage.sites.values())[:2]:
        apply(actor=TEST, rights=everything(), site=site, content={"workloads": [workload]}, reason="the first")


def _are_told() -> bool:
    found = query("SELECT count(*) FROM edge_sites_sitedesired WHERE reported_state = 'applied'")
    return bool(found[0][0] == 2)


@pytest.fixture(scope="module")
def told(stage: Stage) -> Iterator[None]:
    """Two sites run what they were told; the processes that sign and deliver documents run.

    Once for all tests here: agents never forget the counters of their documents.
    """
    stage.start_worker("worker")
    stage.ask(_tell, stage)
    wait_for(lambda: stage.ask(_are_told), what="two sites to run what they are told")
    yield
    stage.end("worker")
    stage.ask(_forget_desired, stage)
    stage.settle()


@pytest.fixture
def rollout(stage: Stage, told: None) -> Iterator[Rollout]:
    """A plan, alone. Ask for it before `sign_in`: open pages ask for the rollout until they are closed."""
    yield stage.ask(_plan, stage)
    stage.ask(_forget)


def state_of(stage: Stage) -> str:
    def read() -> str:
        with scope(TEST):
            return Rollout.objects.get().state

    return str(stage.ask(read))


def press(page: Page, key: str, **values: str) -> None:
    """Press a button of the page, fill what its own page asks for, and press that one's."""
    page.locator(f"#do-{key}").click()
    expect(page.locator(".effects li").first).to_be_visible()
    for name, value in values.items():
        page.locator(f"#id_{name}").fill(value)
    page.locator("#do-it").click()
    page.wait_for_url("**/rollouts/1/")


def test_from_the_plan_to_the_rollback_by_clicking(stage: Stage, rollout: Rollout, sign_in: SignIn) -> None:
    noc, boss = sign_in("noc"), sign_in("admin")
    noc.get_by_role("link", name="Rollouts", exact=True).click()
    noc.get_by_role("link", name="winter").click()
    press(noc, "submit")
    boss.goto("/")
    expect(boss.locator("#att-rollout-1")).to_be_visible()
    boss.locator("#att-rollout-1").click()
    assert noc.locator("#do-approve").count() == 0
    press(boss, "approve", reason="go on")
    expect(noc.locator("#do-start")).to_be_visible(timeout=LONG_MS)
    press(noc, "start")
    expect(boss.locator(".rollsays")).to_contain_text("Wave 1 of 2, Canaries, is open")
    expect(boss.locator("#wave-0 .legendline")).to_contain_text("2 soaking", timeout=LONG_MS)
    press(noc, "freeze", reason="the tills ring")
    expect(boss.locator(".rollsays")).to_contain_text("Somebody froze it")
    expect(boss.locator(".rollsays")).to_contain_text("the tills ring")
    press(noc, "resume")
    expect(boss.locator(".rollsays .state")).to_contain_text("Running")
    press(noc, "abort", reason="never mind")
    expect(boss.locator(".rollsays .state")).to_contain_text("Abort")
    press(noc, "roll_back", reason="as it was")
    wait_for(lambda: state_of(stage) == "rolled_back", what="the rollback to be done")
    expect(boss.locator(".rollsays .state")).to_contain_text("Rolled back")
    expect(boss.locator("#wave-0 .legendline")).to_contain_text("2 back")


def started(stage: Stage, rollout: Rollout, sign_in: SignIn) -> None:
    noc, boss = sign_in("noc"), sign_in("admin")
    for page, keys in ((noc, ["submit"]), (boss, ["approve"]), (noc, ["start"])):
        page.goto("/rollouts/1/")
        for key in keys:
            expect(page.locator(f"#do-{key}")).to_be_visible(timeout=LONG_MS)
            press(page, key)


def test_cells_change_by_themselves_and_are_reached_by_keyboard(
    stage: Stage, rollout: Rollout, sign_in: SignIn
) -> None:
    page = sign_in("north")
    page.goto("/rollouts/1/")
    expect(page.locator("[data-cells]")).to_have_attribute("data-drawn", "4")
    before = pixels(page)
    started(stage, rollout, sign_in)
    wait_for(lambda: pixels(page) != before, what="the cells to be drawn anew")
    box = page.locator("#cells-0")
    box.focus()
    box.press("ArrowRight")
    box.press("ArrowLeft")
    expect(page.locator("[data-cell-spoken]")).to_contain_text("Oslo Depot: ")
    box.press("Enter")
    page.wait_for_url("**/rollouts/1/sites/north-0/")
    expect(page.locator("#step")).to_contain_text("apply")
    assert "Athens" not in page.content()


def pixels(page: Page) -> Any:
    return page.evaluate("document.querySelector('#cells-0 canvas').toDataURL()")


@LOOKS
def test_axe_finds_nothing_serious(stage: Stage, rollout: Rollout, sign_in: SignIn, theme: str, width: int) -> None:
    started(stage, rollout, sign_in)
    paths = ("/rollouts/", "/rollouts/1/", "/rollouts/1/do/abort/", "/rollouts/1/sites/north-0/")
    paths += ("/sites/north-0/rollouts/", "/sites/north-0/hold/", "/rollouts/?state=ended&q=none")
    page = sign_in("admin", theme=theme, width=width, height=900)
    look_at(page, *paths, opened=True)


def test_without_javascript_it_is_read_and_stopped(
    stage: Stage, rollout: Rollout, sign_in: SignIn, chromium: Any
) -> None:
    started(stage, rollout, sign_in)
    cookies = sign_in("noc").context.cookies()
    context = chromium.new_context(base_url=stage.url, java_script_enabled=False)
    context.add_cookies(cookies)
    page = context.new_page()
    page.goto("/rollouts/1/")
    expect(page.locator("#steps tbody tr")).to_have_count(7)
    page.locator("#do-pause").click()
    page.locator("#id_reason").fill("no script")
    page.locator("#do-it").click()
    expect(page.locator(".rollsays .state")).to_contain_text("Stopped")
    context.close()


MANY = 10_000
_STATES = (
    *("queued", "deferred", "catch_up", "claimed", "staging", "applying", "rebooting", "verifying", "soaking"),
    *("in_doubt", "proven", "failed"),
)
_GROUPS = {"proven": "proven", "failed": "failed"}
# Milliseconds from the hint to the frame after the cell was painted anew.
_HINTED = """() => new Promise((done, fail) => {
  setTimeout(() => fail(new Error("no cell was painted anew")), 20000);
  const canvas = document.querySelector("#cells-1 canvas");
  const before = canvas.toDataURL();
  const began = performance.now();
  const look = () => (canvas.toDataURL() === before ? requestAnimationFrame(look) : done(performance.now() - began));
  document.dispatchEvent(new CustomEvent("live:hints", { detail: [["rollout", 1]] }));
  requestAnimationFrame(look);
})"""


_deltas = count()


def _cells(route: Any) -> None:
    """The wire of cells.json, for ten thousand sites, all in the second wave; each delta changes the first of them."""
    is_delta = "since=" in route.request.url
    states = [{"name": name, "label": name, "group": _GROUPS.get(name, "wait")} for name in _STATES]
    cells = [[n, 1, 0, 0, 1, "", f"site-{n}", f"Site {n}"] for n in range(1, MANY + 1)]
    changed = [[1, 1, _STATES.index("failed" if next(_deltas) % 2 else "proven"), 0, 2, ""]] if is_delta else []
    body = {"as_of": 1, "plan": "sha256:1", "states": [] if is_delta else states}
    route.fulfill(json={**body, "cells": changed if is_delta else cells})


@pytest.mark.usefixtures("rollout")
def test_ten_thousand_cells_are_drawn_at_once_and_changed_one_by_one(sign_in: SignIn, record_property: Any) -> None:
    page = sign_in("admin")
    page.route("**/cells.json*", _cells)
    page.goto("/rollouts/1/", wait_until="commit")
    page.wait_for_selector(f"[data-drawn='{MANY}']")
    painted_ms = page.evaluate("performance.now()")
    page.wait_for_selector("html[data-link=live]")
    page.wait_for_timeout(1000)  # what was missed until then is asked for
    changed_ms = page.evaluate(_HINTED)
    record_property("painted ms", round(painted_ms))
    record_property("changed ms", round(changed_ms))
    print(f"{MANY} cells: painted after {painted_ms:.0f} ms, changed after {changed_ms:.0f} ms")
    assert page.locator("#wave-1 canvas").bounding_box() is not None
    # What we promise is 1500 and 500 ms; a machine that is busy with other tests gets three times as long.
    assert painted_ms < 4500
    assert changed_ms < 1500
