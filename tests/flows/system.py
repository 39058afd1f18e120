"""A whole system for tests: real Celery processes, its own Redis, simulated sites; all of it can be killed."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
from django.conf import settings
from django.db import connections
from django.utils import timezone

from agent.control import request
from fleet.kit import signing
from fleet.kit.tenancy import scope
from fleet.stack import processes, redis
from fleet.stack.process import Program, signal_group, spawn, stop
from fleet.stack.state import open_state
from sites.models import Site
from sites.selectors.fleet_wide import attention
from sites.services.claims import map_pollers
from sites.services.joining import join_string, make_tokens
from sites.services.sites import create_sites
from tests.conftest import TEST, everything
from tests.services import STATE


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ready: Callable[[], Any], seconds: float = 180.0, what: str = "") -> Any:
    """Return the first true value of `ready()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = ready()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or ready.__name__}"
        time.sleep(0.1)


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a process and its children at once; nothing happens when they are gone."""
    signal_group(child, signal.SIGKILL)
    child.wait()


class System:
    """Start with `start()`; leave through the ExitStack that it was given."""

    def __init__(self, stack: ExitStack, folder: Path, *, pollers: int = 1) -> None:
        self._stack = stack
        self.folder = folder
        self.control = folder / "sim.sock"
        self.port = free_port()
        self.pollers = pollers
        self._children: dict[str, tuple[Program, subprocess.Popen[bytes]]] = {}
        # Sockets want short paths, shorter than a test's temporary folder may be.
        self.state = open_state(f"flow-{os.environ.get(STATE, os.getpid())}")
        self.broker = redis.Broker(self.state)
        settings.SIGNER_SOCKET = self.state.runtime / "signer.sock"
        settings.GATEWAY_ADDRESS = f"127.0.0.1:{free_port()}"
        self.environ = dict(os.environ) | {
            "DATABASE_URL": self._database_url("DATABASE_URL"),
            "DATABASE_OWNER_URL": self._database_url("DATABASE_OWNER_URL"),
            "REDIS_URL": self.broker.url,
            "LOG_LEVEL": "INFO",
            "ARCHIPELAGO_SIGNER_SOCKET": str(self.state.runtime / "signer.sock"),
            "ARCHIPELAGO_GATEWAY_SOCKETS": str(self.state.runtime),
            "ARCHIPELAGO_SIGNER_KEYS": str(folder / "keys"),
            "ARCHIPELAGO_GATEWAY_ADDRESS": settings.GATEWAY_ADDRESS,
        }

    @staticmethod
    def _database_url(name: str) -> str:
        return urlsplit(os.environ[name])._replace(path="/" + connections["default"].settings_dict["NAME"]).geturl()

    # Processes ------------------------------------------------------------------------------------------
    def run(self, program: Program) -> subprocess.Popen[bytes]:
        """Start a process, its output to a file named after it."""
        with self.log(program.name).open("ab") as file:
            child = spawn(program, file)
        self._children[program.name] = (program, child)
        self._stack.callback(kill, child)  # at the end of a test nothing of it is kept, so it need not end in order
        return child

    def log(self, name: str) -> Path:
        """Where the process writes."""
        return self.folder / f"{name}.log"

    def last_words(self, *names: str) -> str:
        """The ends of logs, for the report of a failure."""
        return "\n".join(f"{name}: {self.log(name).read_text()[-1_500:]}" for name in names)

    def start_broker(self) -> None:
        """Start Redis, empty."""
        child = self.run(self.broker.prepare())
        self.broker.wait_ready(child, self.log("redis").read_text)

    def start_identity(self) -> None:
        """Start signer and gateway."""
        settings.SIGNER_SOCKET.unlink(missing_ok=True)  # one of before, which was killed
        self.run(processes.signer(self.environ))
        self.start_gateway()
        wait_for(settings.SIGNER_SOCKET.exists, what="the signer")

    def start_gateway(self) -> None:
        """Start the gateway (again)."""
        self.run(processes.gateway(self.environ))

    def start(self) -> None:
        """Start Redis, signer, gateway, beat, tick and the pollers."""
        self.start_broker()
        self.start_identity()
        map_pollers(self.pollers)
        self._stack.callback(map_pollers, 1)
        for name in ("beat", "tick", *(f"poller{number}" for number in range(self.pollers))):
            self.start_worker(name)

    def start_worker(self, name: str) -> None:
        """Start (again) one of the Celery processes."""
        options = type("Options", (), {"pollers": self.pollers})()
        state = type("Folders", (), {"base": self.folder})()
        found = {program.name: program for program in processes.workers(options, state, self.environ)}
        self.run(found[name])

    def end(self, name: str) -> None:
        """End a process as an operator does."""
        program, child = self._children[name]
        stop(child, program)

    def restart(self, name: str) -> None:
        """Start a process that has ended, as it was."""
        self.run(self._children[name][0])

    def restart_ended(self) -> None:
        """Start again what has ended by itself, as the stack's supervisor does."""
        for program, child in list(self._children.values()):
            if child.poll() is not None:
                self.run(program)

    def kill(self, name: str) -> None:
        """kill -9, its children included."""
        child = self._children[name][1]
        assert child.poll() is None, f"{name} has ended by itself"
        kill(child)

    def freeze(self, name: str) -> subprocess.Popen[bytes]:
        """Stop a process where it is, as the pause of a whole machine does; SIGCONT lets it go on."""
        child = self._children[name][1]
        signal_group(child, signal.SIGSTOP)
        return child

    def rss_mib(self, name: str) -> float:
        """Resident memory of a process."""
        return float(psutil.Process(self._children[name][1].pid).memory_info().rss) / 2**20

    @staticmethod
    def close_connections() -> None:
        """Close the test's own connections, before the server goes."""
        for alias in ("default", "owner"):
            connections[alias].close()

    # Sites ----------------------------------------------------------------------------------------------
    def start_sites(
        self, count: int, *, provider_id: int, interval_s: int = 1, dial_out: Sequence[int] = ()
    ) -> list[Site]:
        """Make sites and the simulator that plays them."""
        sites = self.make_sites(count, provider_id=provider_id, interval_s=interval_s)
        self.simulate(sites, dial_out=dial_out)
        return sites

    def make_sites(self, count: int, *, provider_id: int, interval_s: int = 1) -> list[Site]:
        """Make sites that are polled, and that nobody plays yet."""
        rows = [
            {
                "slug": f"flow-{number}",
                "name": f"Flow {number}",
                "lat": 50.0,
                "lon": 10.0,
                "provider_id": provider_id,
                "address": f"127.64.{number // 250}.{number % 250 + 1}:{self.port}",
                "poll_interval_s": interval_s,
                "life": "active",
            }
            for number in range(count)
        ]
        return create_sites(actor=TEST, rights=everything(), rows=rows)

    @staticmethod
    def join_strings(sites: Sequence[Site]) -> list[str]:
        """What each of these sites may join with, without anybody's look."""
        root_sha256 = bytes.fromhex(signing.roots().root_sha256)
        with scope(TEST):
            secrets = make_tokens(sites, made_by="test", now=timezone.now())
        return [join_string(site, secrets[site.pk], root_sha256=root_sha256) for site in sites]

    def simulate(self, sites: Sequence[Site], *, dial_out: Sequence[int] = ()) -> None:
        """Start the simulator that plays these sites, which join by themselves; those numbered so dial out."""
        fleet = [
            {
                "site": str(site.uuid),
                "join": join,
                "address": site.address.partition(":")[0],
                "seed": site.pk,
                "dial_out": number in dial_out,
                "name": site.name,
                "time_zone": "Europe/Berlin",
                "workloads": 3,
                "profile": "factory",
            }
            for number, (site, join) in enumerate(zip(sites, self.join_strings(sites), strict=True))
        ]
        fleet_file = self.folder / "fleet.json"
        fleet_file.write_text(json.dumps({"sites": fleet}))
        self.run(
            processes.simulator(
                self.environ,
                number=0,
                fleet_file=fleet_file,
                folder=self.folder / "sites",
                port=self.port,
                control=self.control,
            )
        )
        wait_for(self.control.exists, what="the simulator")

    def fail(self, mode: str, *sites: Site) -> None:
        """Have sites misbehave."""
        self._order({"cmd": "fail", "mode": mode, "sites": [str(site.uuid) for site in sites]})

    def judge(self, state: str, *sites: Site) -> None:
        """Have sites give a verdict of themselves."""
        self._order({"cmd": "judge", "state": state, "sites": [str(site.uuid) for site in sites]})

    def heal(self, *sites: Site) -> None:
        """Have sites behave again."""
        self._order({"cmd": "heal", "sites": [str(site.uuid) for site in sites]})

    def _order(self, order: dict[str, Any]) -> None:
        request(self.control, order)


def query(text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows, as the owner."""
    with connections["owner"].cursor() as cursor:
        cursor.execute(text, values)
        return list(cursor.fetchall())


def end_application_connections() -> None:
    """Have PostgreSQL end every connection of the application's role (only its superuser may)."""
    with psycopg.connect(os.environ["DATABASE_ADMIN_URL"], autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'archipelago_app'")
    connections["default"].close()


def shown(sites: Sequence[Site]) -> list[str]:
    """What people see of these sites, in their order."""
    rows = dict(query("SELECT site_id, shown FROM edge_sites_sitestate"))
    return [rows[site.pk] for site in sites]


def all_up(sites: Sequence[Site]) -> bool:
    """Whether all are shown as up."""
    return set(shown(sites)) == {"up"}


def flap(system: System, sites: Sequence[Site], *, times: int) -> dict[int, int]:
    """Let sites be down for 3 s and up for 3 s, in turn; how many outages each has had since.

    Fails if one is more than once among what needs attention.
    """
    mark = query("SELECT clock_timestamp()")[0][0]
    for _ in range(times):
        for order in (partial(system.fail, "down"), system.heal):
            order(*sites)
            time.sleep(3)
            with scope(TEST):
                listed = [site.pk for site in attention(TEST, limit=1_000)]
            assert len(listed) == len(set(listed))
            assert set(listed) <= {site.pk for site in sites}
    ids = [site.pk for site in sites]
    counts = "SELECT site_id, count(*) FROM edge_sites_outage WHERE site_id = ANY(%s) AND valid_from > %s GROUP BY 1"
    return dict.fromkeys(ids, 0) | dict(query(counts, ids, mark))


def late_ms(sites: Sequence[Site], seconds: int) -> int:
    """How late polls of these sites were, within so many seconds: the 95th percentile."""
    lateness = (
        "SELECT coalesce(percentile_disc(0.95) WITHIN GROUP (ORDER BY late_ms), 0) FROM sample"
        " WHERE site_id = ANY(%s) AND rtt_ms IS NOT NULL AND at > now() - make_interval(secs => %s)"
    )
    return int(query(lateness, [site.pk for site in sites], seconds)[0][0])


def wait_for_journals() -> None:
    """Until every site's journal has been read once: it may put right when the first states began."""
    unread = (
        "SELECT count(*) FROM edge_sites_pollschedule s LEFT JOIN edge_sites_journalcursor c USING (site_id)"
        " WHERE coalesce(c.seq, 0) = 0"
    )
    wait_for(lambda: query(unread) == [(0,)], 120, "journals read")
