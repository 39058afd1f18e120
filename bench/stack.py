"""A whole Archipelago for one benchmark: fresh PostgreSQL and Redis, simulated sites, and the real processes."""

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from fleet.stack import processes
from fleet.stack.console import Console
from fleet.stack.demo.company import HOST_SITE_UUID
from fleet.stack.demo.fleet import (
    GATEWAY_OFFSET,
    agent_folder,
    control_socket,
    fleet_file,
    free_port,
    order,
    process_count,
)
from fleet.stack.errors import StackError
from fleet.stack.options import External, Options
from fleet.stack.process import Program
from fleet.stack.readiness import web_answers
from fleet.stack.servers import start_servers
from fleet.stack.state import ROOT, State, open_state
from fleet.stack.supervisor import Child, Supervisor

MOST_SITES = 100_000
PASSWORD = "bench-only-password"
READ_WITHIN_S = 300.0
INTERVAL_S = 30
FREE_BYTES_NEEDED = 4_000_000_000
OURS = External(app=None, owner=None, admin=None, redis=None)


class Children(Supervisor):
    """A supervisor that tells its children by name."""

    def __init__(self, console: Console, state: State) -> None:
        super().__init__(console, state.logs)
        self.by_name: dict[str, Child] = {}

    def start(self, name: str, make: Callable[[], Program], *, stage: int = 2) -> Child:
        """See Supervisor."""
        child = super().start(name, make, stage=stage)
        self.by_name[name] = child
        return child

    def run(self, program: Program) -> None:
        """Run a program to its end. Raises StackError with its last line when it fails."""
        child = self.begin(program)
        del self.by_name[program.name]
        self.finish(child)

    def stop_all(self) -> None:
        """See Supervisor."""
        super().stop_all()
        self.by_name.clear()

    def check(self) -> None:
        """Raise StackError if one has died: the figures of a maimed stack are worth nothing."""
        for child in self.by_name.values():
            if not child.alive:
                raise StackError(f"{child.name} ended: {child.output()[-500:]}")

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.process.pid for name, child in self.by_name.items() if child.process}


class Stack:
    """A context manager; what it started ends with it, and its data is deleted when the next one begins.

    PostgreSQL and Redis live throughout, sites only grow in number, agents and workers come and go.
    """

    def __init__(self, name: str = "bench") -> None:
        """`name` tells its state folder, and its lock, from those of others on this checkout."""
        self.name = name
        self.sites = 0
        self.url = ""
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        """Start PostgreSQL and Redis with nothing in them. Raises StackError."""
        with ExitStack() as closing:
            self._open(closing)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self._closing.close()

    def _open(self, closing: ExitStack) -> None:
        raise_file_limit()
        state = open_state(self.name, free_bytes=FREE_BYTES_NEEDED)
        try:
            closing.enter_context(state.locked("stack.lock", str(os.getpid())))
        except BlockingIOError as error:
            raise StackError(f"Another benchmark runs on this checkout (process {error.strerror}).") from None
        for folder in ("postgres", "demo", "keys", "logs"):
            shutil.rmtree(state.base / folder, ignore_errors=True)
        self.state = open_state(self.name, free_bytes=FREE_BYTES_NEEDED)
        console = Console(closing.enter_context((self.state.logs / "all.log").open("w")))
        self._servers = Children(console, self.state)
        closing.callback(self._servers.stop_all)
        self._agents = Children(console, self.state)
        closing.callback(self._agents.stop_all)
        self._workers = Children(console, self.state)
        closing.callback(self._workers.stop_all)
        servers = start_servers(self.state, OURS, self._servers, console)
        self.database_url = servers.database.owner
        self._agent_port = free_port(MOST_SITES)
        self.environ = _environment(self.state) | {
            "DATABASE_URL": servers.database.app,
            "DATABASE_OWNER_URL": servers.database.owner,
            "REDIS_URL": servers.redis_url,
            "DEMO_PORT": str(self._agent_port),
            "ARCHIPELAGO_SIGNER_SOCKET": str(self.state.runtime / "signer.sock"),
            "ARCHIPELAGO_GATEWAY_SOCKETS": str(self.state.runtime),
            "ARCHIPELAGO_SIGNER_KEYS": str(self.state.base / "keys"),
            "ARCHIPELAGO_SIGNER_SITES_BURST": str(MOST_SITES),
            "ARCHIPELAGO_GATEWAY_ADDRESS": f"127.0.0.1:{self._agent_port + GATEWAY_OFFSET}",
        }
        self.manage("migrate --database owner --no-input --verbosity 0")
        _start(self._servers, processes.signer(self.environ))
        _start(self._servers, processes.gateway(self.environ))

    # Sites and processes ----------------------------------------------------------------------------------
    def grow(self, sites: int) -> None:
        """Stop agents and workers, and have that many simulated sites and the host's own, polled every INTERVAL_S."""
        self.stop()
        self.environ["SITES"] = str(sites)
        self.manage("demo_seed")
        enrol = (sys.executable, "-m", "bench.enrol")
        self._workers.run(Program("enrol", enrol, ROOT, self.environ))
        self.execute(f"UPDATE edge_sites_pollschedule SET interval_s = {INTERVAL_S} WHERE interval_s <> {INTERVAL_S}")
        self.execute("VACUUM (ANALYZE)")  # as after any bulk load; else autovacuum does it in the middle of a figure
        self.sites = sites

    def start(self, *, pollers: int, churn_per_minute: float = 0.0, with_web: bool = False) -> None:
        """Start agents, pollers, tick, worker, slow and beat, and the web if wanted. `grow` comes before."""
        self.stop()
        self.manage(f"pollers {pollers}")
        options = Options("127.0.0.1", free_tcp_port(), self.sites, pollers, None, None, OURS)
        for program in self._agent_programs():
            _start(self._agents, program)
        self.order(cmd="churn", per_minute=churn_per_minute)
        for program in processes.workers(options, self.state, self.environ):
            _start(self._workers, program)
        if with_web:
            self._start_web(options)

    def stop(self) -> None:
        """Stop agents, workers and web; the data stays."""
        self._workers.stop_all()
        self._agents.stop_all()

    def order(self, **request: Any) -> None:
        """Give every simulator an order, as soon as it takes some. Raises StackError when it is refused."""
        for number in range(process_count(self.sites)):
            control = control_socket(self.state, number)
            wait(partial(_takes_orders, control), 60, f"simulator {number}")
            answer = order(control, **request)
            if not answer.get("ok"):
                raise StackError(f"Simulator {number} refused {request['cmd']}: {answer.get('error')}")

    def order_site(self, uuid: str, **request: Any) -> None:
        """Give one simulated site an order. Raises StackError when no simulator plays it."""
        controls = [control_socket(self.state, number) for number in range(process_count(self.sites))]
        if not any(order(control, sites=[uuid], **request).get("ok") for control in controls):
            raise StackError(f"No simulator plays site {uuid}.")

    def manage(self, *commands: str) -> None:
        """Run management commands. Raises StackError."""
        self._workers.run(processes.django("manage", self.environ, *commands))

    def run(self, program: Program) -> None:
        """Run a program to its end. Raises StackError with its last line when it fails."""
        self._workers.run(program)

    def pids(self) -> dict[str, int]:
        """Process ids by name of what polls and stores: workers, beat, PostgreSQL and Redis, but no web, no agents."""
        found = self._servers.pids() | self._workers.pids()
        return {name: pid for name, pid in found.items() if name != "web"}

    def check(self) -> None:
        """Raise StackError if a process has died."""
        for children in (self._servers, self._agents, self._workers):
            children.check()

    def rest(self, seconds: float) -> None:
        """Let time pass. Raises StackError when a process dies meanwhile."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            self.check()
            time.sleep(min(1.0, left_s))

    def warm_up(self, *, at_most_s: float, settle_s: float) -> None:
        """Wait until (all but one in a thousand) sites have answered since now and their journals were read to then.

        Then `settle_s` more. Raises StackError when they have not answered within `at_most_s`.
        """
        since = self.execute("SELECT now()")[0][0]
        answered = "SELECT count(*) FILTER (WHERE last_good_at >= %s), count(*) FROM edge_sites_sitestate"
        deadline = time.monotonic() + at_most_s
        live, total = 0, 1
        while live < total * 0.999:
            if time.monotonic() > deadline:
                raise StackError(f"only {live:,} of {total:,} sites answered within {at_most_s:.0f} s")
            self.rest(1.0)
            live, total = self.execute(answered, [since])[0]
        # What every site wrote before we began is read once; what is read later belongs to what we measure.
        read = "SELECT count(*) FROM edge_sites_journalcursor WHERE read_at IS NOT NULL AND next_at > now()"
        deadline = time.monotonic() + READ_WITHIN_S
        while self.execute(read)[0][0] < total * 0.999 and time.monotonic() < deadline:
            self.rest(1.0)
        self.rest(settle_s)

    # Database ---------------------------------------------------------------------------------------------
    def execute(self, statement: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement as the owner, who sees all sites, over a connection of its own."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def polls(self) -> tuple[int, int]:
        """Polls and failed polls that pollers have written since the beginning."""
        row = self.execute("SELECT coalesce(sum(polls), 0), coalesce(sum(failures), 0) FROM edge_sites_pollerbeat")[0]
        return int(row[0]), int(row[1])

    def pages(self) -> int:
        """Pages of journals that were read since the beginning."""
        return int(self.execute("SELECT count(*) FROM edge_sites_journalenvelope")[0][0])

    def _agent_programs(self) -> list[Program]:
        host = processes.host_agent(
            self.environ, site=HOST_SITE_UUID, port=self._agent_port, folder=agent_folder(self.state, None)
        )
        return [
            host,
            *(
                processes.simulator(
                    self.environ,
                    number=number,
                    fleet_file=fleet_file(self.state, number),
                    folder=agent_folder(self.state, number),
                    port=self._agent_port + 1 + number,
                    control=control_socket(self.state, number),
                )
                for number in range(process_count(self.sites))
            ),
        ]

    def _start_web(self, options: Options) -> None:
        self._workers.run(processes.front_end(self.environ))
        self.manage("collectstatic --no-input --verbosity 0")
        _start(self._workers, processes.web(options, self.environ))
        self.url = options.url
        wait(lambda: web_answers(options), 60, "the web")


def _takes_orders(control: Path) -> bool:
    try:
        return bool(order(control, cmd="status"))
    except OSError:
        return False


def _start(children: Children, program: Program) -> None:
    children.start(program.name, lambda: program)


def _environment(state: State) -> dict[str, str]:
    """Ours, less what would lead to other servers, and what every process of the stack needs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "REDIS_"))}
    return inherited | {
        "SECRET_KEY": state.secret("SECRET_KEY"),
        "ALLOWED_HOSTS": "127.0.0.1",
        "HTTPS": "0",
        "DEBUG": "0",
        "ARCHIPELAGO_AGENT_NETWORKS_ALLOWED": "127.64.0.0/10",
        "ARCHIPELAGO_STATE_DIR": str(state.base),
        "ARCHIPELAGO_DEMO_PASSWORD": PASSWORD,
        "PYTHONUNBUFFERED": "1",
    }


def raise_file_limit() -> None:
    """Pollers, simulators and the peer hold a connection a site."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_tcp_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once ready. Raises StackError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready within {seconds:.0f} s")
        time.sleep(0.1)
