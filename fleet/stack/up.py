"""`manage.py up`: brings the whole system up on this machine, keeps it up, and takes it down again."""

import json
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from fleet.stack import processes
from fleet.stack.console import Console
from fleet.stack.demo.company import HOST_SITE_UUID, USERS
from fleet.stack.demo.fleet import (
    GATEWAY_OFFSET,
    Unrest,
    agent_folder,
    control_socket,
    fleet_file,
    free_port,
    process_count,
)
from fleet.stack.errors import StackError
from fleet.stack.options import Options, read_options, require_free
from fleet.stack.process import Program, tie_to_parent
from fleet.stack.readiness import wait_for_sites, wait_for_web
from fleet.stack.servers import Servers, start_servers
from fleet.stack.state import ROOT, State, open_state, write_private
from fleet.stack.static import collecting
from fleet.stack.supervisor import Supervisor

RUN_FILE = ROOT / ".run" / "env.json"
SECOND_SIGNAL_S = 1.0
# Without what packages bring and we never serve: compressing it would take most of the time.
COLLECT = "collectstatic --clear --no-input --verbosity 0 -i *.js.map -i redoc* -i *-4.js -i *-4.min.js"


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP asked us to stop."""


def main() -> int:
    """Run until a signal comes. Returns the exit code: 0 after a signal, 1 when the system could not start."""
    console = Console()
    try:
        options = read_options(os.environ)
        state = open_state()
        with _only_one(state, options):
            require_free(options)
            _Life(options, state, console).live()
    except StackError as error:
        console.say(str(error))
        return 1
    except Interrupted:
        return 0


@contextmanager
def _only_one(state: State, options: Options) -> Iterator[None]:
    try:
        with state.locked("up.lock", f"{options.address} (process {os.getpid()})"):
            yield
    except BlockingIOError as error:
        raise StackError(f"Archipelago is running already at {error.strerror}; stop that first.") from None


@contextmanager
def _run_file(environ: Mapping[str, str]) -> Iterator[None]:
    """Leave the settings where commands in another shell find them, for as long as we run."""
    try:
        RUN_FILE.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(RUN_FILE, json.dumps(environ, indent=1))
    except OSError as error:
        raise StackError(f"{RUN_FILE} cannot be written: {error.strerror}.") from None
    try:
        yield
    finally:
        with suppress(OSError):
            RUN_FILE.unlink(missing_ok=True)


class _Life:
    """One life of the stack, from the first process to the last."""

    def __init__(self, options: Options, state: State, console: Console) -> None:
        self._options = options
        self._state = state
        self._console = console
        self._asked_at: float | None = None
        self._supervisor = Supervisor(console, state.logs, self._heed)
        self._began = time.monotonic()

    def live(self) -> NoReturn:
        """Start everything, say so, and keep it running. Leaves by Interrupted or StackError, with nothing running."""
        _raise_file_limit()
        self._catch_signals()
        try:
            servers = start_servers(self._state, self._options.external, self._supervisor, self._console)
            settings = self._settings(servers)
            with _run_file(settings):
                environ = {**_inherited(), **settings}
                self._prepare(environ)
                self._start_processes(environ)
                wait_for_web(self._options, self._supervisor.watch)
                wait_for_sites(servers.database.owner, watch=self._supervisor.watch, say=self._console.say)
                self._announce(settings["ARCHIPELAGO_DEMO_PASSWORD"])
                self._keep()
        finally:
            self._console.quiet = True
            self._console.say("stopping")
            self._supervisor.stop_all()
            self._console.say("stopped; the data is kept")

    def _settings(self, servers: Servers) -> dict[str, str]:
        """What our own environment says to the processes, and the run file to commands in another shell."""
        hosts = dict.fromkeys(["127.0.0.1", "localhost", "[::1]", self._options.address.rsplit(":", 1)[0]])
        given = {"ALLOWED_HOSTS": ",".join(hosts), "SECRET_KEY": self._state.secret("SECRET_KEY")}
        demo_port = free_port(self._options.sites)
        password = os.environ.get("ARCHIPELAGO_DEMO_PASSWORD") or self._state.secret("demo_password")
        return {
            **{name: os.environ.get(name) or value for name, value in given.items()},
            "HTTPS": "1" if self._options.certificate else "0",
            "DATABASE_URL": servers.database.app,
            "DATABASE_OWNER_URL": servers.database.owner,
            "REDIS_URL": servers.redis_url,
            "ARCHIPELAGO_AGENT_NETWORKS_ALLOWED": "127.64.0.0/10",
            "ARCHIPELAGO_STATE_DIR": str(self._state.base),
            "ARCHIPELAGO_DEMO_PASSWORD": password,
            "ARCHIPELAGO_SIGNER_SOCKET": str(self._state.runtime / "signer.sock"),
            "ARCHIPELAGO_GATEWAY_SOCKETS": str(self._state.runtime),
            "ARCHIPELAGO_SIGNER_KEYS": str(self._state.base / "keys"),
            "ARCHIPELAGO_GATEWAY_ADDRESS": os.environ.get("ARCHIPELAGO_GATEWAY_ADDRESS")
            or f"127.0.0.1:{demo_port + GATEWAY_OFFSET}",
            "ARCHIPELAGO_DASHBOARD_URL": os.environ.get("ARCHIPELAGO_DASHBOARD_URL") or self._options.url,
            "DEMO_PORT": str(demo_port),
            "PORT": str(self._options.port),
            "BIND": self._options.bind,
            "SITES": str(self._options.sites),
            "RAW_SAMPLE_DAYS": os.environ.get("RAW_SAMPLE_DAYS") or "2",
        }

    def _prepare(self, environ: Mapping[str, str]) -> None:
        """Database and static files, side by side; the signer, which join strings need, begins meanwhile."""
        signer = processes.signer(environ)
        self._supervisor.start(signer.name, partial(_same, signer), stage=1)
        data = self._supervisor.begin(
            processes.django(
                "database",
                environ,
                "migrate --database owner --no-input --verbosity 0",
                "demo_seed",
                f"pollers {self._options.pollers}",
            )
        )
        self._supervisor.finish(self._supervisor.begin(processes.front_end(environ)))
        with collecting() as needed:
            if needed:
                static = processes.django("static", environ, COLLECT)
                self._supervisor.finish(self._supervisor.begin(static))
        self._supervisor.finish(data)

    def _start_processes(self, environ: Mapping[str, str]) -> None:
        port = int(environ["DEMO_PORT"])
        agents = [processes.host_agent(environ, site=HOST_SITE_UUID, port=port, folder=agent_folder(self._state, None))]
        agents += [
            processes.simulator(
                environ,
                number=number,
                fleet_file=fleet_file(self._state, number),
                folder=agent_folder(self._state, number),
                port=port + 1 + number,
                control=control_socket(self._state, number),
            )
            for number in range(process_count(self._options.sites))
        ]
        for program in [
            processes.web(self._options, environ),
            processes.gateway(environ),
            *agents,
            *processes.workers(self._options, self._state, environ),
        ]:
            self._supervisor.start(program.name, partial(_same, program))

    def _announce(self, password: str) -> None:
        """The closing lines: who may sign in, and last of all where."""
        width = max(len(user.name) for user in USERS)
        for user in USERS:
            whose = f"{user.role.replace('_', ' ')}{f' of {user.provider}' if user.provider else ', all sites'}"
            self._console.closing(f"  {user.name:<{width}}  {password}  {whose}")
        control = control_socket(self._state, 0)
        self._console.closing(f"To let sites fail: .venv/bin/python -m agent simctl --control {control} fail dark all")
        self._console.closing(
            f"Started in {time.monotonic() - self._began:.0f} s. From here on only warnings are shown; "
            f"everything is in {self._state.logs}. Ctrl-C stops."
        )
        self._console.quiet = True
        self._console.closing(f"Archipelago is ready at {self._options.url}")

    def _keep(self) -> NoReturn:
        unrest = Unrest(self._state, self._options.sites)

        def never() -> bool:
            unrest.tick()
            return False

        while True:
            self._supervisor.watch(never)

    def _heed(self) -> None:
        """Raise Interrupted if a signal came: what its handler raises inside of a fork is dropped by Python."""
        if self._asked_at is not None:
            raise Interrupted

    def _catch_signals(self) -> None:
        """The first signal raises Interrupted in this thread; a second one, some time later, hastens the end."""

        def handle(number: int, frame: object) -> None:
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                raise Interrupted
            if time.monotonic() - self._asked_at > SECOND_SIGNAL_S:  # make passes on what the whole group got already
                self._supervisor.hurry.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup is respected
                signal.signal(number, handle)
        if _parent_is_make():  # which, killed outright, would leave us behind
            tie_to_parent(signal.SIGTERM, os.getppid())


def _same(program: Program) -> Program:
    return program


def _inherited() -> dict[str, str]:
    """Our environment without what the processes have no business with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_ADMIN_URL")}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _parent_is_make() -> bool:
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text().strip() in {"make", "gmake"}
    except OSError:
        return False


def _raise_file_limit() -> None:
    """Pollers and simulators hold a connection a site."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
