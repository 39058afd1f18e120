"""The agent as operators get it: a wheel of its own, in an environment of its own."""

import os
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

from agent import __version__
from agent.protocol import decode_report
from agent.protocol.identity import site_name
from tests.agent.conftest import pip
from tests.agent.factories import SITE
from tests.agent.wire import ROOT, Client, free_port, keep, stop, wait_for_line
from tests.pki import Fleet

ADDRESS = "127.122.0.2"


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"archipelago_agent-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "agent").rglob("*.py") if "build" not in path.parts}
    assert names == modules | {"agent/py.typed"}


def test_the_wheel_runs_where_the_server_is_not(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    # The packages it needs come from this environment, so that the test works without a network.
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    script = str(tmp_path / "venv" / "bin" / "archipelago-agent")

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    where = run(str(python), "-c", "import agent.cli, sys; print(agent.__file__, 'django' in sys.modules)")
    assert where.split()[0].startswith(str(tmp_path))
    assert where.split()[1] == "False"
    assert "simulate" in run(script, "--help")
    assert run(script, "--version") == f"archipelago-agent {__version__}\n"
    port, fleet = free_port(), Fleet()
    state = keep(tmp_path / "state", fleet.site(SITE))
    process = subprocess.Popen(
        [script, "run", "--listen", f"{ADDRESS}:{port}", "--site", str(SITE), "--state", str(state)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_line(process, "answers for site")
    with Client(ADDRESS, port, tls=fleet.dashboard, name=site_name(fleet.name, 1, SITE)) as client:
        assert decode_report(client.get().body).site == SITE
    assert stop(process)[0] == 0
