"""Prometheus, the peer of the polling figure: Debian's package, run beside us on the same kind of sites."""

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.protocol.identity import service_name
from bench.stack import INTERVAL_S, Children, Stack, free_tcp_port, wait
from fleet.signer.authority import certify_service, make_root, make_services_issuer
from fleet.stack.console import Console
from fleet.stack.demo.sites import host_of
from fleet.stack.process import Program
from fleet.stack.state import ROOT

FOLDER = ROOT / ".cache" / "peers"
FETCH_S = 180
FLEET = "peer.internal"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus and the exporter that it scrapes."""

    pid: int
    version: str
    exporter_port: int
    tls: ssl.SSLContext

    def scrapes(self) -> int:
        """Scrapes that the exporter has answered since the beginning."""
        connection = HTTPSConnection("127.64.0.1", self.exporter_port, timeout=10, context=self.tls)
        try:
            connection.request("GET", "/count")
            return int(connection.getresponse().read())
        finally:
            connection.close()


def find_prometheus() -> Path | None:
    """The program: installed, unpacked by an earlier run, or fetched and unpacked now. None when there is no way."""
    installed = shutil.which("prometheus")
    unpacked = FOLDER / "prometheus" / "usr" / "bin" / "prometheus"
    if installed:
        return Path(installed)
    if not unpacked.exists():
        _fetch("prometheus")
    return unpacked if unpacked.exists() else None


def _fetch(package: str) -> None:
    """Unpack a Debian package below FOLDER: no root, no daemon, nothing installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        try:
            subprocess.run(
                ["apt-get", "-qq", "download", package], cwd=folder, check=True, capture_output=True, timeout=FETCH_S
            )
            archive = next(Path(folder).glob("*.deb"))
            subprocess.run(["dpkg", "-x", str(archive), "root"], cwd=folder, check=True, timeout=FETCH_S)
        except (subprocess.SubprocessError, StopIteration):
            return
        (Path(folder) / "root").rename(FOLDER / package)


@contextmanager
def running(program: Path, stack: Stack, *, hosts: int) -> Iterator[Prometheus]:
    """Have Prometheus scrape that many hosts every INTERVAL_S, its storage in a folder that goes with it."""
    folder = stack.state.base / "prometheus"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tls = _certify(folder)
    exporter_port, own_port = free_tcp_port(), free_tcp_port()
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(_config(hosts, exporter_port, folder)))  # JSON is YAML
    console = (folder / "console.log").open("w")
    children = Children(Console(console), stack.state)
    try:
        exporter = (sys.executable, "-m", "bench.exporter", str(exporter_port), str(folder))
        child = children.start("exporter", lambda: Program("exporter", exporter, ROOT, stack.environ))
        wait(lambda: "ready" in child.tail, 30, "the exporter")
        options = (
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{own_port}",
            "--log.level=warn",
        )
        peer = children.start("prometheus", lambda: Program("prometheus", (str(program), *options), folder))
        wait(lambda: _is_ready(own_port), 60, "Prometheus")
        assert peer.process is not None
        yield Prometheus(peer.process.pid, _version(program), exporter_port, tls)
    finally:
        children.stop_all()
        console.close()
        shutil.rmtree(folder, ignore_errors=True)


def _certify(folder: Path) -> ssl.SSLContext:
    """Certificates of the peer's own, made as ours are: for its sites, for itself, and in a context for us."""
    now = datetime.now(UTC)
    root = make_root(FLEET, now)
    issuer = make_services_issuer(root, FLEET, now)
    (folder / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    services: tuple[tuple[str, Literal["gateway", "dashboard"]], ...] = (("server", "gateway"), ("client", "dashboard"))
    for name, service in services:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        issued = certify_service(issuer, fleet=FLEET, service=service, tls_key=public, now=now)
        (folder / f"{name}.pem").write_text("".join(issued.chain_pem))
        (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "root.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


def _config(hosts: int, port: int, folder: Path) -> dict[str, object]:
    targets = [f"{host_of(place)}:{port}" for place in range(hosts)]
    tls = {
        "ca_file": str(folder / "root.pem"),
        "cert_file": str(folder / "client.pem"),
        "key_file": str(folder / "client.key"),
        "server_name": service_name(FLEET, "gateway"),
        "min_version": "TLS13",
    }
    job = {"job_name": "sites", "scheme": "https", "tls_config": tls, "static_configs": [{"targets": targets}]}
    return {"global": {"scrape_interval": f"{INTERVAL_S}s", "scrape_timeout": "10s"}, "scrape_configs": [job]}


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _version(program: Path) -> str:
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = (done.stdout or done.stderr).split()
    return words[words.index("version") + 1].split("+")[0] if "version" in words else "of unknown version"
