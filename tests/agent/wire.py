"""Real sockets and processes for the tests of the agent."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from agent.control import request
from agent.identity import Identity, IdentityFile
from agent.protocol.identity import site_name
from agent.state import IDENTITIES
from tests.pki import Fleet

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = UUID("5f0c8a51-0f83-4a5c-8f0e-0a3d1f4a7c11")
DEADLINE_S = 10.0


def site_spec(number: int, **fields: Any) -> dict[str, Any]:
    """One entry of a fleet file; the address is of a block no demo uses."""
    return {
        "site": str(uuid5(NAMESPACE, str(number))),
        "address": f"127.120.{number // 250}.{number % 250 + 1}",
        "seed": number,
        "name": f"Site {number}",
        "time_zone": "Europe/Berlin",
        "workloads": 4,
        "profile": "shop",
        **fields,
    }


def write_fleet(path: Path, specs: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"sites": specs}))
    return path


def keep(folder: Path, *identities: Identity) -> Path:
    """A state folder in which these sites have enrolled already."""
    IdentityFile(folder / IDENTITIES).put(*identities)
    return folder


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def start_agent(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """End a process of ours and return status, output and errors."""
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}: {process.communicate()[1]}")


def until(check: Any, what: str, deadline_s: float = DEADLINE_S) -> None:
    end_s = time.monotonic() + deadline_s
    while not check():
        assert time.monotonic() < end_s, f"waited {deadline_s} s for {what}"
        time.sleep(0.02)


@dataclass
class Answer:
    """One HTTP response, split but not interpreted."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A kept-alive connection that speaks just enough HTTP, over TLS to `name` where a context is given."""

    address: str
    port: int
    timeout_s: float = 5.0
    tls: ssl.SSLContext | None = None
    name: str = ""
    sock: socket.socket = field(init=False)
    rest: bytes = b""

    def __post_init__(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), timeout=self.timeout_s)
        if self.tls is not None:
            try:
                self.sock = self.tls.wrap_socket(self.sock, server_hostname=self.name)
            except BaseException:
                self.sock.close()
                raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, target: str = "/v1/report", method: str = "GET", extra: str = "") -> None:
        self.sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: {self.address}\r\n{extra}\r\n".encode())

    def get(self, target: str = "/v1/report", method: str = "GET", extra: str = "") -> Answer:
        self.send(target, method, extra)
        return self.read()

    def read(self) -> Answer:
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        return Answer(int(first.split()[1]), headers, self._exactly(int(headers.get("content-length", 0))))

    def drain(self, limit_bytes: int) -> bytes:
        """What comes until the peer closes, or until there are that many bytes."""
        pieces, size = [self.rest], len(self.rest)
        self.rest = b""
        while size < limit_bytes:
            try:
                piece = self.sock.recv(1 << 20)
            except ConnectionResetError:
                break
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def closed(self) -> bool:
        """Whether the peer has closed, seen within the timeout."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _until(self, end: bytes) -> bytes:
        while end not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(end)
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        body, self.rest = self.rest[:size], self.rest[size:]
        return body

    def _more(self) -> None:
        piece = self.sock.recv(1 << 20)
        if not piece:
            raise ConnectionError("closed in the middle of an answer")
        self.rest += piece


class Simulator:
    """A real simulator process and its control socket. Its sites have enrolled: we are their centre.

    `given` is what they were given with their certificates, if it is more than these.
    """

    def __init__(
        self,
        folder: Path,
        specs: list[dict[str, Any]],
        given: Callable[[Fleet, Identity], Identity] = lambda fleet, identity: identity,
    ) -> None:
        self.specs = specs
        self.port = free_port()
        self.control = folder / "control.sock"
        self.fleet = Fleet()
        self.state = folder / "state"
        keep(self.state, *(given(self.fleet, self.fleet.site(UUID(spec["site"]))) for spec in specs))
        self._names = {spec["address"]: site_name(self.fleet.name, 1, UUID(spec["site"])) for spec in specs}
        fleet = write_fleet(folder / "fleet.json", specs)
        self.process = start_agent(
            *("simulate", "--fleet", str(fleet), "--port", str(self.port), "--control", str(self.control)),
            *("--state", str(self.state)),
        )
        wait_for_line(self.process, "simulated sites answer")

    def order(self, cmd: str, **fields: Any) -> dict[str, Any]:
        return request(self.control, {"cmd": cmd, **fields})

    def client(self, address: str, timeout_s: float = 5.0) -> Client:
        """The dashboard's connection to the site of an address; to one of no site it asks for the first's name."""
        name = self._names.get(address, next(iter(self._names.values())))
        return Client(address, self.port, timeout_s, self.fleet.dashboard, name)

    def close(self) -> tuple[int, str, str]:
        return stop(self.process)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but is not yet collected does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
