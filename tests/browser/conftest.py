"""A real Chromium before the whole system. A page that logs an error fails its test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.stage import Stage
from tests.conftest import PASSWORD

FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GIVEN_UP = ("htmx:afterRequest", "htmx:sendAbort")
SignIn = Callable[..., Page]
# A page is fed by workers that share two cores with the other tests.
expect.set_options(timeout=20_000)
# Themes and widths in which a screen is looked at: contrast hangs on the one, room on the other.
LOOKS = pytest.mark.parametrize(
    ("theme", "width"),
    [
        ("dark", 1440),
        ("light", 390),
        pytest.param("light", 1440, marks=pytest.mark.full),
        pytest.param("dark", 390, marks=pytest.mark.full),
    ],
)


@pytest.fixture(scope="package")
def stage(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The system, with all sites up. A test that breaks a site heals it again."""
    with django_db_blocker.unblock(), ExitStack() as stack:
        running = Stage(stack, tmp_path_factory.mktemp("stage"))
        running.ask(running.open)
        yield running


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; each has a profile of its own."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("there is no Chromium; `make test` installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sign_in(stage: Stage, chromium: Browser) -> Iterator[SignIn]:
    """Factory of pages signed in as somebody, in a fresh profile; errors in their consoles fail the test.

    Ask for it after the fixtures whose things its pages show: it ends before them, and nothing vanishes under a page.
    """
    errors: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        # A browser logs every answer of 404, also for the page that is asked for in order to see its 404; htmx every
        # request that is given up for a newer one (of one that fails it says more).
        is_expected = message.location["url"].endswith("/nothing/") or message.text.startswith(GIVEN_UP)
        if message.type in ("error", "warning") and not is_expected:
            errors.append(message.text)

    def make(
        username: str = "noc", *, theme: str = "dark", width: int = 1440, height: int = 900, fails: bool = False
    ) -> Page:
        """`fails`: the test provokes failures, which a console then speaks of."""
        context = chromium.new_context(viewport={"width": width, "height": height}, base_url=stage.url)
        contexts.append(context)
        context.add_cookies([{"name": "theme", "value": theme, "url": stage.url}])
        page = context.new_page()
        if not fails:
            page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/accounts/login/")
        page.fill("[name=login]", username)
        page.fill("[name=password]", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_url(f"{stage.url}/")
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors, "\n".join(errors)
