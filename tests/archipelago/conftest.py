"""The command line before the real thing: a web process over TLS, on the tests' database."""

import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connections
from django.utils import timezone

from archipelago.cli import main
from fleet.env import ROOT
from fleet.people.services import mint_token
from fleet.stack import processes
from fleet.stack.options import External, Options
from fleet.stack.process import spawn, stop
from tests.conftest import TEST
from tests.fleet.rollouts.played import Played
from tests.flows.system import free_port, wait_for

VARIABLES = ("ARCHIPELAGO_URL", "ARCHIPELAGO_TOKEN", "ARCHIPELAGO_CA", "ARCHIPELAGO_CONFIG", "XDG_CONFIG_HOME")


class Live:
    """A web process at `url`; `ca` is the file of the certificate that it shows."""

    def __init__(self, folder: Path) -> None:
        self.ca, key = _certificate(folder)
        port = free_port()
        self.url = f"https://localhost:{port}"
        environ = dict(os.environ) | {name: _database_url(name) for name in ("DATABASE_URL", "DATABASE_OWNER_URL")}
        options = Options("127.0.0.1", port, 10, 1, self.ca, key, External(None, None, None, None))
        self._program = processes.web(options, environ | {"LOG_LEVEL": "WARNING"})
        self._log = folder / "web.log"
        with self._log.open("ab") as file:
            self._child = spawn(self._program, file)
        wait_for(self._listens, what="the web")

    def _listens(self) -> bool:
        assert self._child.poll() is None, self._log.read_text()
        try:
            with urlopen(f"{self.url}/healthz", context=ssl.create_default_context(cafile=self.ca)):
                return True
        except OSError:
            return False

    def close(self) -> None:
        """End it."""
        stop(self._child, self._program)


def _database_url(name: str) -> str:
    return urlsplit(os.environ[name])._replace(path="/" + connections["default"].settings_dict["NAME"]).geturl()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that only vouches for itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, kept = folder / "web.pem", folder / "web.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    kept.write_bytes(key.private_bytes(*private))
    return certificate, kept


@pytest.fixture(scope="package")
def live(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The web process, for all tests."""
    running = Live(tmp_path_factory.mktemp("live"))
    yield running
    running.close()


class Terminal:
    """Somebody with a token. `run` returns the exit status, what was printed, and what was complained of."""

    def __init__(self, environ: dict[str, str], capture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environ = environ
        self._capture = capture
        self._monkeypatch = monkeypatch

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Run a command within this process."""
        for name in VARIABLES:
            self._monkeypatch.delenv(name, raising=False)
        for name, value in self.environ.items():
            self._monkeypatch.setenv(name, value)
        self._capture.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's own
            status = int(ended.code or 0)
        seen = self._capture.readouterr()
        return status, seen.out, seen.err

    def ok(self, *arguments: object) -> str:
        """What a command that succeeds prints."""
        status, out, err = self.run(*arguments)
        assert (status, err) == (0, ""), (status, out, err)
        return out

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        command = [sys.executable, "-m", "archipelago", *map(str, arguments)]
        environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **self.environ}
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=ROOT, env=environ, text=True, **(piped | options))


@pytest.fixture
def terminal(
    live: Live, make_person: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Terminal]]:
    """Factory of terminals of new people with a role."""

    def make(role: str = "operator", **membership: Any) -> Terminal:
        token = mint_token(actor=TEST, user=make_person(role, **membership), now=timezone.now())
        environ = {"ARCHIPELAGO_URL": live.url, "ARCHIPELAGO_TOKEN": token, "ARCHIPELAGO_CA": str(live.ca)}
        return Terminal(environ, capsys, monkeypatch)

    with open(os.devnull) as nobody, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", nobody)
        yield make


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Callable[..., Played]:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)
