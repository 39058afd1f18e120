"""The embedded PostgreSQL, for real."""

import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from fleet.stack import postgres
from fleet.stack.errors import StackError
from fleet.stack.postgres import Cluster, first_complaint
from fleet.stack.process import signal_group, spawn, stop
from fleet.stack.state import State
from tests.fleet.stack.conftest import AS_ROOT


def value(cluster: Cluster, query: str) -> object:
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]  # a literal of this file
    assert row is not None
    return row[0]


def test_only_its_socket_leads_in(cluster: Cluster) -> None:
    assert value(cluster, "SHOW listen_addresses") == ""
    assert value(cluster, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=str(cluster.socket_folder), user="postgres", dbname="postgres", password="guessed")
    mode = stat.S_IMODE(cluster.socket_folder.stat().st_mode)
    assert mode == (0o770 if AS_ROOT else 0o700)


def test_sorts_alike_everywhere(cluster: Cluster) -> None:
    query = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'template1'"
    assert value(cluster, query) == "bC.UTF-8"


@pytest.mark.skipif(not AS_ROOT, reason="only root runs it as another user")
def test_it_does_not_run_as_root(cluster: Cluster) -> None:
    pid = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
    uids = psutil.Process(pid).uids()
    assert cluster.state.service_user is not None
    assert set(uids) == {cluster.state.service_user.uid}
    assert cluster.data.stat().st_uid == cluster.state.service_user.uid
    assert stat.S_IMODE(cluster.data.stat().st_mode) == 0o700


def start(cluster: Cluster) -> tuple[postgres.Program, "postgres.subprocess.Popen[bytes]"]:
    program, log = cluster.prepare(), cluster.state.logs / "postgres.log"
    with log.open("wb") as file:
        child = spawn(program, file)
    cluster.wait_ready(child, log.read_text)
    return program, child


def test_data_survives_a_stop_and_a_kill(state: State) -> None:
    cluster = Cluster(state)
    program, child = start(cluster)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    stop(child, program)
    assert child.returncode == 0
    assert not (cluster.data / "postmaster.pid").exists()

    program, child = start(cluster)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
    signal_group(child, signal.SIGKILL)
    child.wait()
    assert (cluster.data / "postmaster.pid").exists()  # left behind, and no obstacle

    program, child = start(cluster)
    assert value(cluster, "SELECT sum(n) FROM kept") == 3
    stop(child, program)


def test_pid_of_somebody_else_is_no_obstacle(state: State) -> None:
    cluster = Cluster(state)
    program, child = start(cluster)
    signal_group(child, signal.SIGKILL)
    child.wait()
    lines = (cluster.data / "postmaster.pid").read_text().splitlines()
    (cluster.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    program, child = start(cluster)
    stop(child, program)
    assert child.returncode == 0


def test_broken_first_start_is_made_anew(state: State) -> None:
    cluster = Cluster(state)
    (state.base / "postgres" / "data" / "base").mkdir(parents=True)
    cluster.prepare()
    assert (cluster.data / "PG_VERSION").read_text() == "18\n"


@pytest.mark.skipif(not AS_ROOT, reason="only root runs it as another user")
def test_programs_are_copied_out_of_a_private_folder(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = postgres.find_spec(postgres.PACKAGE)
    assert found is not None
    assert found.submodule_search_locations
    package = Path(found.submodule_search_locations[0])
    private = tmp_path / "site-packages"
    private.mkdir(mode=0o700)
    for name in (postgres.PACKAGE, postgres.PACKAGE_LIBRARIES):
        (private / name).symlink_to(package.parent / name)
    location = SimpleNamespace(submodule_search_locations=[str(private / postgres.PACKAGE)])
    monkeypatch.setattr(postgres, "find_spec", lambda name: location)
    program, child = start(Cluster(state))
    stop(child, program)
    assert Path(program.argv[0]).is_relative_to(state.base / "programs")
    assert Cluster(state).prepare().argv[0] == program.argv[0]


def test_failure_says_why_in_one_line(state: State) -> None:
    cluster = Cluster(state)
    program = cluster.prepare()
    (cluster.data / "postgresql.conf").write_text("max_connections = many\n")
    (cluster.data / "PG_VERSION").write_text("17\n")
    log = state.logs / "postgres.log"
    with log.open("wb") as file:
        child = spawn(program, file)
    with pytest.raises(StackError) as refused:
        cluster.wait_ready(child, log.read_text)
    child.wait()
    assert str(refused.value).startswith("PostgreSQL ended while it was starting: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            'LOG:  starting\nFATAL:  could not write file "x": No space left on device\nLOG: bye',
            "No space left on device",
        ),
        ("initdb: error: could not create directory: Permission denied\n", "could not create directory"),
        ("", "no message"),
    ],
)
def test_first_complaint(output: str, line: str) -> None:
    assert line in first_complaint(output)
