"""Row 7 of the matrix, and power cuts: whatever instruction it dies at, a site ends old or new, and says which."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.apply.store import FileStore, Store, Write
from agent.identity import Identity, IdentityFile
from agent.journal import Journal
from agent.protocol.entries import Receipt
from agent.protocol.identity import site_name
from agent.state import IDENTITIES, JOURNAL
from tests.agent.apply.documents import OTHER_KEY, Bench, sealed
from tests.agent.factories import AT, SITE
from tests.agent.journals import BOUND, read_entries
from tests.agent.wire import ROOT, Client, free_port, stop, until, wait_for_line
from tests.pki import Fleet

OLD = {"a": "1", "b": "1", "gone": "1"}
FIRST = sealed(1, *(f"{name}:{version}" for name, version in OLD.items()))
# What the second version comes to, and what the world is then.
VERSIONS = {"good": ("a:2", "b:2", "c:2"), "bad": ("a:2", "c:2", "b:bad"), "absent": ("a:2", "b:absent")}
CASES: dict[str, tuple[bytes, str, dict[str, str], tuple[str, ...]]] = {
    "good": (sealed(2, *VERSIONS["good"]), "applied", {"a": "2", "b": "2", "c": "2"}, VERSIONS["good"]),
    "bad": (sealed(2, *VERSIONS["bad"]), "rolled_back", OLD, VERSIONS["bad"]),
    "absent": (sealed(2, *VERSIONS["absent"]), "failed", OLD, VERSIONS["absent"]),
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
    body, state, world, _ = CASES[case]
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
    body, state, world, _ = CASES[case]
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


# A real agent that is really killed -----------------------------------------------------------------------------
ADDRESS = "127.122.0.9"
AGENT = """
import asyncio, sys, time
from pathlib import Path
from agent.commands.equipment import Equipment
from agent.commands.run import _Host
from agent.config import Config
from agent.process import log_to_stdout
from tests.agent.apply.documents import FolderPart
from tests.agent.factories import AT, SITE

Equipment.parts = property(lambda self: [FolderPart(self._folder / "world", lambda what: time.sleep(0.004))])
log_to_stdout()
asyncio.run(_Host(Config(state=sys.argv[1], listen=sys.argv[2]), SITE, None).run())
"""


class RealAgent:
    """A process that is what `archipelago-agent run` is, but for its one Part: a world of files."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(folder), f"{ADDRESS}:{self.port}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for_line(self.process, "answers for site")
        self.client = Client(ADDRESS, self.port, 10.0, fleet.dashboard, site_name(fleet.name, 1, SITE))

    def put(self, body: bytes) -> str:
        self.client.sock.sendall(b"PUT /v1/desired HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        return str(self.client.read().json["state"])

    def state(self) -> tuple[int, str]:
        status = self.client.get("/v1/desired").json
        return status["version"], status["state"]

    def end(self, number: int) -> None:
        self.client.sock.close()
        stop(self.process, number)


def now_sealed(case: str) -> bytes:
    """The second version, valid by the clock of this machine."""
    now = datetime.now(UTC).replace(microsecond=0)
    return sealed(2, *CASES[case][3], issued_at=now, expires_at=max(now, AT) + timedelta(days=1))


def receipts_of(folder: Path) -> list[Receipt]:
    """The receipts for version 2 in an agent's journal."""
    journal = Journal.open(folder / JOURNAL, bound_bytes=BOUND)
    found = [e.body for e in read_entries(journal) if isinstance(e.body, Receipt) and e.body.version == 2]
    journal.close()
    return found


def kill_at_random(count: int, fleet: Fleet, open_bench: Callable[..., Bench], identity: Identity, path: Path) -> None:
    def prepared(name: str) -> Path:
        folder = path / name
        open_bench(folder=folder).apply(FIRST)
        IdentityFile(folder / IDENTITIES).put(identity)
        return folder

    def is_over(agent: RealAgent) -> bool:
        return agent.state() in {(2, "applied"), (2, "rolled_back")}

    random = Random(11)
    whole = RealAgent(prepared("whole"), fleet)
    began_s = time.monotonic()
    assert whole.put(now_sealed("good")) == "accepted"
    until(lambda: is_over(whole), "the document to end")
    whole_s = time.monotonic() - began_s
    whole.end(signal.SIGTERM)
    was_over = 0
    for number in range(count):
        case = ("good", "bad")[number % 2]
        folder, body, (_, state, world, _) = prepared(str(number)), now_sealed(case), CASES[case]
        first = RealAgent(folder, fleet)
        first.put(body)
        time.sleep(random.uniform(0, whole_s))
        first.end(signal.SIGKILL)
        as_killed = shutil.copytree(folder, path / f"{number} as killed", ignore=shutil.ignore_patterns("*.sock"))
        was_over += bool(receipts_of(as_killed))
        again = RealAgent(folder, fleet)
        assert again.put(body) == "unchanged"
        until(functools.partial(is_over, again), "the document to end")
        assert again.state() == (2, state)
        again.end(signal.SIGTERM)
        assert {p.name: p.read_text() for p in (folder / "world").iterdir()} == world
        assert {receipt.state for receipt in receipts_of(folder)} == {state}
    assert was_over < count * 3 / 4  # many are killed in the middle


def test_a_real_process_killed_at_random_points(
    fleet: Fleet, open_bench: Callable[..., Bench], identity: Identity, tmp_path: Path
) -> None:
    kill_at_random(8, fleet, open_bench, identity, tmp_path)


@pytest.mark.full
def test_a_real_process_killed_at_fifty_random_points(
    fleet: Fleet, open_bench: Callable[..., Bench], identity: Identity, tmp_path: Path
) -> None:
    kill_at_random(50, fleet, open_bench, identity, tmp_path)


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
