"""Keeps a set of child processes running, and ends all of them in order."""

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet.stack.console import LONGEST_LINE, Console, LogFile
from fleet.stack.errors import StackError
from fleet.stack.process import Program, signal_group, spawn

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
HEALTHY_S = 60.0
TICK_S = 0.1


@dataclass
class Child:
    """A program that is kept running. `stage` orders the end: the highest stage goes first."""

    name: str
    make: Callable[[], Program]
    stage: int
    log: LogFile
    program: Program | None = None
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    start_at: float | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=30))

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        """The last lines that it printed; complete once the process has ended."""
        if self.reader and not self.alive:
            self.reader.join(1.0)
        return "\n".join(self.tail)


class Supervisor:
    """Starts children, starts them again when they die, stops them all.

    Everything but the reading of output happens in the thread that calls; it must live as long as the children,
    for the kernel ends them with it.
    """

    def __init__(self, console: Console, logs: Path, heed: Callable[[], None] = lambda: None) -> None:
        """`heed` raises what is to end all of this; it is called after each start and while children are watched."""
        self._console = console
        self._heed = heed
        self._logs = logs
        self._children: list[Child] = []
        self.hurry = threading.Event()

    def start(self, name: str, make: Callable[[], Program], *, stage: int = 2) -> Child:
        """Start a program and keep it running; `make` is called before every start. Raises StackError."""
        child = Child(name=name, make=make, stage=stage, log=LogFile(self._logs, name))
        self._children.append(child)
        self._spawn(child)
        return child

    def begin(self, program: Program) -> Child:
        """Start a program that is to end by itself; `finish` waits for it. Raises StackError."""
        return self.start(program.name, lambda: program)

    def finish(self, child: Child) -> None:
        """Wait for a program of `begin`. Raises StackError with the last line that it printed when it fails."""
        assert child.process is not None
        code = child.process.wait()
        last = (child.output().strip().splitlines() or ["no message"])[-1]
        child.log.close()
        self._children.remove(child)
        if code:
            raise StackError(f"{child.name} failed: {last}")

    def watch(self, until: Callable[[], bool]) -> None:
        """Start dead children again until `until()` is true; looked at ten times a second."""
        while not until():
            self._heed()
            self.mend()
            time.sleep(TICK_S)

    def mend(self) -> None:
        """One look at all children: those that died are started again after their pause."""
        now = time.monotonic()
        for child in self._children:
            if child.alive:
                if now - child.started_at > HEALTHY_S:
                    child.pause_s = FIRST_PAUSE_S
            elif child.start_at is None:
                child.start_at = now + child.pause_s
                self._console.say(f"{_ending(child)}; starting it again in {child.pause_s:g} s", child.name)
                child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
            elif now >= child.start_at:
                self._start_again(child)

    def stop_all(self) -> None:
        """End every child, the highest stage first. With `hurry` set nobody is waited for any longer."""
        for stage in sorted({child.stage for child in self._children}, reverse=True):
            self._stop_stage([child for child in self._children if child.stage == stage])
        for child in self._children:
            if child.reader:
                child.reader.join(1.0)
            child.log.close()
        self._children.clear()

    def _start_again(self, child: Child) -> None:
        if child.process:
            signal_group(child.process, signal.SIGKILL)  # what the dead one left of its own children
        try:
            self._spawn(child)
        except StackError as error:
            child.process, child.start_at = None, None
            self._console.say(str(error), child.name)

    def _spawn(self, child: Child) -> None:
        child.program = child.make()
        child.process = spawn(child.program, subprocess.PIPE)
        child.started_at, child.start_at = time.monotonic(), None
        child.reader = threading.Thread(target=self._read, args=(child, child.program, child.process), daemon=True)
        child.reader.start()
        self._heed()

    def _read(self, child: Child, program: Program, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        shown = False
        with process.stdout:
            while line := process.stdout.readline(LONGEST_LINE):
                child.log.write(line)
                text = line.decode(errors="replace").rstrip()
                if text:
                    child.tail.append(text)
                    if not any(unsaid in text for unsaid in program.unsaid):
                        shown = self._console.relay(child.name, text, loud_before=shown)

    def _stop_stage(self, children: list[Child]) -> None:
        now = time.monotonic()
        deadlines: list[tuple[Child, float]] = []
        for child in children:
            if child.process and child.program and child.alive:
                child.process.send_signal(child.program.stop_signal)
                deadlines.append((child, now + child.program.stop_s))
        while any(child.alive for child, _ in deadlines):
            for child, deadline in deadlines:
                if child.process and child.program and time.monotonic() > deadline:
                    signal_group(child.process, signal.SIGKILL)
                elif child.process and child.program and self.hurry.is_set():
                    signal_group(child.process, child.program.death_signal)
            time.sleep(0.02)
        for child in children:
            if child.process:
                signal_group(child.process, signal.SIGKILL)  # whoever of its own children is left
                child.process.wait()


def _ending(child: Child) -> str:
    code = child.process.returncode if child.process else None
    if code is None:
        return "could not be started"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
