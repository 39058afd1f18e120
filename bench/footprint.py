"""What the agent costs the machine it runs on: memory, and CPU while it is polled and its probes look."""

import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from socket import create_connection
from typing import Final
from uuid import UUID, uuid4

from agent.identity import Identity, IdentityFile, Keys, load_chain
from agent.protocol import decode_report
from agent.protocol.identity import Certificates, site_name
from agent.state import IDENTITIES
from bench.cpu import rss_bytes, tree_cpu_s
from bench.polling import Say
from bench.result import Figure, machine
from bench.stack import INTERVAL_S, free_tcp_port, wait
from fleet.signer.authority import (
    certify_service,
    certify_site,
    make_provider_issuer,
    make_root,
    make_services_issuer,
)
from fleet.stack.state import ROOT

FLEET: Final = "footprint.internal"
HOST: Final = "127.0.0.1"
CONTAINERS: Final = 20
POLLS, POLLS_QUICK = 20, 3
MAX_BYTES: Final = 80 << 20
MAX_CPU_PERCENT: Final = 1.0


def agent_footprint(say: Say, *, quick: bool) -> Iterator[Figure]:
    """Resident memory and share of a core of `run`, polled every 30 s over kept-alive mutual TLS."""
    polls = POLLS_QUICK if quick else POLLS
    with tempfile.TemporaryDirectory(prefix="footprint") as name:
        folder, site, port = Path(name), uuid4(), free_tcp_port()
        context = _enrol(folder, site)
        with _engine(folder / "engine.sock"), _agent(folder, port) as process:
            poller = _Poller(context, site, port)
            wait(poller.poll, 30, "the agent")
            say(f"{polls} polls, one each {INTERVAL_S} s")
            began_s, before_s = time.monotonic(), tree_cpu_s([process.pid])
            for number in range(1, polls + 1):
                time.sleep(max(0.0, began_s + number * INTERVAL_S - time.monotonic()))
                poller.poll()
            seconds = time.monotonic() - began_s
            cpu_percent = (tree_cpu_s([process.pid]) - before_s) / seconds * 100
            memory_bytes = rss_bytes(process.pid)
            poller.close()
    how = (
        f"`run` for {seconds:.0f} s, polled every {INTERVAL_S} s over one mutual TLS 1.3 connection, with {CONTAINERS}"
        f" container probes every 15 s at a stand-in engine, and a disk probe; {machine()}"
    )
    mib = memory_bytes / 2**20
    yield Figure("agent_footprint_mem", mib, "MiB", "< 80", how, met=memory_bytes < MAX_BYTES)
    yield Figure("agent_footprint_cpu", cpu_percent, "% of a core", "< 1", how, met=cpu_percent < MAX_CPU_PERCENT)


class _Poller:
    """The dashboard, as far as one poll needs it."""

    def __init__(self, context: ssl.SSLContext, site: UUID, port: int) -> None:
        self._context, self._site, self._port = context, site, port
        self._http: HTTPSConnection | None = None
        self._digest = ""

    def poll(self) -> bool:
        """One poll over the kept connection; False where nobody listens yet."""
        if self._http is None:
            try:
                raw = create_connection((HOST, self._port), timeout=10)
            except OSError:
                return False
            self._http = HTTPSConnection(HOST, self._port, timeout=10)
            self._http.sock = self._context.wrap_socket(raw, server_hostname=site_name(FLEET, 1, self._site))
        self._http.request("GET", f"/v1/report?components={self._digest}")
        report = decode_report(self._http.getresponse().read())
        assert report.site == self._site
        assert report.verdict.state == "up", report.verdict.reasons
        self._digest = report.components_digest
        return True

    def close(self) -> None:
        """Hang up."""
        if self._http is not None:
            self._http.close()


def _enrol(folder: Path, site: UUID) -> ssl.SSLContext:
    """Give the site's state folder an identity of a fleet of our own; the dashboard's context of that fleet."""
    now = datetime.now(UTC)
    root = make_root(FLEET, now)
    keys, own = Keys.make(), Keys.make()
    issued = certify_site(
        make_provider_issuer(root, FLEET, 1, now),
        fleet=FLEET,
        provider_id=1,
        site=site,
        tls_key=keys.public()[0],
        now=now,
    )
    service = certify_service(
        make_services_issuer(root, FLEET, now), fleet=FLEET, service="dashboard", tls_key=own.public()[0], now=now
    )

    def certificates(chain: tuple[str, ...]) -> Certificates:
        return Certificates(gateway=f"{HOST}:1", chain=chain, roots=(root.pem,), fleet=FLEET)

    IdentityFile(folder / "state" / IDENTITIES).put(Identity(site, keys, certificates(issued.chain_pem)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root.pem)
    load_chain(context, Identity(site, own, certificates(service.chain_pem)))
    return context


@contextmanager
def _agent(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A running agent, as installed but for where it lies."""
    engine = folder / "engine.sock"
    probes = [
        f'[[probes]]\nkind = "container"\nname = "workload {n}"\ncontainer = "workload-{n}"\nsocket = "{engine}"\n'
        for n in range(CONTAINERS)
    ]
    disk = '[[probes]]\nkind = "disk"\nname = "disk"\npath = "/"\nwarn_ratio = 0.999\ncritical_ratio = 1\n'
    config = folder / "agent.toml"
    config.write_text(f'state = "{folder / "state"}"\nlisten = "{HOST}:{port}"\n' + disk + "".join(probes))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", str(config)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


class _Engine(socketserver.BaseRequestHandler):
    """Answers every inspection as Docker does for a healthy container, in size too."""

    def handle(self) -> None:
        """One request."""
        self.request.recv(65_536)
        body = b'{"State":{"Status":"running","Running":true,"Health":{"Status":"healthy"}},"Config":"%b"}' % (
            b"x" * 6_000
        )
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.request.sendall(head + body)


@contextmanager
def _engine(path: Path) -> Iterator[None]:
    with socketserver.ThreadingUnixStreamServer(str(path), _Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
