"""Starts and stops child processes so that none outlives us, not even after kill -9."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fleet.stack.errors import StackError
from fleet.stack.state import User

PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True)
class Program:
    """One child process: what to run, as whom, and which signals end it.

    `death_signal` reaches it from the kernel when the thread that started it dies; `stop_s` is how long it may
    take to end after `stop_signal`. Lines that contain a text of `unsaid` go to its log file only.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_s: float = 8.0
    niceness: int = 0
    unsaid: tuple[str, ...] = ()


def tie_to_parent(death_signal: signal.Signals, parent: int) -> None:
    """Ask the kernel to send us `death_signal` when `parent` dies; ends this process if that has happened already."""
    _prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def spawn(program: Program, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the program in a process group of its own, stdout and stderr to `output`.

    Call it from a thread that lives as long as the child may: the kernel ties the child to that thread.
    Raises StackError when it cannot be started.
    """
    parent = os.getpid()

    def before_exec() -> None:
        # After the change of user, which would clear the death signal.
        tie_to_parent(program.death_signal, parent)
        if program.niceness:
            os.nice(program.niceness)

    identity = program.user
    try:
        return subprocess.Popen(  # noqa: S603 - programs are made by this package
            program.argv,
            cwd=program.cwd,
            env=dict(program.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
            process_group=0,
            preexec_fn=before_exec,  # noqa: PLW1509 - two system calls, no lock is taken
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(f"{program.name} cannot be started ({program.argv[0]}): {error}") from error


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the child's whole process group; nothing happens when it is gone."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def stop(child: subprocess.Popen[bytes], program: Program) -> None:
    """End the child by its stop signal, and its whole group by SIGKILL when that takes more than `stop_s` seconds."""
    if child.poll() is None:
        child.send_signal(program.stop_signal)
        try:
            child.wait(program.stop_s)
        except subprocess.TimeoutExpired:
            signal_group(child, signal.SIGKILL)
    child.wait()
    signal_group(child, signal.SIGKILL)  # whoever of its children is left


def wait_until(
    ready: Callable[[], bool], alive: Callable[[], bool], *, seconds: float, what: str, why: Callable[[], str]
) -> None:
    """Return once `ready()`. Raises StackError, with `why()`, when `alive()` turns false or after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while not ready():
        if not alive():
            raise StackError(f"{what} ended while it was starting: {why()}")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready within {seconds:.0f} s: {why()}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
