"""A simulated clock for the whole centre, and sites whose real agents live by it: for tests that last a month.

The clock is all that is not real. In the database `now()` and its like are shadowed by functions of a schema that comes
first in the search path; in Python it is Django's `now()`; an agent is given it, as in production it is given the real
one. Journals are written, signed and paged by the agent's own code, and read as the centre reads them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.utils import timezone

from agent.fleet_file import SiteSpec
from agent.identity import Identity, Keys
from agent.memory import Memory
from agent.protocol.journal import open_page
from agent.virtual_site import Mode, VirtualSite
from sites.agent_client import PollResult
from sites.journal_states import Anchor
from sites.models import JournalCursor, Site
from sites.selectors.polling import poll_targets
from sites.services.backfill import record_page
from sites.services.reports import record_reports
from sites.states import Failure
from tests.database import OWNER, rows
from tests.sites.builders import due
from tests.sites.identities import keys

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)
MISSES = 3
PAGE = 1_000
_PARTS = ("sample", "sample_5m", "sample_1h")
_SHADOW = """
CREATE SCHEMA simulated;
CREATE TABLE simulated.clock AS SELECT now() AS at;
GRANT USAGE ON SCHEMA simulated TO PUBLIC;
GRANT SELECT ON simulated.clock TO PUBLIC
"""
_FUNCTIONS = ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp")
_DEFAULTS = """
SELECT 'ALTER TABLE ' || quote_ident(table_name) || ' ALTER COLUMN ' || quote_ident(column_name) || ' SET DEFAULT ',
    column_default
FROM information_schema.columns
WHERE table_schema = 'public' AND column_default IN ('statement_timestamp()', 'now()')
"""
_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = ANY(%s::regclass[])"


class Clock:
    """The moment that everybody goes by; it only moves when a test moves it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds since the epoch, as an agent asks for them."""
        return self.now.timestamp()

    def set(self, now: datetime) -> None:
        """Go to a moment."""
        self.now = now
        rows("UPDATE simulated.clock SET at = %s", [now], using=OWNER)


@contextmanager
def simulated_clock(monkeypatch: Any, now: datetime, *, until: datetime) -> Iterator[Clock]:
    """The centre lives by a clock that stands at `now`; samples can be kept up to `until`."""
    clock = Clock(now)
    defaults = rows(_DEFAULTS, using=OWNER)
    before = {name for (name,) in rows(_PARTITIONS, [list(_PARTS)], using=OWNER)}
    rows("DROP SCHEMA IF EXISTS simulated CASCADE", using=OWNER)
    rows(_SHADOW, using=OWNER)
    try:
        for name in _FUNCTIONS:
            body = "LANGUAGE sql STABLE AS 'SELECT at FROM simulated.clock'"
            rows(f"CREATE FUNCTION simulated.{name}() RETURNS timestamptz {body}", using=OWNER)
        for alter, _ in defaults:
            rows(f"{alter} simulated.now()", using=OWNER)
        days = (until - now).days + 2
        for part in _PARTS:
            rows("SELECT make_partitions(%s, %s::date, %s)", [part, now.date(), days], using=OWNER)
        for alias in ("default", OWNER):
            rows("SET search_path = simulated, public, pg_catalog", using=alias)
        monkeypatch.setattr(timezone, "now", lambda: clock.now)
        clock.set(now)
        yield clock
    finally:
        for alias in ("default", OWNER):
            rows("RESET search_path", using=alias)
        for alter, default in defaults:
            rows(f"{alter} {default}", using=OWNER)
        rows("DROP SCHEMA simulated CASCADE", using=OWNER)
        made = {name for (name,) in rows(_PARTITIONS, [list(_PARTS)], using=OWNER)} - before
        if made:
            rows(f"DROP TABLE {', '.join(sorted(made))}", using=OWNER)


def berlin(day: int, hour: int = 0, minute: int = 0, *, month: int = 10, fold: int = 0) -> datetime:
    """A moment of 2026 by Berlin's wall clock."""
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN, fold=fold).astimezone(UTC)


class AgentSite:
    """A site with its agent. It writes a journal from `remember()` on, a tick a minute while the test lets it live."""

    def __init__(self, clock: Clock, site: Site, folder: Path, seed: int) -> None:
        self.clock, self.site, self._folder = clock, site, folder
        self.machine = VirtualSite(SiteSpec(site.uuid, site.address, seed), clock)
        self.memory: Memory | None = None
        made = Keys.make()
        tls_key, self._public = made.public()
        self._identity = Identity(site.uuid, made)
        self.keys = keys(site, "accepted", tls_key=tls_key, signing_key=self._public)

    def remember(self) -> None:
        """Its agent keeps a journal from now on."""
        self.memory = Memory(
            self._folder / f"{self.site.slug}.sqlite", [self.machine], now_s=self.clock, mono_s=self.clock
        )
        self.memory.sign_as(self._identity)
        self.memory.tick()

    def mode(self, mode: Mode | None) -> None:
        """It is `down`, `degraded`, `off`, or well again, and its agent sees it at once."""
        self.machine.set_mode(mode)
        if self.memory is not None:
            self.memory.tick()

    def live(self, until: datetime) -> None:
        """Live on to that moment, minute by minute."""
        assert self.memory is not None
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + MINUTE)
            self.memory.tick()
        self.clock.set(until)

    def read_journal(self) -> int:
        """The centre reads its journal to the end, anchored by a report of this very moment; returns how many pages."""
        assert self.memory is not None
        report, pages = self.machine.make_now(), 0
        anchor = Anchor(self.clock.now, report.boot, report.mono_ms, 0, 5, report.journal_seq or 0)
        while True:
            cursor = JournalCursor.objects.using(OWNER).filter(site=self.site).first()
            after, head = (cursor.seq, cursor.head) if cursor else (0, None)
            body = self.memory.page(self.site.uuid, after, PAGE)
            page = open_page(body, site=self.site.uuid, signing_key=self._public, after=after, prev=head)
            if not page.entries:
                return pages
            assert record_page(page, body, site_id=self.site.pk, identity_id=self.keys.pk, anchor=anchor)
            pages += 1


def poll(*sites: AgentSite) -> None:
    """The centre polls these sites at this moment, and they answer."""
    _record([(site, True) for site in sites])


def miss(clock: Clock, *sites: AgentSite) -> None:
    """The centre polls them once a minute and gets no answer, until it takes them for unreachable; they live on."""
    for _ in range(MISSES):
        clock.set(clock.now + MINUTE)
        for site in sites:
            if site.memory is not None:
                site.memory.tick()
        _record([(site, False) for site in sites])


def _record(asked: Sequence[tuple[AgentSite, bool]]) -> None:
    due(*(one.site for one, _ in asked))
    targets = {target.site_id: target for target in poll_targets([one.site.pk for one, _ in asked])}
    results = []
    for one, answers in asked:
        target, now = targets[one.site.pk], one.clock.now
        if answers:
            results.append(PollResult(target, now, 5, one.machine.make_now(target.digest)))
        else:
            results.append(PollResult(target, now, 3000, None, Failure.TIMEOUT, "no connection within 3 s"))
    record_reports(results, poller="month")
