"""Children are started again when they die, and none is left when it is over."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fleet.stack.console import Console
from fleet.stack.errors import StackError
from fleet.stack.process import Program
from fleet.stack.state import ROOT
from fleet.stack.supervisor import Child, Supervisor
from tests.fleet.stack.conftest import is_gone


class Bench:
    """A supervisor with its output and a way to make programs."""

    def __init__(self, folder: Path) -> None:
        self.output = io.StringIO()
        self.folder = folder
        self.supervisor = Supervisor(Console(self.output), folder)

    def program(self, name: str, code: str, stop_s: float = 5.0) -> Program:
        return Program(
            name=name,
            argv=(sys.executable, "-c", textwrap.dedent(code)),
            cwd=self.folder,
            env={"PYTHONUNBUFFERED": "1"},
            stop_s=stop_s,
        )

    def start(self, name: str, code: str, *, stage: int = 2, stop_s: float = 5.0) -> Child:
        program = self.program(name, code, stop_s)
        return self.supervisor.start(name, lambda: program, stage=stage)

    def watch(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        self.supervisor.watch(lambda: done() or time.monotonic() > deadline)
        assert done()

    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


FOREVER = "import time; print('up'); time.sleep(600)"
STUBBORN = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid)
    time.sleep(600)
"""


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_a_killed_child_is_started_again(bench: Bench) -> None:
    child = bench.start("web", FOREVER)
    first = pid_of(child)
    os.kill(first, signal.SIGKILL)
    bench.watch(lambda: child.alive and pid_of(child) != first)
    assert "web      | was ended by SIGKILL; starting it again in 0.5 s" in bench.lines()
    bench.supervisor.stop_all()
    assert not child.alive
    assert (bench.folder / "web.log").read_text() in {"up\nup\n", "up\n"}


def test_pauses_double(bench: Bench) -> None:
    bench.start("bad", "raise SystemExit(3)")
    bench.watch(lambda: len(bench.lines()) == 3)
    assert bench.lines() == [
        f"bad      | ended with code 3; starting it again in {pause} s" for pause in ("0.5", "1", "2")
    ]
    bench.supervisor.stop_all()


def test_the_rest_of_a_dead_child_is_ended_before_it_starts_again(bench: Bench) -> None:
    child = bench.start("stubborn", STUBBORN, stop_s=0.5)
    bench.watch(lambda: len(child.tail) == 1)
    rest = int(child.tail[0])
    os.kill(pid_of(child), signal.SIGKILL)
    bench.watch(lambda: len(child.tail) == 2)
    assert is_gone(rest)
    bench.supervisor.stop_all()


def test_stop_goes_by_stages_and_takes_grandchildren_too(bench: Bench) -> None:
    late = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print(time.monotonic())))\n"
    late += "print('up')\ntime.sleep(600)"
    last = bench.start("postgres", late, stage=0)
    first = bench.start("web", late)
    stubborn = bench.start("worker", STUBBORN, stop_s=0.5)
    bench.watch(lambda: bool(stubborn.tail and last.tail and first.tail))
    grandchild = int(stubborn.tail[0])
    began = time.monotonic()
    bench.supervisor.stop_all()
    assert time.monotonic() - began < 30
    assert not any(child.alive for child in (first, stubborn, last))
    assert is_gone(grandchild)
    assert float(first.tail[-1]) + 0.5 <= float(last.tail[-1])  # after the stubborn one was killed


def test_what_is_to_end_it_is_heeded_after_a_start_and_while_it_watches(bench: Bench) -> None:
    class AskedError(Exception):
        """Somebody wants it to end; the exception of the signal was dropped in the fork."""

    asked: list[bool] = []

    def heed() -> None:
        if asked:
            raise AskedError

    bench.supervisor = Supervisor(Console(bench.output), bench.folder, heed)
    first = bench.start("first", "import time; time.sleep(60)")
    asked.append(True)
    with pytest.raises(AskedError):
        bench.supervisor.watch(lambda: False)
    with pytest.raises(AskedError):
        bench.start("second", "import time; time.sleep(60)")
    bench.supervisor.stop_all()
    assert not first.alive


def test_hurry_waits_for_nobody(bench: Bench) -> None:
    child = bench.start("worker", STUBBORN, stop_s=60)
    bench.watch(lambda: bool(child.tail))
    bench.supervisor.hurry.set()
    began = time.monotonic()
    bench.supervisor.stop_all()
    assert time.monotonic() - began < 30
    assert not child.alive


def test_a_failed_step_says_its_last_line(bench: Bench) -> None:
    step = bench.supervisor.begin(bench.program("database", "print('migrating'); raise SystemExit('no space left')"))
    with pytest.raises(StackError) as refused:
        bench.supervisor.finish(step)
    assert str(refused.value) == "database failed: no space left"


def test_a_program_that_is_not_there_is_one_line(bench: Bench) -> None:
    program = Program(name="web", argv=("/nonexistent/python",), cwd=bench.folder)
    with pytest.raises(StackError, match=r"^web cannot be started \(/nonexistent/python\)"):
        bench.supervisor.start("web", lambda: program)


def test_kill_9_of_the_parent_leaves_nothing(public_folder: Path) -> None:
    """The embedded servers and a worker with children of its own, all started by a process that is then shot."""
    code = """
        import pathlib, sys, time
        from fleet.stack.console import Console
        from fleet.stack.options import External
        from fleet.stack.process import Program
        from fleet.stack.servers import start_servers
        from fleet.stack.state import open_state
        from fleet.stack.supervisor import Supervisor
        state, console = open_state(base=pathlib.Path(sys.argv[1])), Console()
        supervisor = Supervisor(console, state.logs)
        start_servers(state, External(None, None, None, None), supervisor, console)
        sleep = Program("sleep", ("/bin/sleep", "600"), state.base)
        supervisor.start("sleep", lambda: sleep)
        print("all up", flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(public_folder / "shot")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if line == "all up\n":
            break
    pids = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
    assert len(pids) > 8  # postgres with its own, redis, sleep
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while not all(is_gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if not is_gone(pid)] == []
