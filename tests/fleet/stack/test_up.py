"""`manage.py up`, the whole of it, in a copy of the checkout: up, disturbed, and down without a trace."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from fleet.stack.state import ROOT
from tests.fleet.stack.conftest import is_gone

PARTS = ("agent", "fleet", "sites", "slas", "scripts", "static", "staticfiles", "templates")
FILES = ("manage.py", "pyproject.toml", "constraints.txt", "package.json", "package-lock.json")
NOT_INHERITED = ("DATABASE", "REDIS_URL", "SECRET_KEY", "HTTPS", "ARCHIPELAGO", "BIND", "SITES", "POLLERS", "MAKELEVEL")
READY_S = 240


@pytest.fixture(scope="module")
def checkout(public_folder: Path) -> Path:
    """A copy: a run of the developer's own, with its run file, is none of our business."""
    folder = public_folder / "checkout"
    folder.mkdir(mode=0o755)
    for part in PARTS:
        if (ROOT / part).exists():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, folder / file)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """One `manage.py up`, with what it printed so far."""

    def __init__(self, checkout: Path, state: Path, **environ: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        self.port = int(environ.setdefault("PORT", str(free_port())))
        self.checkout = checkout
        self.environ = {**kept, "ARCHIPELAGO_STATE_DIR": str(state), "SITES": "6", **environ}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=checkout,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))

    def wait_ready(self) -> None:
        self.wait_for(lambda: any("is ready at" in line for line in self.lines), READY_S)

    def wait_for(self, done, seconds: float) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, "\n".join(self.lines)
            assert self.process.poll() is None, "\n".join(self.lines)
            time.sleep(0.1)

    def manage(self, *command: str) -> str:
        """Another shell's manage.py, which knows nothing but the checkout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        run = [sys.executable, "manage.py", *command]
        return subprocess.run(run, cwd=self.checkout, env=kept, check=True, capture_output=True, text=True).stdout

    def children(self) -> dict[int, str]:
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a zombie included
                found[child.pid] = " ".join(child.cmdline())
        return found

    def end(self, number: signal.Signals) -> tuple[int, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.lines[-12:]}") from None
        self._reader.join(10)
        return code, time.monotonic() - began


@contextmanager
def running(checkout: Path, state: Path, **environ: str) -> Iterator[Up]:
    up = Up(checkout, state, **environ)
    try:
        up.wait_ready()
        yield up
    finally:
        if up.process.poll() is None:
            up.end(signal.SIGTERM)


def left_over(pids: list[int], seconds: float = 10) -> list[int]:
    deadline = time.monotonic() + seconds
    while not all(is_gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if not is_gone(pid)]


def test_up_and_down(checkout: Path, public_folder: Path) -> None:
    state = public_folder / "up"
    with running(checkout, state, ARCHIPELAGO_DEMO_PASSWORD="from the environment") as up:
        assert up.lines[-1] == f"Archipelago is ready at http://127.0.0.1:{up.port}"
        assert [line for line in up.lines[:-1] if re.search("https?://", line)] == []
        signed = [line.split()[0] for line in up.lines if "from the environment" in line]
        assert signed == ["admin", "noc", "manager", *(f"provider{n}" for n in range(1, 7))]
        assert "stack    | 7 of 7 sites are live" in up.lines

        with urlopen(f"http://127.0.0.1:{up.port}/healthz") as answer:
            assert answer.status == 200

        # Every command works from another shell.
        run_file = checkout / ".run" / "env.json"
        assert run_file.stat().st_mode & 0o077 == 0
        assert up.manage("provision") == "Nothing to do: database and roles are as they should be.\n"
        assert up.manage("demo_seed") == "Demo of 7 sites: nothing to change.\n"

        # A second start says so, and disturbs nothing.
        second = subprocess.run(
            [sys.executable, "manage.py", "up"],
            cwd=checkout,
            env=up.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert second.stdout == (
            f"stack    | Archipelago is running already at 127.0.0.1:{up.port} (process {up.process.pid}); "
            "stop that first.\n"
        )

        # Another checkout's state, the same port: one line.
        third = subprocess.run(
            [sys.executable, "manage.py", "up"],
            cwd=checkout,
            env={**up.environ, "ARCHIPELAGO_STATE_DIR": str(public_folder / "third")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert third.returncode == 1
        assert third.stdout == (
            f"stack    | Port {up.port} is taken by another program; choose another with PORT={up.port + 1}.\n"
        )

        # Whoever dies is started again.
        poller = next(pid for pid, command in up.children().items() if "poll.0" in command)
        os.kill(poller, signal.SIGKILL)
        up.wait_for(lambda: any("poll.0" in c for p, c in up.children().items() if p != poller), 20)
        assert "poller0  | was ended by SIGKILL; starting it again in 0.5 s" in up.lines

        pids = list(up.children())
        assert len(pids) > 15
        code, seconds = up.end(signal.SIGTERM)
        assert (code, up.lines[-1]) == (0, "stack    | stopped; the data is kept")
        assert seconds < 20
        assert left_over(pids, 0) == []
        assert not run_file.exists()


def test_kill_9_leaves_nothing_and_the_next_start_mends(checkout: Path, public_folder: Path) -> None:
    state = public_folder / "up"
    with running(checkout, state) as up:
        pids = list(up.children())
        up.end(signal.SIGKILL)
        assert left_over(pids) == []
        assert (checkout / ".run" / "env.json").exists()
    with running(checkout, state) as up:
        assert json.loads((checkout / ".run" / "env.json").read_text())["PORT"] == str(up.port)
        code, _ = up.end(signal.SIGINT)
        assert code == 0


def test_a_stop_during_the_start_is_clean(checkout: Path, public_folder: Path) -> None:
    up = Up(checkout, public_folder / "early")
    up.wait_for(lambda: any("provision" in line for line in up.lines), 60)
    pids = list(up.children())
    code, seconds = up.end(signal.SIGINT)
    assert (code, up.lines[-1]) == (0, "stack    | stopped; the data is kept")
    assert seconds < 15
    assert left_over(pids, 0) == []


@pytest.mark.full
def test_kill_9_at_twenty_moments(checkout: Path, public_folder: Path) -> None:
    """Whenever it is shot, nothing stays behind, and the start after it finds its way."""
    state = public_folder / "shot-often"
    for moment in range(20):
        up = Up(checkout, state)
        time.sleep(moment)
        pids = list(up.children()) if up.process.poll() is None else []
        up.end(signal.SIGKILL)
        assert left_over(pids) == []
    with running(checkout, state) as up:
        assert "stack    | 7 of 7 sites are live" in up.lines
