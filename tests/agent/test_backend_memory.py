"""What every backend owes the journal: one contract for this machine and for simulated ones, through a restart."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from agent.backends.base import Backend
from agent.backends.host import HostBackend
from agent.backends.simulated import SimulatedBackend
from agent.identity import Identity, Keys
from agent.journal import Journal
from agent.memory import Memory
from agent.protocol import Report, decode_report
from agent.protocol.entries import Components, Entry, Start
from agent.protocol.journal import AckAnswer, AckRequest, Page, open_page
from agent.remember import Recorder
from tests.agent.factories import SITE
from tests.agent.test_backends import host, make_site, simulated

MAKERS: list[Callable[[], Backend]] = [host, simulated]


class Clock:
    """Time that the test moves on."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


class Kept:
    """A backend with a journal, and the centre that reads it."""

    def __init__(self, path: Path, backend: Backend, clock: Clock, keys: Keys) -> None:
        self.backend, self.clock, self.keys = backend, clock, keys
        self.memory = Memory(path, [backend], now_s=clock, mono_s=clock)
        self.memory.sign_as(Identity(backend.site, keys))

    def live(self, seconds: int) -> None:
        """A tick now, and one a second from then on."""
        self.memory.tick()
        for _ in range(seconds):
            self.clock.now_s += 1
            self.memory.tick()

    def report(self) -> Report:
        """The report of now, as a poll brings it."""
        self.memory.polled(self.backend.site)
        return decode_report(self.backend.report(None))

    def page(self, after: int = 0, prev: str | None = None) -> Page:
        """A page of the journal, checked as the centre does."""
        raw = self.memory.page(self.backend.site, after, 1_000)
        return open_page(raw, site=self.backend.site, signing_key=self.keys.public()[1], after=after, prev=prev)


@contextmanager
def keep(path: Path, backend: Backend, clock: Clock, keys: Keys) -> Iterator[Kept]:
    kept = Kept(path, backend, clock, keys)
    yield kept
    kept.memory._journal.close()


def kinds(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.kind for entry in entries]


@pytest.mark.parametrize("make", MAKERS)
def test_a_backend_is_remembered_and_its_reports_tell_the_same(make: Callable[[], Backend], tmp_path: Path) -> None:
    clock, keys, path = Clock(), Keys.make(), tmp_path / "journal.sqlite"
    with keep(path, make(), clock, keys) as kept:
        kept.live(0)
        report = kept.report()
        page = kept.page()
        start, verdict, components = (entry.body for entry in page.entries)
        assert kinds(page.entries) == ["start", "verdict", "components"]
        assert isinstance(start, Start)
        assert (start.clean, start.uptime_ms) == (None, page.entries[0].mono_ms)
        assert verdict == report.verdict
        assert components == Components(report.components_digest, report.components)
        assert {entry.boot for entry in page.entries} == {report.boot}
        assert (report.journal_seq, report.journal_head) == (page.to, page.head)

        kept.live(60)  # polled within that minute
        kept.live(60)  # and not within this
        page = kept.page(page.to, page.head)
        assert kinds(page.entries) in (["alive", "alive", "sample"], ["alive", "sample", "alive", "sample"])
        report = kept.report()
        assert (report.journal_seq, report.journal_head) == (page.to, page.head)
        answer = kept.memory.ack(SITE, AckRequest(page.to, page.head))
        assert answer == AckAnswer("accepted", page.to)

    with keep(path, make(), clock, keys) as kept:  # again, without a reboot
        kept.live(0)
        after = kept.page(page.to, page.head)
        assert kinds(after.entries) == ["start", "verdict", "components"]
        begun = after.entries[0].body
        assert isinstance(begun, Start)
        assert begun.clean is True
        assert {entry.boot for entry in after.entries} == {report.boot}
        assert kept.report().journal_seq == after.to == page.to + 3


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.full)])
def test_many_simulated_sites_and_this_machine_share_one_journal(count: int, tmp_path: Path) -> None:
    """What all of them write within a tick is one commit; each has its own chain, and its report tells its head."""
    clock = Clock()
    sites: list[Backend] = [make_site(seed, now_s=clock, workloads=2) for seed in range(count)]
    sites.append(HostBackend(SITE))
    journal = Journal.open(tmp_path / "journal.sqlite", bound_bytes=256 << 20)
    recorder = Recorder(journal, sites)
    commits = []
    for _ in range(61):
        recorder.tick(_moment(clock), clock.now_s)
        assert journal._file is not None
        commits.append(journal._file.commits)
        clock.now_s += 1
    assert journal.held == 0
    assert max(after - before for before, after in pairwise(commits)) <= 1
    assert commits[0] <= 2 + count * 6_000 // (16 << 20)  # the first look at what is old; a commit is 16 MiB at most
    ends = {site.site: journal.head(site.site) for site in sites}
    assert {seq for site, (seq, _) in ends.items() if site != SITE} == {5}
    assert ends[SITE][0] >= 5  # whatever else happened on this machine meanwhile
    assert len({head for _, head in ends.values()}) == count + 1
    for backend in (sites[0], sites[count // 2], sites[-1]):
        memory = journal.page(backend.site, 0)
        assert (memory.to, memory.head) == ends[backend.site]
    some = sites[1]
    assert isinstance(some, SimulatedBackend)
    some.set_state("down")
    assert journal._file is not None
    before = commits[-1]
    recorder.tick(_moment(clock), clock.now_s)
    assert journal._file.commits == before + 1
    assert journal.head(some.site)[0] >= 6
    journal.close()


def _moment(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now_s, UTC)
