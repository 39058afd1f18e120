"""The benchmarks' pieces on a small stack of real processes."""

from collections.abc import Iterator

import pytest

from bench import polling, screens
from bench.browser import CHANGES, FIRST_DRAWN, chromium, open_overview
from bench.stack import Stack
from bench.web import Session
from fleet.stack.errors import StackError

pytestmark = pytest.mark.full
SITES = 20


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Twenty sites that are polled, and the web."""
    with Stack("bench-test") as running:
        running.grow(SITES)
        # In the tests' seconds, not in the benchmarks' minutes.
        running.execute("UPDATE edge_sites_pollschedule SET interval_s = 1, next_poll_at = now()")
        running.start(pollers=1, with_web=True)
        running.warm_up(at_most_s=60, settle_s=1)
        yield running


def test_a_second_stack_of_the_same_name_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match="Another benchmark"), Stack("bench-test"):
        pass


def test_a_window_counts_polls_and_who_spent_what(stack: Stack) -> None:
    since = stack.execute("SELECT now()")[0][0]
    window = polling.watch(stack, 4)
    assert window.failures == 0
    assert window.polls > SITES
    assert set(window.cpu_s) == {
        *("postgres", "redis", "poller0", "tick", "worker", "slow", "beat"),
        *("signer", "gateway"),
    }
    assert 0 < window.ms_a_poll < 100
    assert "pollers" in window.shares
    assert 0 < polling._late_p99_ms(stack, since) < 60_000


def test_memory_of_the_poller(stack: Stack) -> None:
    figure = polling.poller_memory(stack)
    assert figure.value is not None
    assert 20 < figure.value < 700


def test_a_fleet_is_held_when_all_of_it_is_polled_in_time() -> None:
    window = polling.Window(60, 40_000, 0, {"poller0": 6.0}, 3)
    assert polling.Step(20_000, 2, 900, 1.0, window).is_held
    assert not polling.Step(20_000, 2, 2_100, 1.0, window).is_held
    assert not polling.Step(20_000, 2, 900, 0.9, window).is_held
    assert [polling.pollers_for(sites) for sites in (1_000, 16_000, 20_000, 100_000)] == [1, 1, 2, 7]


def test_queries_are_counted_in_a_process_of_their_own(stack: Stack) -> None:
    counts = screens.query_counts(stack)
    assert len(counts) == len(screens.PAGES)
    assert all(0 < count < 40 for count in counts)


@pytest.mark.browser
def test_pages_and_changes_are_seen_in_a_browser(stack: Stack) -> None:
    session = Session(stack.url)
    assert session.get("/map.json").status == 200
    with (
        screens._viewers(stack, session, 3),
        chromium(session, FIRST_DRAWN, CHANGES) as page,
    ):
        assert 0 < open_overview(page, stack.url) < 60_000
        page.wait_for_timeout(1_000)
        [delay_ms] = screens._delays_ms(stack, page, 1)
    assert 0 < delay_ms < 6_000
    session.close()


def test_a_page_that_is_not_there_is_an_error(stack: Stack) -> None:
    session = Session(stack.url)
    with pytest.raises(StackError, match="status 404"):
        session.get("/nothing/")
    session.close()
