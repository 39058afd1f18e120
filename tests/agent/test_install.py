"""The installer, really run into a folder without root; and the unit it installs."""

import os
import re
import shutil
import stat
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent import __version__
from tests.agent.wire import ROOT

DEPLOY = ROOT / "deploy" / "agent"
PREFIX = "/opt/site-agent"


class Machine:
    """A folder that stands for a machine, and the unpacked kit with the wheel in it."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.root = folder / "root"
        self.kit = shutil.copytree(DEPLOY, folder / "kit")
        self.empty = folder / "empty"
        self.empty.mkdir()
        self.root.mkdir()
        shutil.copy(wheel, self.kit)
        self.config = self.root / "etc/archipelago-agent/agent.toml"
        self.state = self.root / "var/lib/archipelago-agent"
        self.unit = self.root / "etc/systemd/system/archipelago-agent.service"
        self.home = self.root / PREFIX.lstrip("/")
        self.program = self.home / "base" / "bin" / "archipelago-agent"
        # The packages that the agent needs come from this environment, so that no network is needed.
        self.environment = {**os.environ, "DESTDIR": str(self.root), "PYTHONPATH": sysconfig.get_path("purelib")}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["sh", str(self.kit / "install.sh"), "--prefix", PREFIX, *arguments]
        return subprocess.run(command, env=self.environment, cwd=self.root, capture_output=True, text=True, check=False)

    def install(self, *arguments: str) -> None:
        done = self.run("--offline", str(self.empty), *arguments)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert done.stdout.startswith(f"archipelago-agent {__version__} is installed.\n")

    def files(self) -> set[str]:
        """What lies there, the virtual environment left out."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir())
        return {path for path in found if not path.startswith(PREFIX.lstrip("/"))}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, for a socket's path of the machine, which is below it, holds 107 bytes."""
    with TemporaryDirectory(prefix="machine-") as name:
        yield Path(name)


def test_install_repeat_and_uninstall(wheel: Path, folder: Path) -> None:
    machine = Machine(folder, wheel)
    machine.install("--config", "dial-out")
    assert machine.files() == {
        "etc/archipelago-agent/agent.toml",
        "etc/systemd/system/archipelago-agent.service",
        "etc/systemd/system/archipelago-updater.service",
        "etc/systemd/system/archipelago-updater.socket",
        "usr/local/bin/archipelago-agent",
        "usr/local/bin/archipelago-updater",
    }
    assert machine.config.read_text() == (DEPLOY / "examples" / "dial-out.toml").read_text()
    assert stat.S_IMODE(machine.state.stat().st_mode) == 0o700
    assert os.readlink(machine.root / "usr/local/bin/archipelago-agent") == f"{PREFIX}/base/bin/archipelago-agent"
    assert f"\nExecStart={PREFIX}/launch {PREFIX}/releases run --config " in machine.unit.read_text()
    assert f"\nReadWritePaths={PREFIX}/releases\n" in machine.unit.read_text()
    updater = machine.unit.with_name("archipelago-updater.service").read_text()
    assert f"\nExecStart={PREFIX}/base/bin/archipelago-updater serve\n" in updater

    # The release lies beside those to come, and the launcher starts it.
    assert os.readlink(machine.home / "releases/current") == __version__
    assert sorted(path.name for path in (machine.home / "releases").iterdir()) == [__version__, "current"]
    command = [str(machine.home / "launch"), str(machine.home / "releases"), "--version"]
    told = subprocess.run(command, env=machine.environment, capture_output=True, text=True, check=False, cwd="/")
    assert (told.returncode, told.stdout) == (0, f"archipelago-agent {__version__}\n")

    # The installed program reads the installed configuration.
    config = machine.config.read_text().replace("dial_out = true", f'dial_out = true\nstate = "{machine.state}"')
    machine.config.write_text(config)
    command = [str(machine.program), "status", "--config", str(machine.config)]
    told = subprocess.run(command, env=machine.environment, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (3, "")
    assert "this machine has not enrolled" in told.stdout

    # Once more: what an operator wrote and the state stay as they are.
    (machine.state / "journal.sqlite").write_text("evidence")
    machine.install()
    assert machine.config.read_text() == config
    assert (machine.state / "journal.sqlite").read_text() == "evidence"

    done = machine.run("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.files() == {"etc/archipelago-agent/agent.toml", "var/lib/archipelago-agent/journal.sqlite"}
    assert not machine.home.exists()
    assert machine.run("--uninstall").returncode == 0
    assert machine.run("--uninstall", "--purge").returncode == 0
    assert machine.files() == set()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--wheel"], 1, "install.sh: --wheel needs a value\n"),
        (["--wheel", "/nowhere.whl"], 1, "install.sh: /nowhere.whl is not there\n"),
        (["--config", "/nowhere.toml"], 1, "install.sh: /nowhere.toml is not there\n"),
        *[
            (["--prefix", path], 1, "install.sh: --prefix must be a plain absolute path below /, without blanks\n")
            for path in ("", "/", "here", "/opt/a b", "/opt/a|b", "/opt/$(x)")
        ],
        (["--python", "false"], 1, "install.sh: false is not Python 3.11 or newer\n"),
        (["--dance"], 2, "usage: install.sh "),
    ],
)
def test_what_it_refuses_changes_nothing(
    arguments: list[str], status: int, said: str, wheel: Path, folder: Path
) -> None:
    machine = Machine(folder, wheel)
    done = machine.run(*arguments)
    assert (done.returncode, done.stderr[: len(said)]) == (status, said)
    assert machine.files() == set()


def test_uninstalling_leaves_alone_what_is_not_ours(wheel: Path, folder: Path) -> None:
    machine = Machine(folder, wheel)
    other = machine.root / PREFIX.lstrip("/") / "precious"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    assert machine.run("--uninstall").returncode == 0
    assert other.read_text() == "mine"


def test_an_installation_from_before_releases_becomes_one_with_them(wheel: Path, folder: Path) -> None:
    machine = Machine(folder, wheel)
    old = machine.home / "bin" / "archipelago-agent"
    old.parent.mkdir(parents=True)
    old.touch()
    (machine.home / "pyvenv.cfg").touch()
    machine.install()
    assert sorted(path.name for path in machine.home.iterdir()) == ["base", "launch", "releases"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_scripts_are_clean() -> None:
    subprocess.run(["shellcheck", str(DEPLOY / "install.sh"), str(DEPLOY / "launch")], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(("name", "exposure"), [("archipelago-agent", 20), ("archipelago-updater", 70)])
def test_the_units_are_good_and_well_closed(name: str, exposure: int, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for part in (*DEPLOY.glob("*.service"), *DEPLOY.glob("*.socket")):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", part.read_text(), flags=re.MULTILINE)
        (tmp_path / part.name).write_text(text)
    unit = tmp_path / f"{name}.service"
    command = ["systemd-analyze", "verify", *map(str, sorted(tmp_path.glob(f"{name}.s*")))]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={exposure}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout[-400:]
