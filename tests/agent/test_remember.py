"""What the recorder writes, minute by minute, on a clock that stands until it is set."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from agent import __version__
from agent.backends.host import HostBackend
from agent.backends.simulated import SimulatedBackend
from agent.fleet_file import SiteSpec
from agent.journal import Journal
from agent.memory import Memory
from agent.protocol import Component, Verdict, components_digest, decode_report
from agent.protocol.entries import Alive, Components, Entry, Receipt, Start, decode_entry
from agent.remember import Recorder
from agent.virtual_site import VirtualSite
from tests.agent.factories import AT, COMPONENTS, SITE, make_report
from tests.agent.journals import BOOT, BOUND, read_entries
from tests.agent.wire import NAMESPACE

T0_S = AT.timestamp()


class World:
    """A journal, a recorder, and simulated sites that share one clock."""

    def __init__(self, path: Path, sites: int = 1) -> None:
        self.now_s = T0_S
        self.path = path
        self.sites = [
            SimulatedBackend(site, seed=i, profile="shop", time_zone="UTC", workloads=2, now_s=lambda: self.now_s)
            for i, site in enumerate([SITE, *(uuid5(NAMESPACE, str(i)) for i in range(1, sites))])
        ]
        self.journal = Journal.open(path, bound_bytes=16 * BOUND, tail=3)
        self.recorder = Recorder(self.journal, self.sites)

    def run(self, seconds: int, *, polled: bool = False) -> None:
        for _ in range(seconds):
            self.now_s += 1
            if polled:
                self.recorder.polled(SITE, self.now_s)
            self.tick()

    def tick(self) -> None:
        self.recorder.tick(datetime.fromtimestamp(self.now_s, UTC), self.now_s)

    def entries(self, site: UUID = SITE) -> list[Entry]:
        return [decode_entry(raw) for raw in self.journal.page(site, 0).entries]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal.db")


def test_the_first_tick_tells_everything(world: World) -> None:
    world.tick()
    report = decode_report(world.sites[0].report(None))
    start, verdict, components = world.entries()
    assert isinstance(start.body, Start)
    assert (start.body.uptime_ms, start.body.agent, start.body.clean) == (report.mono_ms, __version__, None)
    assert abs(start.body.boot_at.timestamp() - (T0_S - report.mono_ms / 1_000)) < 0.002
    assert verdict.body == report.verdict
    assert components.body == Components(report.components_digest, report.components)
    assert {(e.boot, e.mono_ms, e.at) for e in world.entries()} == {(report.boot, report.mono_ms, AT)}


def test_alive_every_minute_and_a_sample_only_when_nobody_polls(world: World) -> None:
    world.tick()
    world.run(180)
    assert world.kinds()[3:] == ["alive", "sample"] * 3
    assert [e.at.timestamp() - T0_S for e in world.entries() if e.kind == "alive"] == [60, 120, 180]
    assert world.entries()[-1].body == world.sites[0].make_now().resources
    world.run(180, polled=True)
    assert world.kinds()[9:] == ["alive"] * 3
    world.run(60)
    assert world.kinds()[12:] == ["alive", "sample"]


def test_a_late_tick_does_not_shift_the_minute_and_a_pause_is_not_made_up(world: World) -> None:
    world.tick()
    for seconds in (61, 119, 180, 1_000, 1_059, 1_060):
        world.now_s = T0_S + seconds
        world.tick()
    assert [e.at.timestamp() - T0_S for e in world.entries() if e.kind == "alive"] == [61, 180, 1_000, 1_060]


def test_each_change_of_state_and_of_components(world: World) -> None:
    world.tick()
    site = world.sites[0]
    world.run(5)
    site.set_state("down")
    world.run(5)
    site.set_state("up")
    site.upgrade("workload", site.make_now().workloads[0].name, "99.0.0")
    world.run(5)
    verdicts = [e for e in world.entries() if isinstance(e.body, Verdict)]
    assert [(e.body.state, e.at.timestamp() - T0_S) for e in verdicts if isinstance(e.body, Verdict)] == [
        ("up", 0),
        ("down", 6),
        ("up", 11),
    ]
    assert verdicts[1].body == Verdict("down", datetime.fromtimestamp(T0_S + 5, UTC), verdicts[1].body.reasons)  # type: ignore[union-attr]
    sets = [e.body for e in world.entries() if isinstance(e.body, Components)]
    assert [body.digest for body in sets][1:] == [site.components_digest]
    assert sets[1].components == site.make_now().components


def test_a_reboot_is_a_start_and_tells_the_state_again(world: World) -> None:
    world.tick()
    world.run(10)
    world.sites[0].upgrade("kernel", "linux", "6.99")
    world.run(1)
    start, verdict, components = world.entries()[3:]
    assert isinstance(start.body, Start)
    assert (start.body.clean, verdict.kind, components.kind) == (False, "verdict", "components")
    assert start.boot != world.entries()[0].boot


def test_a_new_agent_says_how_the_last_one_ended(world: World) -> None:
    world.tick()
    world.journal.close()
    again = World(world.path)
    again.tick()
    starts = [e.body.clean for e in again.entries() if isinstance(e.body, Start)]
    assert starts == [None, True]
    assert again.kinds() == ["start", "verdict", "components"] * 2


def test_a_journal_that_begins_anew_is_told_again(world: World) -> None:
    world.tick()
    world.run(30)
    world.journal._condemn()
    world.run(31)
    assert world.kinds() == ["gap", "alive", "sample", "verdict", "components"]


def test_many_sites_are_spread_over_the_minute(tmp_path: Path) -> None:
    world = World(tmp_path / "journal.db", sites=120)
    world.tick()
    world.run(120)
    moments: Counter[float] = Counter()
    for site in world.sites:
        alive = [e.at.timestamp() - T0_S for e in world.entries(site.site) if e.kind == "alive"]
        assert len(alive) == 2
        assert alive[1] - alive[0] == 60
        moments.update(alive)
    assert moments == Counter(dict.fromkeys(range(1, 121), 2))


def test_what_breaks_a_bound_does_not_stop_the_rest(tmp_path: Path) -> None:
    many = tuple(Component("workload", f"{i:0512}") for i in range(512))

    class Odd:
        site = SITE
        is_running = True
        state = "down"
        components_digest = components_digest(many)

        def make_now(self, components_digest: str | None = None) -> object:
            verdict = Verdict("down", AT, ("probe said \x00\ud800", "x" * 600, *["y"] * 100))
            return make_report(verdict=verdict, components=many)

    journal = Journal.open(tmp_path / "journal.db", bound_bytes=BOUND)
    Recorder(journal, [Odd()]).tick(AT, 0.0)  # type: ignore[list-item]
    start, verdict, components = [entry.body for entry in read_entries(journal)]
    assert isinstance(start, Start)
    assert verdict == Verdict("down", AT, ("probe said ??", "x" * 512, *["y"] * 62))
    assert components == Components(components_digest(many), None)


def test_the_host_is_a_subject(tmp_path: Path) -> None:
    host = HostBackend(SITE)
    journal = Journal.open(tmp_path / "journal.db", bound_bytes=BOUND)
    recorder = Recorder(journal, [host])
    recorder.tick(AT, 0.0)
    recorder.tick(AT, 60.0)
    report = host.make_now()
    entries = read_entries(journal)
    assert [e.kind for e in entries] == ["start", "verdict", "components", "alive", "sample"]
    assert entries[2].body == Components(host.components_digest, report.components)
    assert entries[3].body == Alive()
    assert {e.boot for e in entries} == {report.boot}
    assert report.boot != BOOT
    assert host.components_digest != components_digest(COMPONENTS)


def test_without_power_nothing_is_written_and_then_there_is_another_boot(tmp_path: Path) -> None:
    spec = SiteSpec(site=SITE, address="127.64.0.10", seed=1)
    now = [1_790_000_000.0]
    site = VirtualSite(spec, lambda: now[0])
    journal = Journal.open(tmp_path / "journal.db", bound_bytes=BOUND)
    recorder = Recorder(journal, [site])
    recorder.tick(AT, 0.0)
    written = journal.head(SITE)
    site.set_mode("off")
    for minute in range(1, 6):
        now[0] += 60
        recorder.tick(AT, minute * 60.0)
    assert journal.head(SITE) == written
    site.set_mode(None)
    recorder.tick(AT, 301.0)
    first, *_, start, _ = read_entries(journal)
    assert isinstance(start.body, Start)
    assert start.body.clean is False
    assert start.boot != first.boot


def test_a_note_is_written_at_the_next_tick_after_what_changed(world: World) -> None:
    world.recorder.note(SITE, Receipt(1, 7, "applied"))
    world.tick()
    world.tick()
    assert world.kinds() == ["start", "verdict", "components", "receipt"]
    assert world.entries()[-1].body == Receipt(1, 7, "applied")


async def test_a_note_from_any_thread_is_said_to_be_written_once_it_is(tmp_path: Path) -> None:
    backend = SimulatedBackend(SITE, seed=1, profile="shop", time_zone="UTC", workloads=2)
    memory = Memory(tmp_path / "journal.db", [backend])
    written: list[int] = []
    await asyncio.to_thread(memory.note, SITE, Receipt(1, 7, "applied"), lambda: written.append(memory.usage(SITE)[0]))
    assert written == []
    memory.tick()
    assert written == [4]
    await memory.close()
