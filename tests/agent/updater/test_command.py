"""`archipelago-updater` as root calls it, and as systemd starts it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.identity import IdentityFile
from agent.state import IDENTITIES
from agent.updater.command import main
from agent.updater.folder import Folder
from tests.agent.factories import SITE
from tests.agent.wire import ROOT
from tests.pki import FLEET, Fleet


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine that has enrolled."""
    (tmp_path / "agent.toml").write_text(f'dial_out = true\nstate = "{tmp_path / "state"}"\n')
    IdentityFile(tmp_path / "state" / IDENTITIES).put(Fleet().site(SITE))
    return tmp_path


def call(machine: Path, *arguments: str) -> int:
    return main(["--config", str(machine / "agent.toml"), "--folder", str(machine / "updater"), *arguments])


def test_pin(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(machine, "pin") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"The updater believes documents of {FLEET} for site {SITE} of provider 1.\nroot ")
    pins = Folder(machine / "updater").pins()
    assert (pins.fleet, pins.provider, pins.site) == (FLEET, 1, SITE)
    assert call(machine, "pin") == 0  # the same once more

    IdentityFile(machine / "state" / IDENTITIES).put(Fleet().site(SITE))  # another fleet of that name: another root
    assert call(machine, "pin") == 1
    assert "to replace that, give --again" in capsys.readouterr().err
    assert Folder(machine / "updater").pins() == pins
    assert call(machine, "pin", "--again") == 0
    assert Folder(machine / "updater").pins().roots != pins.roots


def test_pin_before_it_has_enrolled(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "state" / IDENTITIES).unlink()
    assert call(machine, "pin") == 1
    assert capsys.readouterr().err == (
        "archipelago-updater: this machine has not enrolled yet: run `archipelago-agent enrol` first\n"
    )


def test_a_configuration_that_others_could_write_is_not_believed(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (machine / "agent.toml").chmod(0o666)
    assert call(machine, "pin") == 1
    assert "could be written by others than root, so it is not believed" in capsys.readouterr().err
    assert not (machine / "updater").exists()


def test_serve_without_systemd(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(machine, "serve", "--user", "root") == 1
    assert capsys.readouterr().err == "archipelago-updater: systemd's archipelago-updater.socket must start this\n"


def test_serve_as_systemd_starts_it(machine: Path) -> None:
    """The protocol of sd_listen_fds, by hand: descriptor 3 listens, and two variables say so."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(machine / "socket"))
    listening.listen()
    code = (
        "import os, sys; os.dup2(int(sys.argv.pop(1)), 3);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "from agent.updater.command import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--config", str(machine / "agent.toml"), "--folder", str(machine / "updater"), "serve"]
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(listening.fileno()), *arguments, "--user", user],
        pass_fds=[listening.fileno()],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    listening.close()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(machine / "socket"))
        sock.sendall(b'{"command":"changes"}\n')
        assert b"the updater was not told which site this is" in sock.recv(65_536)
    process.terminate()
    assert process.wait(10) == 0
    assert os.listdir(machine / "updater" / "packages") == []
