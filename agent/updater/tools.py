"""apt-get and dpkg as the updater calls them: exact arguments, no shell, bounded output, an end to waiting."""

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from agent.apply.part import ApplyError
from agent.updater.messages import one_line
from agent.updater.plan import Installed, Planned, read_installed, read_plan

QUERY_S: Final = 60.0
UPDATE_S: Final = 600.0
DOWNLOAD_S: Final = 3_600.0
INSTALL_S: Final = 3_600.0
LOCK_S: Final = 300.0
MAX_OUTPUT_BYTES: Final = 8 << 20
_LINE: Final = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended, and what it said on both channels, cut at MAX_OUTPUT_BYTES."""

    code: int
    said: str

    @property
    def why(self) -> str:
        """The lines that say what went wrong, for people."""
        lines = [line for line in self.said.splitlines() if line.startswith(("E: ", "dpkg: ", " "))]
        return one_line("; ".join(lines or self.said.splitlines()[-3:]) or f"it ended with {self.code}")


@dataclass(frozen=True, slots=True)
class Tools:
    """The machine's package tools; or, with `root`, those of a folder that stands for a machine.

    `apt_config` is a file that apt reads before any of the machine's own; it must then name the folder as `Dir`.
    """

    root: Path = Path("/")
    apt_config: Path | None = None

    # What is asked --------------------------------------------------------------------------------------------
    def installed(self) -> dict[str, Installed]:
        """All packages that dpkg knows, of this machine's architecture or of none. Raises ApplyError."""
        done = self._good(["dpkg-query", *self._root_only(), "-W", f"-f={_LINE}"], QUERY_S)
        return read_installed(done.said, self.architecture())

    def architecture(self) -> str:
        """This machine's. Raises ApplyError."""
        return self._good([*self._dpkg(), "--print-architecture"], QUERY_S).said.strip()

    def audit(self) -> str:
        """What dpkg finds half done or inconsistent; empty when all is well. Raises ApplyError."""
        done = self.run([*self._dpkg(), "--audit"], QUERY_S)
        left = list((self.root / "var/lib/dpkg/updates").glob("[0-9]*"))
        return one_line(done.said) or ("dpkg was interrupted" if left or done.code else "")

    def is_later(self, one: str, other: str) -> bool:
        """Whether version `one` is later than `other`, by dpkg's own rules."""
        return self.run([*self._dpkg(), "--compare-versions", one, "gt", other], QUERY_S).code == 0

    def describe(self, deb: Path) -> tuple[str, str, str] | None:
        """Name, version and architecture of a whole .deb; None for what is none."""
        fields = self.run(["dpkg-deb", "--field", str(deb), "Package", "Version", "Architecture"], QUERY_S)
        whole = self.run(["dpkg-deb", "--fsys-tarfile", str(deb)], QUERY_S, discard=True)
        found = dict(line.split(": ", 1) for line in fields.said.splitlines() if ": " in line)
        if fields.code or whole.code or set(found) != {"Package", "Version", "Architecture"}:
            return None
        return found["Package"], found["Version"], found["Architecture"]

    def plan(self, wanted: list[str]) -> list[Planned]:
        """What apt would do to install these `name=version`; nothing is done. Raises ApplyError."""
        return read_plan(self._good([*self._apt(), "--simulate", "install", *wanted], QUERY_S).said)

    def plan_files(self, debs: list[Path]) -> list[Planned]:
        """The same of files, with no repository in sight. Raises ApplyError."""
        arguments = [*self._apt(), *_HERMETIC, "--simulate", "install", *map(str, debs)]
        return read_plan(self._good(arguments, QUERY_S).said)

    # What is done ---------------------------------------------------------------------------------------------
    def update(self) -> None:
        """Read the repositories' lists anew. Raises ApplyError, transient: a mirror may come back."""
        done = self.run(["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"], UPDATE_S)
        if done.code:
            raise ApplyError(f"the lists of packages cannot be read: {done.why}", transient=True)

    def download(self, name: str, version: str, folder: Path) -> Done:
        """Fetch one package into a folder; apt checks its hash."""
        return self.run(["apt-get", "-q", "download", f"{name}={version}"], DOWNLOAD_S, cwd=folder)

    def repack(self, name: str, folder: Path) -> Done:
        """Make a .deb of what is installed, where the machine has dpkg-repack."""
        return self.run(["dpkg-repack", *self._root_only(), name], DOWNLOAD_S, cwd=folder)

    def install(self, debs: list[Path]) -> Done:
        """Have apt install these files in the order it finds right; it knows of nothing else, and removes nothing."""
        return self.run([*self._apt(), *_HERMETIC, "install", *map(str, debs)], INSTALL_S)

    def put(self, debs: list[Path]) -> Done:
        """Have dpkg itself install these files, whatever state it was left in."""
        return self.run([*self._dpkg(), *_CONFFILES, "--auto-deconfigure", "--install", *map(str, debs)], INSTALL_S)

    def purge(self, names: list[str]) -> Done:
        """Remove packages with their configuration; dpkg refuses what others need."""
        return self.run([*self._dpkg(), "--purge", *names], INSTALL_S)

    def configure(self) -> Done:
        """Go on with what dpkg has left unconfigured."""
        return self.run([*self._dpkg(), *_CONFFILES, "--configure", "--pending"], INSTALL_S)

    def wait_until_free(self) -> None:
        """Until nobody holds dpkg's locks: another package manager, or what a killed updater has left at work.

        Raises ApplyError, transient.
        """
        until = time.monotonic() + LOCK_S
        while not all(self._is_free(name) for name in ("lock-frontend", "lock")):
            if time.monotonic() > until:
                raise ApplyError("another package manager is at work on this machine", transient=True)
            time.sleep(0.1)

    def _is_free(self, name: str) -> bool:
        with open(self.root / "var/lib/dpkg" / name, "a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True

    # Within ---------------------------------------------------------------------------------------------------
    def _root_only(self) -> list[str]:
        return [] if self.root == Path("/") else [f"--root={self.root}"]

    def _dpkg(self) -> list[str]:
        """For a folder: without chroot, and without being root."""
        if self.root == Path("/"):
            return ["dpkg"]
        return ["dpkg", f"--root={self.root}", "--force-not-root", "--force-script-chrootless"]

    @staticmethod
    def _apt() -> list[str]:
        """Downgrades are allowed here, for versions are exact; plan.check_plan() refuses what no document pins."""
        options = ["-q", "--yes", "--no-remove", "--no-install-recommends", "--allow-downgrades"]
        conffiles = [part for option in _CONFFILES for part in ("-o", f"DPkg::Options::={option}")]
        return ["apt-get", *options, "-o", "Dpkg::Use-Pty=0", *conffiles]

    def _good(self, arguments: list[str], limit_s: float) -> Done:
        done = self.run(arguments, limit_s)
        if done.code:
            raise ApplyError(f"{arguments[0]} refuses: {done.why}")
        return done

    def run(self, arguments: list[str], limit_s: float, *, cwd: Path | None = None, discard: bool = False) -> Done:
        """Run a program, and end it with all it started after `limit_s`; one that is not there ends with 127."""
        environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        if self.apt_config is not None:
            environment["APT_CONFIG"] = str(self.apt_config)
        try:
            process = subprocess.Popen(  # noqa: S603  # no shell, and the names in it have passed the document's check
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if discard else subprocess.PIPE,
                stderr=subprocess.DEVNULL if discard else subprocess.STDOUT,
                env=environment,
                cwd=cwd or "/",
                start_new_session=True,
            )
        except OSError as error:
            return Done(127, f"{arguments[0]}: {error.strerror}")
        said = _Reader(process.stdout)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Done(124, f"{said.text()}\nE: it did not end within {limit_s:.0f} s")
        return Done(code, said.text())


_CONFFILES: Final = ("--force-confdef", "--force-confold")
_HERMETIC: Final = tuple(
    part
    for option in (
        "Dir::Etc::sourcelist=/dev/null",
        "Dir::Etc::sourceparts=/dev/null",
        "Dir::State::lists=/dev/null",
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
    )
    for part in ("-o", option)
)


class _Reader(threading.Thread):
    """Reads to the end of a pipe and keeps the beginning; a daemon that holds the pipe open is not waited for."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._pipe, self._kept = pipe, bytearray()
        self.start()

    def run(self) -> None:
        """See Thread."""
        while self._pipe is not None and (piece := os.read(self._pipe.fileno(), 65_536)):
            self._kept += piece[: MAX_OUTPUT_BYTES - len(self._kept)]
        if self._pipe is not None:
            self._pipe.close()

    def text(self) -> str:
        """What was said so far."""
        self.join(timeout=2.0)
        return bytes(self._kept).decode(errors="replace")
