"""pytest plugin: gives the tests a real PostgreSQL and a real Redis, and takes them away again.

Loaded by `-p tests.services` before Django's settings are read. Servers that the environment names
(DATABASE_URL with DATABASE_OWNER_URL, REDIS_URL) are used as they are.
"""

import atexit
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet.stack import postgres, redis
from fleet.stack.embedded import database_urls
from fleet.stack.process import Program, spawn, stop
from fleet.stack.provision import provision
from fleet.stack.state import State, open_state

SLOTS = 16  # test runs at the same time on one checkout
_services = ExitStack()
_database: list[tuple[postgres.Cluster, subprocess.Popen[bytes], Program]] = []


def _free_state() -> State:
    """State folder that no other test run uses; its database cluster is kept for the next run."""
    for slot in range(SLOTS):
        state = open_state(f"test-{slot}")
        try:
            _services.enter_context(state.locked("test.lock", str(os.getpid())))
        except BlockingIOError:
            continue
        return state
    raise pytest.UsageError(f"{SLOTS} test runs are going on already.")


def _keep(program: Program, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        child = spawn(program, file)
    _services.callback(stop, child, program)
    return child


def start() -> None:
    """Start what the environment does not name, and name it there. Changes os.environ."""
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
    if not (own_database or own_redis):
        return
    state = _free_state()
    cluster, broker = postgres.Cluster(state, durable=False), redis.Broker(state)
    if own_database:
        database_log = state.logs / "postgres.log"
        program = cluster.prepare()
        database = _keep(program, database_log)
        _database.append((cluster, database, program))
    if own_redis:
        log = state.logs / "redis.log"
        broker.wait_ready(_keep(broker.prepare(), log), log.read_text)
        os.environ["REDIS_URL"] = broker.url
    if own_database:
        cluster.wait_ready(database, database_log.read_text)
        plan = database_urls(cluster)
        provision(plan)
        os.environ |= {"DATABASE_URL": plan.app, "DATABASE_OWNER_URL": plan.owner, "DATABASE_ADMIN_URL": plan.admin}


def crash_database() -> None:
    """Stop our PostgreSQL at once, as a power loss would, and start it again on what is on its disk.

    Fails where the environment names a PostgreSQL: that one is not ours to crash.
    """
    cluster, child, program = _database[0]
    child.send_signal(signal.SIGQUIT)
    child.wait(20)
    log = cluster.state.logs / "postgres.log"
    child = _keep(program, log)
    _database[0] = (cluster, child, program)
    cluster.wait_ready(child, log.read_text)


def pytest_unconfigure() -> None:
    """Stop what was started here."""
    _services.close()


# Workers of pytest-xdist inherit the controller's environment. SIGTERM must run the clean-up as Ctrl-C does.
if "PYTEST_XDIST_WORKER" not in os.environ:
    atexit.register(_services.close)
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(143)))
    start()
