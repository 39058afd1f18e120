"""What people see of 10,000 sites, and how soon."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from random import Random

from playwright.sync_api import Page

from bench.browser import CHANGES, FIRST_DRAWN, chromium, open_overview
from bench.polling import CHURN_PER_MINUTE
from bench.result import Figure, machine, percentile
from bench.stack import Stack, wait
from bench.web import Session
from fleet.stack.errors import StackError
from fleet.stack.state import ROOT

VIEWERS = 200
PAGES = (
    "/sites/",
    "/sites/?page=7",
    "/sites/?sort=-cpu",
    "/sites/?sort=state",
    "/sites/?state=down,degraded",
    "/sites/?region=DACH&page=2",
    "/sites/?q=shop",
)
ONE_PAGE_SITES = 40  # fewer than a page of the list holds
Say = Callable[[str], None]


# Overview ---------------------------------------------------------------------------------------------------
def overview_10k(say: Say, stack: Stack, *, quick: bool) -> list[Figure]:
    """Bytes of the map's data, and the time until sites are seen, in a warm server and a cold browser."""
    session = Session(stack.url)
    for _ in range(2):
        answer = session.get("/map.json")
    times_ms = []
    for _ in range(3 if quick else 10):
        with chromium(session, FIRST_DRAWN) as page:
            times_ms.append(open_overview(page, stack.url))
            say(f"first sites drawn after {times_ms[-1]:.0f} ms")
    session.close()
    median_ms = percentile(times_ms, 0.5)
    size_kb = len(answer.body) / 1000
    return [
        Figure(
            "overview_10k_bytes",
            round(size_kb, 1),
            "kB",
            "below 300",
            f"map.json of {stack.sites:,} sites as sent to a browser (brotli); {machine()}",
            met=size_kb < 300,
        ),
        Figure(
            "overview_10k_drawn",
            round(median_ms),
            "ms",
            "below 1500",
            f"navigation to the first frame with sites, {stack.sites:,} sites; median of {len(times_ms)} starts of "
            f"Chromium with an empty cache, rendering in software, warm server, polling going on; "
            f"slowest {max(times_ms):.0f} ms; {machine()}",
            met=median_ms < 1500,
        ),
    ]


# Sites page -------------------------------------------------------------------------------------------------
def query_counts(stack: Stack) -> list[int]:
    """Queries of each of PAGES with the sites there are now."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.queries", *PAGES],
        cwd=ROOT,
        env=stack.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise StackError(f"queries could not be counted: {done.stderr[-500:]}")
    return [int(count) for count in json.loads(done.stdout.splitlines()[-1])]


def sites_page(stack: Stack, few: list[int], *, quick: bool) -> list[Figure]:
    """Time of the list over HTTP, and its queries against those that it made with `few` (a page of sites)."""
    session = Session(stack.url)
    rounds = 10 if quick else 40
    for path in PAGES:
        session.get(path)
    times_ms = [session.get(path).seconds * 1000 for _ in range(rounds) for path in PAGES]
    session.close()
    many = query_counts(stack)
    p95_ms = percentile(times_ms, 0.95)
    return [
        Figure(
            "sites_page",
            round(p95_ms, 1),
            "ms",
            "below 60",
            f"p95 of {len(times_ms)} requests over one kept-alive connection, whole answer, pages of 50 of "
            f"{stack.sites:,} sites ({len(PAGES)} filters, orders and pages), polling going on; "
            f"median {percentile(times_ms, 0.5):.1f} ms; {machine()}",
            met=p95_ms < 60,
        ),
        Figure(
            "sites_page_queries",
            max(many),
            "queries",
            "constant",
            f"with {stack.sites:,} sites {many}, with {ONE_PAGE_SITES} sites {few}, for {', '.join(PAGES)}",
            met=max(many) == max(few),
        ),
    ]


# Change to pixel --------------------------------------------------------------------------------------------
def change_to_pixel(stack: Stack, *, quick: bool) -> Figure:
    """Time from the receipt of a report that shows a change to the frame that shows it, with VIEWERS others."""
    changes = 30 if quick else 150
    session = Session(stack.url)
    with _viewers(stack, session, VIEWERS), chromium(session, FIRST_DRAWN, CHANGES) as page:
        open_overview(page, stack.url)
        page.wait_for_timeout(3_000)
        delays_ms = _delays_ms(stack, page, changes)
    session.close()
    if len(delays_ms) < changes * 0.9:
        raise StackError(f"only {len(delays_ms)} of {changes} changes were seen in the browser")
    p95_ms = percentile(delays_ms, 0.95)
    return Figure(
        "change_to_pixel",
        round(p95_ms),
        "ms",
        "below 300",
        f"p95 of {len(delays_ms)} changes, from the receipt of the report to the first frame after the map took it "
        f"in; {stack.sites:,} sites, {CHURN_PER_MINUTE:.0%} of them changing a minute, {VIEWERS} further websocket "
        f"clients, Chromium in software, all on this machine; median {percentile(delays_ms, 0.5):.0f} ms; {machine()}",
        met=p95_ms < 300,
    )


@contextmanager
def _viewers(stack: Stack, session: Session, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.viewers", stack.url, session.session_key, str(count)]
    with (stack.state.logs / "viewers.log").open("w+") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        try:
            wait(lambda: "ready" in (stack.state.logs / "viewers.log").read_text(), 60, "the websocket clients")
            yield
            if child.poll() is not None:
                raise StackError("the websocket clients were sent away")
        finally:
            child.kill()
            child.communicate()


def _delays_ms(stack: Stack, page: Page, changes: int) -> list[float]:
    """Let one site after another go down and see when it shows; each is polled at once instead of in its turn."""
    rows = stack.execute(
        "SELECT s.id, s.uuid::text FROM edge_sites_site s JOIN edge_sites_sitestate t ON t.site_id = s.id"
        " WHERE t.shown = 'up' AND s.slug <> 'hamburg-head-office' ORDER BY s.id"
    )
    random = Random(2)
    delays = []
    for site_id, uuid in random.sample(rows, changes):
        stack.order_site(uuid, cmd="fail", mode="down", for_s=20)
        stack.execute("UPDATE edge_sites_pollschedule SET next_poll_at = now() WHERE site_id = %s", [site_id])
        seen_ms = _seen_ms(page, site_id)
        if seen_ms is not None:
            delays.append(seen_ms - _received_ms(stack, site_id))
        page.wait_for_timeout(random.uniform(100, 900))
    return delays


def _seen_ms(page: Page, site_id: int) -> float | None:
    """When the change of the site was seen, or None after some seconds."""
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        found = page.evaluate("id => window.benchChanges.find(([seen]) => seen === id)?.[1] ?? null", site_id)
        if found is not None:
            return float(found)
        page.wait_for_timeout(100)
    return None


def _received_ms(stack: Stack, site_id: int) -> float:
    """Receipt of the report that proved the change, in milliseconds since the epoch."""
    row = stack.execute(
        "SELECT evidence ->> 'poll' FROM edge_sites_stateinterval WHERE site_id = %s AND axis = 'availability'"
        " AND state = 'down' ORDER BY recorded_at DESC LIMIT 1",
        [site_id],
    )
    return datetime.fromisoformat(row[0][0]).timestamp() * 1000
