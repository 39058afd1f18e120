"""A fleet that was cut off comes back all at once: how soon every site is polled, and every journal read."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from bench import polling
from bench.result import Figure, machine
from bench.stack import INTERVAL_S, Stack
from fleet.stack.demo.company import HOST_SITE_UUID
from fleet.stack.errors import StackError

SITES, SITES_QUICK = 5_000, 500
DARK_S, DARK_QUICK_S = 300, 120
POLLED_AT_MOST_S = 300
READ_AT_MOST_S = 900
AIM_S = 60.0
Say = Callable[[str], None]

# The host's own agent is not simulated, and was never cut.
_CUT = f"""
SELECT count(*) FROM edge_sites_sitestate t JOIN edge_sites_site s ON s.id = t.site_id
WHERE s.life = 'active' AND s.uuid <> '{HOST_SITE_UUID}' AND {{}}
"""
_UNREACHED = _CUT.format("t.reachability = 'reachable'")
_UNPOLLED = _CUT.format("(t.last_good_at IS NULL OR t.last_good_at < %s)")
# Of what a site wrote in the dark only its last minute may be unread: `alive` comes every 60 s, and what a site that is
# reached writes on is read when something happens, or within two hours.
_UNREAD = f"""
SELECT count(*) FROM edge_sites_site s LEFT JOIN edge_sites_journalcursor c ON c.site_id = s.id
WHERE s.life = 'active' AND s.uuid <> '{HOST_SITE_UUID}'
    AND (c.read_at IS NULL OR c.read_at < %s OR c.last_at IS NULL OR c.last_at < %s - interval '65 s')
"""
# Of the first answers since then, how many came in each ten seconds.
_FIRST = """
SELECT count(*) FROM edge_sites_stateinterval WHERE axis = 'reachability' AND state = 'reachable' AND valid_from >= %s
GROUP BY floor(extract(epoch FROM valid_from - %s) / 10) ORDER BY floor(extract(epoch FROM min(valid_from)) / 10)
"""
# What was read, by site: pages that follow each other from 1 to the cursor, each number in one page alone.
_TORN = """
SELECT count(*) FROM edge_sites_journalcursor c WHERE c.seq <> coalesce((
    SELECT CASE WHEN min(v.from_seq) = 1 AND count(*) = count(DISTINCT v.from_seq)
        THEN sum(v.to_seq - v.from_seq + 1) ELSE -1 END
    FROM edge_sites_journalenvelope v WHERE v.site_id = c.site_id AND v.identity_id = c.identity_id), 0)
"""
_PROBLEMS = "SELECT count(*) FROM edge_sites_journalcursor WHERE problem <> ''"
_HOLES = "SELECT count(*) FROM edge_sites_journalenvelope WHERE holes <> '[]'"


def reconnect(say: Say, *, quick: bool) -> list[Figure]:
    """Seconds from the end of a cut of all sites to the last one polled, and to the last journal read."""
    sites, dark_s = (SITES_QUICK, DARK_QUICK_S) if quick else (SITES, DARK_S)
    with Stack() as stack:
        stack.grow(sites)
        stack.start(pollers=polling.pollers_for(sites))
        stack.warm_up(at_most_s=180, settle_s=INTERVAL_S)
        say(f"{sites:,} sites go dark for {dark_s} s")
        stack.order(cmd="fail", sites="all", mode="dark")
        stack.rest(dark_s)
        still = stack.execute(_UNREACHED)[0][0]
        if still:
            raise StackError(f"{still} sites were still taken for reachable after {dark_s} s")
        healed_at: datetime = stack.execute("SELECT clock_timestamp()")[0][0]
        began_s = time.monotonic()
        stack.order(cmd="heal", sites="all")
        _until(stack, lambda: stack.execute(_UNPOLLED, [healed_at])[0][0], POLLED_AT_MOST_S, "sites not polled")
        polled_s = time.monotonic() - began_s
        spread = stack.execute(_FIRST, [healed_at, healed_at])
        say(f"all polled after {polled_s:.1f} s; by ten seconds: {[count for (count,) in spread]}")
        unread = [healed_at, healed_at]
        _until(stack, lambda: stack.execute(_UNREAD, unread)[0][0], READ_AT_MOST_S, "journals not read")
        read_s = time.monotonic() - began_s
        return _figures(stack, sites, dark_s, polled_s, read_s)


def _figures(stack: Stack, sites: int, dark_s: int, polled_s: float, read_s: float) -> list[Figure]:
    entries, pages = stack.execute(
        "SELECT coalesce(sum(to_seq - from_seq + 1), 0)::int8, count(*) FROM edge_sites_journalenvelope"
    )[0]
    faults = {name: stack.execute(query)[0][0] for name, query in _FAULTS}
    whole = not any(faults.values())
    said = "nothing lost, nothing twice" if whole else _said(list(faults.items()))
    conditions = f"{sites:,} sites every {INTERVAL_S} s over mutual TLS, dark for {dark_s} s and healed at once"
    return [
        Figure(
            "reconnect",
            round(polled_s, 1),
            "s",
            f"at most {AIM_S:.0f}",
            f"to the last site polled: {conditions}; {said}; {machine()}",
            met=polled_s <= AIM_S and whole,
        ),
        Figure(
            "reconnect_read",
            round(read_s, 1),
            "s",
            "",
            f"to the last journal read as far as the end of the cut: {conditions}; {entries:,} entries in {pages:,} "
            f"signed pages since the beginning; {said}; {machine()}",
            met=None if whole else False,
        ),
    ]


_FAULTS = (("journals torn", _TORN), ("journals with a problem", _PROBLEMS), ("pages with holes", _HOLES))


def _said(faults: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in faults if count)


def _until(stack: Stack, left: Callable[[], int], at_most_s: float, what: str) -> None:
    """Wait until none is left. Raises StackError with their number after `at_most_s`."""
    deadline = time.monotonic() + at_most_s
    while count := left():
        if time.monotonic() > deadline:
            raise StackError(f"{count:,} {what} after {at_most_s:.0f} s")
        stack.check()
        time.sleep(0.25)
