"""A real Chromium on the Overview, and the moments at which something became visible in it.

The probes run in the page but are not part of it: they only look at the map that the page exposes as
`[data-map].fleetMap` and at the event `live:deltas`.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from bench.web import SESSION_COOKIE, Session
from fleet.stack.errors import StackError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WIDTH, HEIGHT = 1280, 800
DRAWN_S = 60

# Milliseconds from navigation to the first frame in which a site, or a ring of sites, is on the map.
FIRST_DRAWN = """
(() => {
  const look = () => {
    const map = document.querySelector("[data-map]")?.fleetMap?.map;
    const layers = ["sites", "clusters"].filter((name) => map?.getLayer(name));
    if (layers.length && map.queryRenderedFeatures({ layers }).length) window.benchDrawn_ms = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""

# For each site in a delta: the time (ms since the epoch) of the first frame after the map had taken the delta in.
CHANGES = """
(() => {
  window.benchChanges = [];
  document.addEventListener("live:deltas", (event) => {
    const ids = event.detail.map(([id]) => id);
    const map = document.querySelector("[data-map]")?.fleetMap?.map;
    if (!map) return;
    const look = () => {
      if (!map.isSourceLoaded("sites")) { requestAnimationFrame(look); return; }
      const at_ms = performance.timeOrigin + performance.now();
      for (const id of ids) window.benchChanges.push([id, at_ms]);
    };
    // Two frames on: the map hands the change to its worker within the first.
    requestAnimationFrame(() => requestAnimationFrame(look));
  });
})();
"""


@contextmanager
def chromium(session: Session, *scripts: str) -> Iterator[Page]:
    """A page that is signed in and runs `scripts` wherever it goes. Raises StackError when there is no Chromium."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise StackError("there is no Chromium on this machine")
    arguments = [*ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=arguments)
        try:
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
            page = context.new_page()
            page.goto(f"{session.url}/healthz")
            # From within: Chromium's protocol refuses a __Host- cookie for plain HTTP, on loopback too.
            page.evaluate(f"document.cookie = '{SESSION_COOKIE}={session.session_key}; path=/; secure'")
            for script in scripts:
                context.add_init_script(script)
            yield page
        finally:
            browser.close()


def open_overview(page: Page, url: str) -> float:
    """Open the Overview; milliseconds from navigation to the first sites drawn."""
    page.goto(f"{url}/", wait_until="commit")
    deadline = time.monotonic() + DRAWN_S
    while time.monotonic() < deadline:
        page.wait_for_timeout(50)
        drawn_ms = page.evaluate("() => window.benchDrawn_ms ?? null")
        if drawn_ms is not None:
            return float(drawn_ms)
    raise StackError(f"no sites were drawn within {DRAWN_S} s")
