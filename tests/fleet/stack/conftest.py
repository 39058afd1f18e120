"""A state folder and servers of their own for the tests of the stack."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.stack.postgres import Cluster
from fleet.stack.process import spawn, stop
from fleet.stack.state import State, open_state


@pytest.fixture(scope="package")
def public_folder() -> Iterator[Path]:
    """A folder that every user may pass through (pytest's own are private, where PostgreSQL's user cannot go)."""
    folder = Path(tempfile.mkdtemp(prefix="archipelago-test-"))
    folder.chmod(0o711)
    (folder / "run").mkdir(mode=0o711)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
    yield folder
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def state(public_folder: Path) -> State:
    return open_state(base=Path(tempfile.mkdtemp(dir=public_folder)))


@pytest.fixture(scope="package")
def cluster(public_folder: Path) -> Iterator[Cluster]:
    """A running PostgreSQL that no other test uses."""
    state = open_state(base=public_folder / "cluster")
    server = Cluster(state, durable=False)
    program = server.prepare()
    log = state.logs / "postgres.log"
    with log.open("wb") as file:
        child = spawn(program, file)
    try:
        server.wait_ready(child, log.read_text)
        yield server
    finally:
        stop(child, program)


def is_gone(pid: int) -> bool:
    """Whether the process has ended (a zombie that nobody has waited for has)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


AS_ROOT = os.geteuid() == 0
