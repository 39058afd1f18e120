"""When the system may call itself ready: the web answers, and the demo's sites have been polled."""

import ssl
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection

import psycopg

from fleet.stack.errors import StackError
from fleet.stack.options import Options

WEB_S = 90.0
LIVE_S = 90.0
PROGRESS_S = 3.0


def web_answers(options: Options) -> bool:
    """Whether /readyz answers 200."""
    connection: HTTPConnection
    if options.certificate:
        # Our own server, whose certificate may name any host.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(options.bind, options.port, timeout=5, context=context)
    else:
        connection = HTTPConnection(options.bind, options.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def wait_for_web(options: Options, watch: Callable[[Callable[[], bool]], None]) -> None:
    """Return once the web answers; `watch` looks after the processes meanwhile. Raises StackError after 90 s."""
    deadline = time.monotonic() + WEB_S

    def done() -> bool:
        return web_answers(options) or time.monotonic() > deadline

    watch(done)
    if not web_answers(options):
        raise StackError(f"The web did not become ready within {WEB_S:.0f} s; see its log.")


def wait_for_sites(
    owner_url: str,
    *,
    watch: Callable[[Callable[[], bool]], None],
    say: Callable[[str], None],
) -> None:
    """Return once all active sites have answered a poll since now, or after 90 s with a line that says how many have.

    `watch` looks after the processes meanwhile.
    """
    with psycopg.connect(owner_url, autocommit=True, connect_timeout=10) as connection:
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None
        since, began = row[0], time.monotonic()
        counts = (0, 0)
        next_line = began + PROGRESS_S

        def all_live() -> bool:
            nonlocal counts, next_line
            counts = _live(connection, since)
            now = time.monotonic()
            if now > next_line:
                next_line = now + PROGRESS_S
                say(f"{counts[0]:,} of {counts[1]:,} sites are live")
            return counts[0] >= counts[1] or now - began > LIVE_S

        watch(all_live)
    say(f"{counts[0]:,} of {counts[1]:,} sites are live")


def _live(connection: psycopg.Connection, since: object) -> tuple[int, int]:
    row = connection.execute(
        """
        SELECT count(*) FILTER (WHERE state.last_good_at >= %s), count(*)
        FROM edge_sites_site site LEFT JOIN edge_sites_sitestate state ON state.site_id = site.id
        WHERE site.life = 'active'
        """,
        [since],
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
