"""kill -9 between and inside the steps, and a power cut in mid-dpkg: the end is the new or the old, never between."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.updater.folder import Folder
from agent.updater.messages import Command
from agent.updater.tools import Tools
from tests.agent.updater.conftest import NEW, OLD, two_packages
from tests.agent.updater.machine import Box

FORWARD: tuple[Command, ...] = ("changes", "stage", "switch", "check", "keep")
BACK: tuple[Command, ...] = ("restore",)


class Fuse:
    """Counts the acts of this process (programs that are run, files that are written), and kills it at one of them."""

    def __init__(self, at: int, patch: pytest.MonkeyPatch) -> None:
        self.burnt, self._at = 0, at
        run, put, end = Tools.run, Folder._put, Folder.end_work
        for owner, name, act in ((Tools, "run", run), (Folder, "_put", put), (Folder, "end_work", end)):
            patch.setattr(owner, name, self._around(act))

    def _around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def burning(*arguments: Any, **named: Any) -> Any:
            self._burn()
            done = act(*arguments, **named)
            self._burn()
            return done

        return burning

    def _burn(self) -> None:
        self.burnt += 1
        if self.burnt == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(box: Box, steps: tuple[Command, ...], envelope: bytes, at: int) -> bool:
    """Do steps in a process of their own that is killed at its act number `at`; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            Fuse(at, pytest.MonkeyPatch())
            status = 1 if any(box.ask(step, envelope).error for step in steps) else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}
    return status == 0


def count(box: Box, steps: tuple[Command, ...], envelope: bytes) -> int:
    """How many acts they are, done to their end."""
    with pytest.MonkeyPatch.context() as patch:
        fuse = Fuse(0, patch)
        for step in steps:
            box.do(step, envelope)
    return fuse.burnt


def check_end(box: Box, state: dict[str, str]) -> None:
    assert box.versions() == state
    assert box.tools.audit() == ""
    assert box.folder.work() is None
    files = sorted(path.name for path in box.folder.packages.iterdir())
    assert files == sorted(f"{name}_{version}_all.deb" for name, version in state.items())


def killed_at_each(folder: Path, points: int) -> None:
    """Kill at so many acts of the way forward, spread evenly; then go on, or back, by turns."""
    measured = two_packages(folder / "measured")
    total = count(measured, FORWARD, measured.document(NEW))
    assert total > 40
    for number in range(points):
        at = 1 + number * (total - 1) // max(1, points - 1)
        box = two_packages(folder / str(number))
        envelope = box.document(NEW)
        assert in_child(box, FORWARD, envelope, at) == (at > total)
        if number % 2 == 0 or box.folder.work() is None:
            for step in FORWARD:
                box.do(step, envelope)
            check_end(box, NEW)
        else:
            box.do("restore", envelope)
            check_end(box, OLD)


def killed_going_back(folder: Path, points: int) -> None:
    measured = two_packages(folder / "back")
    envelope = measured.document(NEW)
    for step in FORWARD[:3]:
        measured.do(step, envelope)
    total = count(measured, BACK, envelope)
    for number in range(points):
        at = 1 + number * (total - 1) // max(1, points - 1)
        box = two_packages(folder / f"back-{number}")
        envelope = box.document(NEW)
        for step in FORWARD[:3]:
            box.do(step, envelope)
        box.lose_repository()
        in_child(box, BACK, envelope, at)
        box.do("restore", envelope)
        check_end(box, OLD)


def test_killed_at_six_acts(tmp_path: Path) -> None:
    killed_at_each(tmp_path, 4)
    killed_going_back(tmp_path, 2)


@pytest.mark.full
def test_killed_at_many_acts(tmp_path: Path) -> None:
    killed_at_each(tmp_path, 60)
    killed_going_back(tmp_path, 20)


CUT = 'if [ ! -e "$DPKG_ROOT/run/cut" ]; then touch "$DPKG_ROOT/run/cut"; kill -9 $PPID; sleep 0.2; fi'


@pytest.mark.parametrize("script", ["preinst", "postinst"])
@pytest.mark.parametrize("step", ["switch", "restore"])
def test_power_fails_while_dpkg_runs_a_script(step: Command, script: str, tmp_path: Path) -> None:
    box = two_packages(tmp_path)
    box.publish("alpha", "1.2", scripts={script: CUT})
    packages = NEW | {"alpha": "1.2"}
    envelope = box.document(packages)
    box.do("stage", envelope)
    assert box.ask("switch", envelope).error.startswith("the packages cannot be installed: ")
    assert box.tools.audit() != ""
    box.do(step, envelope)
    if step == "switch":
        box.do("check", envelope)
        box.do("keep", envelope)
    check_end(box, packages if step == "switch" else OLD)


def test_apt_that_outlives_a_killed_updater_is_waited_for(tmp_path: Path) -> None:
    box = two_packages(tmp_path)
    slow = 'touch "$DPKG_ROOT/run/slow"; sleep 1.5'
    box.publish("alpha", "1.2", scripts={"postinst": slow})
    packages = NEW | {"alpha": "1.2"}
    envelope = box.document(packages)
    box.do("stage", envelope)
    child = os.fork()
    if child == 0:
        box.ask("switch", envelope)
        os._exit(0)
    while not (box.root / "run/slow").exists():
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert box.versions() != packages
    box.do("switch", envelope)
    assert box.do("check", envelope).state == "well"
    box.do("keep", envelope)
    check_end(box, packages)
