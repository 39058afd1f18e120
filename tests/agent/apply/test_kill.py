"""Row 7 of the matrix, and power cuts: whatever instruction it dies at, a site ends old or new, and says which."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.apply.store import FileStore, Store, Write
from agent.identity import Identity, IdentityFile
from agent.journal import Journal
from agent.protocol.entries import Receipt
from tests.agent.apply.documents import OTHER_KEY, Bench, sealed
from tests.agent.factories import SITE
from tests.agent.journals import BOUND, read_entries
from tests.agent.wire import ROOT

OLD = {"a": "1", "b": "1", "gone": "1"}
FIRST = sealed(1, *(f"{name}:{version}" for name, version in OLD.items()))
# What the second version comes to, and what the world is then.
CASES: dict[str, tuple[bytes, str, dict[str, str]]] = {
    "good": (sealed(2, "a:2", "b:2", "c:2"), "applied", {"a": "2", "b": "2", "c": "2"}),
    "bad": (sealed(2, "a:2", "c:2", "b:bad"), "rolled_back", OLD),
    "absent": (sealed(2, "a:2", "b:absent"), "failed", OLD),
}


class KilledError(BaseException):
    """The process ends here: nothing after it is done."""


class Cut:
    """Ends the process at its `number`th act or write: an act before it is done, a write before or after."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError(what)

    def wrap(self, store: Store) -> Store:
        cut = self

        class Cutting:
            load, set_aside = store.load, store.set_aside

            def put(self, writes: Any) -> None:
                for write in writes:
                    cut("before a write")
                    store.put([write])
                    cut("after a write")

        return Cutting()


def open_cut(open_bench: Callable[..., Bench], folder: Path, cut: Cut) -> Bench:
    return open_bench(folder=folder, called=cut, store=cut.wrap(FileStore(folder / "desired", SITE)))


@pytest.mark.parametrize("case", CASES)
def test_cut_at_every_act_and_every_write(
    case: str, open_bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # processes die here, machines do not
    body, state, world = CASES[case]
    number = died = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        open_bench(folder=folder).apply(FIRST)
        try:
            bench = open_cut(open_bench, folder, Cut(number))
            assert bench.desk.put(SITE, body).state == "accepted"
            bench.run()
        except KilledError:
            died += 1
        else:
            break
        # Whatever had been accepted goes on by itself; what had not is sent again, as the poller does.
        again = open_bench(folder=folder)
        again.run()
        assert again.desk.put(SITE, body).state in {"accepted", "unchanged"}
        again.run()
        assert (again.part.world(), again.state) == (world, (2, state)), f"cut at {number}"
        assert again.part.leftovers() == []
        status = again.desk.status(SITE)
        assert status.receipt is not None
        receipts = [e for e in again.noted.entries if e.version == 2]
        assert {e.state for e in receipts} <= {state}  # told again where it is not known to have been told
    assert died >= 10


@pytest.mark.parametrize("case", CASES)
def test_cut_again_and_again(case: str, open_bench: Callable[..., Bench], tmp_path: Path) -> None:
    body, state, world = CASES[case]
    random = Random(case)
    for round_ in range(6):
        folder = tmp_path / str(round_)
        open_bench(folder=folder).apply(FIRST)
        deaths = 0
        while True:
            try:
                bench = open_cut(open_bench, folder, Cut(random.randint(2, 12)))
                bench.desk.put(SITE, body)
                bench.run()
                break
            except KilledError:
                deaths += 1
                if deaths == 60:
                    open_bench(folder=folder).run()
                    break
        end = open_bench(folder=folder)
        end.run()
        assert (end.part.world(), end.state) == (world, (2, state))


# A real process that is really killed ---------------------------------------------------------------------------
AGENT = """
import asyncio, sys, time
from pathlib import Path
from agent.apply.applier import Applier
from agent.apply.setup import open_desk
from agent.apply.store import FileStore
from agent.backends.host import HostBackend
from agent.identity import IdentityFile
from agent.memory import Memory
from tests.agent.apply.documents import FolderPart, Machine
from tests.agent.factories import SITE

async def main(folder, body):
    backend = HostBackend(SITE)
    memory = Memory(folder / "journal.sqlite", [backend])
    desk = open_desk(FileStore(folder / "desired", SITE), folder, [backend], memory)
    part = FolderPart(folder / "world", lambda what: time.sleep(0.004))
    desk.add([(SITE, Machine(), [part])])
    desk.certify(IdentityFile(folder / "identities.sqlite").get(SITE))
    applier = Applier(desk)
    memory.start()
    applier.start()
    print("ready", flush=True)
    answer = await asyncio.to_thread(desk.put, SITE, body)
    while desk.status(SITE).version != 2 or desk.status(SITE).state not in {"applied", "rolled_back", "failed"}:
        await asyncio.sleep(0.005)
    print(desk.status(SITE).state, flush=True)
    await asyncio.sleep(0.05)
    applier.stop()
    memory.tick()
    await asyncio.sleep(0.05)
    await memory.close()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
"""


def start(folder: Path, body: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(folder), str(body)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> tuple[str, float]:
    """What it came to, and how long that took."""
    assert process.stdout is not None
    began_s = time.monotonic()
    said = process.stdout.readline().strip()
    took_s = time.monotonic() - began_s
    process.communicate(timeout=20)
    return said, took_s


def kill_at_random(count: int, open_bench: Callable[..., Bench], identity: Identity, tmp_path: Path) -> None:
    def prepared(name: str, case: str) -> tuple[Path, Path]:
        folder = tmp_path / name
        open_bench(folder=folder).apply(FIRST)
        IdentityFile(folder / "identities.sqlite").put(identity)
        body = folder / "body"
        body.write_bytes(CASES[case][0])
        return folder, body

    random = Random(11)
    _, whole_s = finish(start(*prepared("whole", "good")))
    survived: list[str] = []
    for number in range(count):
        case = ("good", "bad")[number % 2]
        folder, body = prepared(str(number), case)
        with start(folder, body) as process:
            time.sleep(random.uniform(0, whole_s))
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            survived += process.stdout.read().split()
        _, state, world = CASES[case]
        said, _ = finish(start(folder, body))
        assert said == state
        assert {p.name: p.read_text() for p in (folder / "world").iterdir()} == world
        journal = Journal.open(folder / "journal.sqlite", bound_bytes=BOUND)
        receipts = [e.body for e in read_entries(journal) if isinstance(e.body, Receipt) and e.body.version == 2]
        journal.close()
        assert {receipt.state for receipt in receipts} == {state}
    assert len(survived) < count / 2  # most were killed in the middle


def test_a_real_process_killed_at_random_points(
    open_bench: Callable[..., Bench], identity: Identity, tmp_path: Path
) -> None:
    kill_at_random(8, open_bench, identity, tmp_path)


@pytest.mark.full
def test_a_real_process_killed_at_fifty_random_points(
    open_bench: Callable[..., Bench], identity: Identity, tmp_path: Path
) -> None:
    kill_at_random(50, open_bench, identity, tmp_path)


class TestOnce:
    """Row 7: it dies between apply and receipt, or its answer is lost; asked again, it was applied once."""

    def test_sent_again_after_a_lost_answer(self, open_bench: Callable[..., Bench]) -> None:
        bench = open_bench()
        bench.apply(FIRST)
        for _ in range(3):
            assert bench.desk.put(SITE, FIRST).state == "unchanged"
            bench.run()
        assert bench.part.calls.count("switch a") == 1

    def test_killed_between_apply_and_receipt(self, open_bench: Callable[..., Bench], tmp_path: Path) -> None:
        class Deaf:
            """A store that dies instead of writing the end."""

            def __init__(self, store: Store) -> None:
                self.load, self.set_aside, self._put = store.load, store.set_aside, store.put

            def put(self, writes: list[Write]) -> None:
                if any(b'"phase":"ended"' in write.packed for write in writes):
                    raise KilledError
                self._put(writes)

        bench = open_bench(store=Deaf(FileStore(tmp_path / "desired", SITE)))
        bench.desk.put(SITE, FIRST)
        with pytest.raises(KilledError):
            bench.run()
        assert bench.part.world() == OLD
        assert bench.state == (1, "applying")
        again = open_bench()
        again.run()
        assert again.state == (1, "applied")
        assert not any(call.startswith("switch") for call in again.part.calls)
        assert [e.state for e in again.noted.entries] == ["applied"]


def test_a_stolen_database_without_keys_gets_nothing_applied(open_bench: Callable[..., Bench]) -> None:
    """Row 20 of the matrix: it has every document that was ever sent, and no key."""
    bench = open_bench()
    bench.apply(FIRST)
    bench.apply(sealed(2, "a:2"))
    assert bench.desk.put(SITE, FIRST).reason == "older"
    assert bench.desk.put(SITE, sealed(2, "a:2")).state == "unchanged"
    assert bench.desk.put(SITE, sealed(3, "a:evil", key=OTHER_KEY)).reason == "signature"
    assert bench.desk.put(SITE, sealed(2, "a:2").replace(b'"sig":"', b'"sig":"A')).reason == "signature"
    bench.run()
    assert bench.part.world() == {"a": "2"}


def test_two_documents_of_one_version_are_an_alarm_that_is_journaled_once(bench: Bench) -> None:
    bench.apply(FIRST)
    other = sealed(1, "a:other")
    for _ in range(3):
        assert bench.desk.put(SITE, other).reason == "equivocation"
    alarms = [entry for entry in bench.noted.entries if entry.state == "equivocation"]
    assert len(alarms) == 1
    assert alarms[0].version == 1
    assert bench.desk.status(SITE).state == "applied"
