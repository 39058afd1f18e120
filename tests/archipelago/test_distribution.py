"""The command line as operators get it: a wheel of its own, which needs nothing."""

import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from archipelago import __version__
from fleet.env import ROOT
from tests.agent.conftest import pip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "build")
    source = shutil.copytree(ROOT / "archipelago", folder / "archipelago", ignore=ignored)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source), cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_module_and_needs_nothing(wheel):
    assert wheel.name == f"archipelago_cli-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "archipelago").rglob("*.py")}
    assert names == modules | {"archipelago/py.typed"}
    assert "Requires-Dist" not in metadata


def test_the_wheel_runs_where_nothing_else_is(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)
    script = str(tmp_path / "venv" / "bin" / "archipelago")
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [script, *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    assert run("--version").stdout == f"archipelago {__version__}\n"
    done = run("sites")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("archipelago: There is no url: set ARCHIPELAGO_URL")
