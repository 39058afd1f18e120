"""pytest plugin: gives the tests a real PostgreSQL and a real Redis, and takes them away again.

Loaded by `-p tests.services` before Django's settings are read. Servers that the environment names
(DATABASE_URL with DATABASE_OWNER_URL, REDIS_URL) are used as they are.

With `-n`, every process that runs tests has servers of its own: a test may end all connections of a role, or crash
the whole server, and no other notices. All of them belong to the first process, which lives longest.
"""

import atexit
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet.stack import postgres, redis
from fleet.stack.embedded import OWNER_ROLE, database_urls
from fleet.stack.process import Program, spawn, stop
from fleet.stack.provision import provision
from fleet.stack.state import State, open_state

SLOTS = 16  # test runs at the same time on one checkout
STATE = "ARCHIPELAGO_TEST_STATE"  # kind of the state folder whose servers this process uses
MOST_PROCESSES = 4
_services = ExitStack()


def _free_state() -> tuple[str, State]:
    """State folder that no other test run uses, and its kind; its database cluster is kept for the next run."""
    for slot in range(SLOTS):
        kind = f"test-{slot}"
        state = open_state(kind)
        try:
            _services.enter_context(state.locked("test.lock", str(os.getpid())))
        except BlockingIOError:
            continue
        return kind, state
    raise pytest.UsageError(f"{SLOTS} test runs are going on already.")


def _keep(program: Program, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        child = spawn(program, file)
    _services.callback(stop, child, program)
    return child


def servers(*, own_database: bool = True, own_redis: bool = True) -> dict[str, str]:
    """Start a PostgreSQL and a Redis; the environment that names them."""
    kind, state = _free_state()
    environ = {STATE: kind}
    cluster, broker = postgres.Cluster(state, durable=False), redis.Broker(state)
    if own_database:
        database_log = state.logs / "postgres.log"
        database = _keep(cluster.prepare(), database_log)
    if own_redis:
        log = state.logs / "redis.log"
        broker.wait_ready(_keep(broker.prepare(), log), log.read_text)
        environ["REDIS_URL"] = broker.url
    if own_database:
        cluster.wait_ready(database, database_log.read_text)
        plan = database_urls(cluster)
        provision(plan)
        with psycopg.connect(plan.admin, autocommit=True) as admin:  # so that tests.conftest may delete what is guarded
            admin.execute(f"GRANT SET ON PARAMETER session_replication_role TO {OWNER_ROLE}")
            # Whoever empties tables behind a transaction that does not end says so, instead of waiting for ever.
            admin.execute(f"ALTER ROLE {OWNER_ROLE} SET lock_timeout = '60s'")
        environ |= {"DATABASE_URL": plan.app, "DATABASE_OWNER_URL": plan.owner, "DATABASE_ADMIN_URL": plan.admin}
    return environ


def start() -> bool:
    """Start what the environment does not name, and name it there; whether it named nothing. Changes os.environ."""
    defaults = {
        "SECRET_KEY": "tests-only-" + "x" * 40,
        "HTTPS": "0",
        "DEBUG": "0",
        "ARCHIPELAGO_AGENT_NETWORKS_ALLOWED": "127.64.0.0/10",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    own_database = "DATABASE_URL" not in os.environ or "DATABASE_OWNER_URL" not in os.environ
    own_redis = "REDIS_URL" not in os.environ
    if own_database or own_redis:
        os.environ |= servers(own_database=own_database, own_redis=own_redis)
    return own_database and own_redis


def crash_database() -> None:
    """Stop our PostgreSQL at once, and start it again on what it has written; that is all that was committed.

    Fails where the environment names a PostgreSQL: that one is not ours to crash.
    """
    state = open_state(os.environ[STATE])
    cluster, log = postgres.Cluster(state, durable=False), state.logs / "postgres.log"
    os.kill(int((cluster.data / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGQUIT)
    child = _keep(cluster.prepare(), log)  # once the old one is gone
    cluster.wait_ready(child, log.read_text)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes `-n auto` means: one more than cores, since flows wait; one with servers that are not ours."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_PROCESSES) if _all_own else 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Name to each process its own servers: to the first one ours, which it finds in the environment that it inherits.

    Raises pytest.UsageError for several processes with servers that the environment names.
    """
    if len(specs) > 1 and not _all_own:
        raise pytest.UsageError("Servers that the environment names serve one process: leave out -n, or say -n auto.")
    for spec in specs[1:]:
        spec.env = servers()


def pytest_unconfigure() -> None:
    """Stop what was started here."""
    _services.close()


# A process that pytest-xdist starts finds its servers in its environment. SIGTERM must clean up as Ctrl-C does.
_all_own = False
if "PYTEST_XDIST_WORKER" not in os.environ:
    atexit.register(_services.close)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _all_own = start()
