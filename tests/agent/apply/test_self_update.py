"""The agent replaces itself: real wheels, real processes started by the launcher, a real poll; and what undoes it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent import __version__ as OLD
from agent.apply.part import ApplyError, Change, Check
from agent.apply.releases import Releases
from agent.apply.self_update import SelfUpdate
from agent.protocol.desired import AgentRelease, Document, Policy, digest
from agent.protocol.identity import site_name
from agent.state import SOCKET
from agent.status import Status, ask
from agent.unix_socket import UnixSocketError
from tests.agent.conftest import pip
from tests.agent.factories import AT, SITE
from tests.agent.wire import ROOT, Client, free_port, keep, until
from tests.pki import Fleet

ADDRESS = "127.122.0.9"
NEW = "0.9.1"
LAUNCH = ROOT / "deploy" / "agent" / "launch"


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The wheel of the next version, really built."""
    folder = tmp_path_factory.mktemp("newer")
    source = shutil.copytree(ROOT / "agent", folder / "agent", ignore=shutil.ignore_patterns("__pycache__", "build"))
    start = source / "__init__.py"
    start.write_text(start.read_text().replace(f'"{OLD}"', f'"{NEW}"'))
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source), cwd=folder)
    return (folder / f"archipelago_agent-{NEW}-py3-none-any.whl").read_bytes()


def edited(wheel: bytes, folder: Path, name: str, old: str, new: str) -> bytes:
    """The wheel with one file of it changed."""
    (folder / "in.whl").write_bytes(wheel)
    with zipfile.ZipFile(folder / "in.whl") as source, zipfile.ZipFile(folder / "out.whl", "w") as target:
        for item in source.namelist():
            data = source.read(item)
            if item.endswith(name):
                assert old.encode() in data
                data = data.replace(old.encode(), new.encode(), 1)
            target.writestr(item, data)
    return (folder / "out.whl").read_bytes()


class Service:
    """What systemd does for the unit: starts the launcher, and starts it again whenever it has ended, but for 78."""

    def __init__(self, folder: Path, wheel: bytes) -> None:
        self.releases = Releases(folder / "releases", Path(sys.executable))
        self.folder = folder / "releases"
        self.folder.mkdir()
        self.releases.install(OLD, wheel)
        self.releases.use(OLD)
        self.port, self.fleet = free_port(), Fleet()
        self.state = keep(folder / "state", self.fleet.site(SITE))
        self.statuses: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread.start()

    def _run(self) -> None:
        command = [str(LAUNCH), str(self.folder), "run", "--listen", f"{ADDRESS}:{self.port}"]
        command += ["--site", str(SITE), "--state", str(self.state)]
        while not self._ended.is_set():
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/")
            self.statuses.append(self._process.wait())
            with contextlib.suppress(ProcessLookupError):  # the rest of the unit's control group
                os.killpg(self._process.pid, signal.SIGKILL)
            if self.statuses[-1] == 78:
                return
            time.sleep(0.1)

    def close(self) -> None:
        self._ended.set()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._thread.join()

    def kill(self) -> None:
        """End the agent itself; the launcher may watch it."""
        status = self.status()
        assert status is not None
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        until(lambda: not self.is_running(status.version) or self.status() != status, "its end")

    def poll(self) -> None:
        """What the centre does."""
        with Client(ADDRESS, self.port, tls=self.fleet.dashboard, name=site_name(self.fleet.name, 1, SITE)) as client:
            assert client.get().status == 200

    def is_running(self, version: str) -> bool:
        status = self.status()
        return status is not None and status.version == version

    def status(self) -> Status | None:
        try:
            return ask(self.state / SOCKET)
        except UnixSocketError:
            return None

    def wait(self, version: str, limit_s: float = 40.0) -> None:
        until = time.monotonic() + limit_s
        while not self.is_running(version):
            assert time.monotonic() < until, f"agent {version} does not run; it ended with {self.statuses}"
            time.sleep(0.1)

    def part(self, trial_s: int = 60) -> SelfUpdate:
        """As it would be within the process that runs now."""
        status = self.status()
        assert status is not None
        pid = status.pid
        assert pid is not None
        return SelfUpdate(
            self.releases,
            running=status.version,
            polled=lambda: (now := self.status()) is not None and now.last_poll_at is not None,
            restart=lambda: os.kill(pid, signal.SIGTERM),
            trial_s=trial_s,
        )

    def versions(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink())


@pytest.fixture
def service(wheel: Path, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, wheel.read_bytes())
    try:
        service.wait(OLD)
        yield service
    finally:
        service.close()


class Wheel:
    """The one blob that was sent."""

    def __init__(self, wheel: bytes) -> None:
        self._wheel = wheel

    def read(self, sha256: str) -> bytes:
        assert sha256 == digest(self._wheel)
        return self._wheel


def wanting(version: str, wheel: bytes) -> Document:
    return Document(
        fleet="test.example",
        provider=1,
        site=SITE,
        epoch=1,
        version=1,
        prev_sha256=None,
        issued_at=AT,
        expires_at=AT + timedelta(hours=1),
        hold=False,
        standard=None,
        workloads=(),
        agent=AgentRelease(version, digest(wheel)),
        os=None,
        policy=Policy(),
        rollout=None,
    )


def switched(service: Service, wheel: bytes, trial_s: int = 60) -> tuple[Document, Change]:
    """The old agent has staged and switched, and ends itself."""
    document = wanting(NEW, wheel)
    part = service.part(trial_s)
    (change,) = part.changes(document, Wheel(wheel))
    assert change == Change("agent", "archipelago-agent", OLD, NEW)
    for _ in range(2):
        part.stage(document, change, Wheel(wheel))
    assert service.versions() == [OLD, NEW]
    for _ in range(2):
        part.switch(document, change, Wheel(wheel))
    assert service.is_running(OLD)
    assert part.check(document, change) == Check("waiting", f"agent {NEW} is to start")
    return document, change


def came_back(service: Service, document: Document, change: Change, why: str) -> None:
    """The old agent runs again, says why, and lets the new one go."""
    part = service.part()
    assert part.check(document, change) == Check("broken", f"{why}; agent {OLD} is back")
    with pytest.raises(ApplyError, match=f"^agent {NEW} was tried already: "):
        part.switch(document, change, Wheel(b""))
    for _ in range(2):
        part.restore(document, change)
    assert service.versions() == [OLD]
    assert sorted(path.name for path in service.folder.iterdir()) == [OLD, "current"]
    service.poll()
    assert service.is_running(OLD)


def test_the_new_agent_stays_once_it_was_polled(service: Service, newer: bytes) -> None:
    document, change = switched(service, newer)
    service.wait(NEW)
    part = service.part()
    assert part.check(document, change) == Check("waiting", "the centre has not polled it yet")
    service.kill()
    until(lambda: service.statuses == [0, 137], "the end of the new agent")  # once more: that is not yet a failure
    service.wait(NEW)
    service.poll()
    part = service.part()
    for _ in range(2):
        assert part.check(document, change) == Check("well")
    assert service.versions() == [OLD, NEW]
    for _ in range(2):
        part.keep(document, change)
    assert sorted(path.name for path in service.folder.iterdir()) == [NEW, "current"]
    assert list(part.changes(document, Wheel(newer))) == []
    service.kill()
    service.wait(NEW)


def test_one_that_ends_at_its_start_is_undone(service: Service, newer: bytes, tmp_path: Path) -> None:
    broken = edited(newer, tmp_path, "agent/commands/run.py", "    config = _with_flags(options)", "    os._exit(78)")
    document, change = switched(service, broken)
    until(lambda: len(service.statuses) == 4, "its fourth end", 40)
    service.wait(OLD)
    assert service.statuses == [0, 1, 1, 1]  # 78 would have ended the unit for good
    came_back(service, document, change, "it ended 3 times before the centre had polled it")


@pytest.mark.parametrize("hangs", [False, True], ids=["runs", "hangs"])
def test_one_that_nobody_polls_is_undone(hangs: bool, service: Service, newer: bytes, tmp_path: Path) -> None:
    wheel = newer
    if hangs:
        line = "    config = _with_flags(options)"
        wheel = edited(newer, tmp_path, "agent/commands/run.py", line, "    import time; time.sleep(600)")
    document, change = switched(service, wheel, trial_s=5)
    until(lambda: len(service.statuses) == 2, "the end of the trial", 40)
    service.wait(OLD)
    came_back(service, document, change, "the centre did not poll it within 5 s")


def test_going_back_from_one_that_is_well(service: Service, newer: bytes) -> None:
    document, change = switched(service, newer)
    service.wait(NEW)
    service.poll()
    part = service.part()
    assert part.check(document, change) == Check("well")
    part.restore(document, change)
    service.wait(OLD)
    service.part().restore(document, change)
    assert sorted(path.name for path in service.folder.iterdir()) == [OLD, "current"]


def test_what_cannot_be_staged(wheel: Path, newer: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    releases = Releases(folder, Path(sys.executable))
    part = SelfUpdate(releases, running=OLD, polled=lambda: False, restart=lambda: None)
    change = Change("agent", "archipelago-agent", OLD, NEW)
    with pytest.raises(ApplyError, match=r"^this agent was not installed by install.sh, so it cannot replace itself$"):
        part.changes(wanting(NEW, newer), Wheel(newer))
    lacking = edited(newer, tmp_path, "METADATA", "Requires-Dist: tzdata", "Requires-Dist: not-there>=3")
    first = "the agent cannot be installed: what it needs must be installed first: "
    for sent, why in (
        (lacking, f"{first}No matching distribution found for not-there>=3"),
        (wheel.read_bytes(), f"the wheel holds agent {OLD}, not {NEW}"),
        (b"PK", first),
    ):
        with pytest.raises(ApplyError) as raised:
            part.stage(wanting(NEW, sent), change, Wheel(sent))
        assert str(raised.value).startswith(why)
    part.restore(wanting(NEW, newer), change)
    assert [path.name for path in folder.iterdir() if path.name != NEW] == []
    with pytest.raises(ApplyError, match=f"^agent {NEW} was not staged$"):
        part.switch(wanting(NEW, newer), change, Wheel(newer))
