"""Planning before a real browser: a rollout planned by clicking, faults as one types, approvals voided, holds, axe."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from fleet.people.selectors import access_of
from fleet.people.services import make_user
from fleet.rollouts.models import Rollout
from fleet.rollouts.services import control, holds
from sites.models import Provider
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import look_at
from tests.conftest import PASSWORD, TEST, everything
from tests.database import truncate
from tests.fleet.standards.factories import make_ring, make_standard

pytestmark = pytest.mark.browser
PLAN = "/rollouts/new/?everything=1&to=r1"
PAGES = (
    *("/rollouts/new/", PLAN, f"{PLAN}&as=json", "/rollouts/holds/", "/rollouts/holds/?ended=1"),
    *("/rollouts/holds/new/?sites=north-0", "/rollouts/calendars/?month=2026-12", "/rollouts/calendars/north/edit/"),
)
_TABLES = "standards_standard, standards_ring, standards_ringstandard, standards_sitecompliance, rollouts_rollout"


def _forget() -> None:
    truncate(f"{_TABLES}, rollouts_hold, rollouts_providercalendar")


@pytest.fixture
def standards(stage: Stage) -> Iterator[None]:
    """A standard that no site runs, a hold, and a calendar with nights and a freeze."""

    def make() -> None:
        make_ring(make_standard("r1", {"os": {"kernel": "6.9.0"}}), "rest")
        north = Provider.objects.using("owner").get(slug="north")
        calendar = {
            "windows": [{"days": [0, 1, 2, 3, 4], "begin": "22:00:00", "end": "06:00:00"}],
            "freezes": [{"begin": "2026-12-20T00:00:00", "end": "2027-01-06T00:00:00", "reason": "year's end"}],
        }
        holds.set_calendar(actor=TEST, rights=everything(), provider=north, calendar=calendar)
        site = stage.sites["Oslo Depot"]
        until = holds.database_now() + timedelta(days=3)
        holds.hold(actor=TEST, rights=everything(), site=site, reason="Stocktaking until Monday", until=until)

    stage.ask(make)
    yield
    stage.ask(_forget)


@pytest.mark.usefixtures("standards")
@LOOKS
def test_axe_finds_nothing_serious(sign_in: SignIn, theme: str, width: int) -> None:
    page = sign_in("admin", theme=theme, width=width, height=844)
    look_at(page, *PAGES)


@pytest.mark.usefixtures("standards")
def test_a_rollout_is_planned_by_clicking_and_faults_show_as_one_types(sign_in: SignIn, stage: Stage) -> None:
    page = sign_in("noc")
    page.goto("/rollouts/")
    page.locator("#plan-new").click()
    page.locator("#id_standard").select_option("r1")
    page.get_by_label("North", exact=True).first.check()
    preview = page.locator("#plan-preview")
    expect(preview).to_contain_text("Sites changed")
    expect(preview.locator(".planfigures dd").first).to_contain_text("4")
    # A fault stands at its field as one types, and goes away with it.
    page.locator("#id_w-0-amount").fill("many")
    expect(page.locator("#w-0-head")).to_contain_text("How many?")
    page.locator("#id_w-0-amount").fill("2")
    expect(page.locator("#w-0-head")).not_to_contain_text("How many?")
    expect(preview.locator(".wavelist > li").first).to_contain_text("2")
    page.locator("#add-wave").click()
    expect(page.locator("#id_w-3-name")).to_be_visible()
    page.get_by_label("Take wave 4 out").click()
    expect(page.locator("#id_w-3-name")).to_have_count(0)
    # Approved, it waits for its day: so it can still be edited.
    page.locator("#id_start_at").fill("2031-06-01T10:00")
    page.locator("#id_name").fill("Winter kernels")
    page.locator("#plan-ask").click()
    page.locator("#do-it").click()
    expect(page.get_by_role("heading", name="Winter kernels")).to_be_visible()
    _approved(stage)
    page.reload()
    page.locator("#edit-plan").click()
    expect(page.get_by_text("Saving a change voids the approval of 1 person.")).to_be_visible()
    page.locator("#group-pace summary").click()
    page.locator("#id_in_flight").fill("1")
    expect(page.locator("#line-pace")).to_contain_text("1 at a time")
    page.locator("#plan-save").click()
    page.wait_for_url("**/rollouts/*/")
    assert stage.ask(lambda: Rollout.objects.using("owner").get().state) == "planned"
    assert stage.ask(lambda: Rollout.objects.using("owner").get().approved_hash) == ""


def _approved(stage: Stage) -> None:
    """One person says yes; the site's operator is one who could be asked a second time."""

    def approve() -> None:
        boss = make_user(actor=TEST, username="boss", password=PASSWORD, role="manager")
        actor, rights = access_of(boss)
        row = Rollout.objects.using("owner").get()
        control.approve(actor=actor, rights=rights, rollout=row, expect=row.plan_hash)

    stage.ask(approve)


@pytest.mark.usefixtures("standards")
def test_sites_are_picked_on_the_map_with_a_line_around_them(sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.wait_for_selector("[data-map][data-drawn]", timeout=60_000)
    page.locator("[data-lasso]").click()
    box = page.locator("[data-lasso-layer]").bounding_box()
    assert box is not None
    corners = [(2, 2), (box["width"] - 2, 2), (box["width"] - 2, box["height"] - 2), (2, box["height"] - 2)]
    page.mouse.move(box["x"] + corners[-1][0], box["y"] + 70)
    _draw(page, box, corners)
    expect(page.locator("[data-picked-count]")).to_have_text("7 sites")
    page.locator("#map-roll").click()
    expect(page.locator("#says-sites")).to_contain_text("7 sites picked one by one")


def _draw(page: Page, box: dict[str, float], corners: list[tuple[float, float]]) -> None:
    """Draw around everything, on the layer itself: bars lie over its corners."""
    points = [{"x": box["x"] + x, "y": box["y"] + y} for x, y in [*corners, corners[0]]]
    layer = page.locator("[data-lasso-layer]")
    page.evaluate(
        """([layer, points]) => {
            const fire = (kind, {x, y}) => layer.dispatchEvent(new PointerEvent(kind,
                {clientX: x, clientY: y, pointerId: 1, bubbles: true, isPrimary: true}));
            layer.setPointerCapture = () => {};
            layer.hasPointerCapture = () => true;
            fire("pointerdown", points[0]);
            points.slice(1).forEach((point) => fire("pointermove", point));
            fire("pointerup", points.at(-1));
        }""",
        [layer.element_handle(), points],
    )


@pytest.mark.usefixtures("standards")
def test_a_provider_holds_its_own_sites_and_lifts_the_hold(sign_in: SignIn) -> None:
    page = sign_in("north")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/rollouts/holds/")
    page.locator("#hold-new").click()
    page.locator("#id_sites").fill("north-1")
    page.locator("#id_reason").fill("Inventory")
    page.locator("#hold-now").click()
    row = page.locator(".holdrow", has_text="Inventory")
    expect(row).to_contain_text("Helsinki Shop")
    row.get_by_role("button", name="Lift").click()
    expect(page.locator(".holdrow", has_text="Inventory")).to_have_count(0)
