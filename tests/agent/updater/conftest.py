"""Two packages at 1.0 on a machine that stands in a folder, and their 1.1 in its repository."""

import shutil
from pathlib import Path

import pytest

from agent.config import OsConfig
from tests.agent.updater.machine import Box

TOOLS = ("apt-get", "dpkg", "dpkg-deb", "dpkg-query", "dpkg-scanpackages")
OLD = {"alpha": "1.0", "beta": "1.0"}
NEW = {"alpha": "1.1", "beta": "1.1"}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return two_packages(tmp_path)


def two_packages(folder: Path, config: OsConfig | None = None) -> Box:
    """See the module."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"NOT TESTED: the updater needs {', '.join(missing)} on the machine that tests it")
    box = Box(folder, config)
    box.have(*(box.publish(name, version) for name, version in OLD.items()))
    for name, version in NEW.items():
        box.publish(name, version)
    return box
