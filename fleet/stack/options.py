"""What `manage.py up` is asked to do, read from the environment and checked before anything is touched."""

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.stack.errors import StackError

MOST_SITES = 100_000
SITES_A_POLLER = 8_000
DEMO_SITES = 60


@dataclass(frozen=True)
class External:
    """Servers that somebody else runs; None where we bring our own. `admin` may make roles in that database."""

    app: str | None
    owner: str | None
    admin: str | None
    redis: str | None


@dataclass(frozen=True)
class Options:
    """`sites` counts simulated sites; `certificate` and `key` are PEM files and come together."""

    bind: str
    port: int
    sites: int
    pollers: int
    certificate: Path | None
    key: Path | None
    external: External

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Where the dashboard is found."""
        return f"{'https' if self.certificate else 'http'}://{self.address}"


def read_options(environ: Mapping[str, str]) -> Options:
    """Options from PORT, BIND, SITES, POLLERS, TLS_CERTIFICATE_FILE, TLS_KEY_FILE and the URLs of servers.

    Raises StackError for what cannot be used: the message names the variable.
    """
    sites = _integer(environ, "SITES", DEMO_SITES, 1, MOST_SITES)
    options = Options(
        bind=environ.get("BIND") or "127.0.0.1",
        port=_integer(environ, "PORT", 8000, 1, 65_535),
        sites=sites,
        pollers=_integer(environ, "POLLERS", -(-(sites + 1) // SITES_A_POLLER), 1, 64),
        certificate=_file(environ, "TLS_CERTIFICATE_FILE"),
        key=_file(environ, "TLS_KEY_FILE"),
        external=External(
            app=_secret(environ, "DATABASE_URL"),
            owner=_secret(environ, "DATABASE_OWNER_URL"),
            admin=_secret(environ, "DATABASE_ADMIN_URL"),
            redis=_secret(environ, "REDIS_URL"),
        ),
    )
    if bool(options.certificate) != bool(options.key):
        raise StackError("TLS_CERTIFICATE_FILE and TLS_KEY_FILE come together: set both or neither.")
    if not options.certificate and not _is_loopback(options.bind):
        raise StackError(
            f"BIND={options.bind} would show the dashboard to the network without TLS: "
            "set TLS_CERTIFICATE_FILE and TLS_KEY_FILE, or bind 127.0.0.1."
        )
    if bool(options.external.app) != bool(options.external.owner):
        raise StackError("DATABASE_URL and DATABASE_OWNER_URL come together: set both or neither.")
    return options


def require_free(options: Options) -> None:
    """Raise StackError when the web port cannot be listened on."""
    try:
        listen(options.bind, options.port)
    except PermissionError:
        raise StackError(f"There is no right to listen on port {options.port}; choose another, PORT=8000.") from None
    except socket.gaierror:
        raise StackError(f"BIND={options.bind} is not an address of this machine.") from None
    except OSError as error:
        if error.errno == 98:  # EADDRINUSE
            message = f"Port {options.port} is taken by another program; choose another with PORT={options.port + 1}."
            raise StackError(message) from None
        raise StackError(f"{options.address} cannot be listened on: {error.strerror}.") from None


def listen(host: str, port: int) -> None:
    """Listen on an address for a moment. Raises OSError when that is not possible."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _integer(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    raw = environ.get(name) or str(default)
    if not (raw.isascii() and raw.isdigit() and least <= int(raw) <= most):
        raise StackError(f"{name} must be a whole number from {least} to {most}, not {raw!r}.")
    return int(raw)


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    if environ.get(name):
        return environ[name]
    path = _file(environ, f"{name}_FILE")
    try:
        return path.read_text().strip() if path else None
    except OSError as error:
        raise StackError(f"{name}_FILE cannot be read: {error.strerror}.") from None


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    raw = environ.get(name)
    if not raw:
        return None
    path = Path(raw).absolute()
    if not os.access(path, os.R_OK):
        raise StackError(f"{name} cannot be read: {path}.")
    return path
