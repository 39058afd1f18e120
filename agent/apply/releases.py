"""Releases of the agent beside each other: a folder each; `current` names one, `trial` says that it is to be proven.

The folder belongs to the agent's user. A release is a virtual environment with the agent alone; what it needs comes
from the base environment, which is root's. deploy/agent/launch starts `current`, and undoes a trial that fails: it
reads what begin_trial() writes, and writes what reverted() reads.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from agent.apply.part import ApplyError

CURRENT: Final = "current"
TRIAL: Final = "trial"
REVERTED: Final = "reverted"
STARTS: Final = "starts"
_COMPLETE: Final = "complete"
_VERSION: Final = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,63}")
PROGRAM_S: Final = 300.0


class Releases:
    """The releases in a folder. `base` is the Python whose packages they share. All raise ApplyError."""

    def __init__(self, folder: Path, base: Path) -> None:
        self._folder, self._base = folder, base

    @property
    def current(self) -> str:
        """The release that is started next; empty where there is none, so nothing can be replaced."""
        try:
            return os.readlink(self._folder / CURRENT)
        except OSError:
            return ""

    def install(self, version: str, wheel: bytes) -> None:
        """Put a wheel beside the others, whole or not at all; what it needs must be installed already."""
        _check_version(version)
        home = self._folder / version
        if (home / _COMPLETE).exists():
            return
        try:
            shutil.rmtree(home, ignore_errors=True)  # cut short when we were killed
            self._build(home, version, wheel)
            _sync_tree(home)
            (home / _COMPLETE).touch()
            _sync(home)
        except OSError as error:
            raise ApplyError(f"agent {version} cannot be installed: {error.strerror or error}") from None

    def _build(self, home: Path, version: str, wheel: bytes) -> None:
        self._run("venv", [str(self._base), "-m", "venv", "--without-pip", str(home)])
        path = home / f"archipelago_agent-{version}-py3-none-any.whl"
        path.write_bytes(wheel)
        python = home / "bin" / "python"
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        shared = self._run("base", [str(self._base), "-c", where]).strip()
        own = self._run("venv", [str(python), "-c", where]).strip()
        (Path(own) / "base.pth").write_text(f"{shared}\n")
        pip = [str(self._base), "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(python), "install"]
        options = ["--no-index", "--no-cache-dir", "--no-compile"]
        self._run("what it needs must be installed first", [*pip, *options, "--dry-run", str(path)])
        self._run("pip", [*pip, *options, "--no-deps", "--ignore-installed", str(path)])
        path.unlink()
        found = self._run("it does not start", [str(python), "-P", "-m", "agent", "--version"]).split()
        if found[-1:] != [version]:
            raise ApplyError(f"the wheel holds agent {' '.join(found[-1:])}, not {version}")

    @staticmethod
    def _run(what: str, command: list[str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603  # no shell, and the version has been checked
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PROGRAM_S
            )
        except subprocess.TimeoutExpired:
            raise ApplyError(f"the agent cannot be installed: {what}: it takes too long") from None
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            lines = errors or [done.stderr[-200:]]
            said = " ".join(lines[-1].removeprefix("ERROR: ").split())
            raise ApplyError(f"the agent cannot be installed: {what}: {said}")
        return done.stdout

    # Switching ------------------------------------------------------------------------------------------------
    def use(self, version: str) -> None:
        """Start that release from now on. It replaces the link at once."""
        _check_version(version)
        beside = self._folder / f"{CURRENT}.new"
        try:
            beside.unlink(missing_ok=True)
            beside.symlink_to(version)
            beside.replace(self._folder / CURRENT)
            _sync(self._folder)
        except OSError as error:
            raise ApplyError(f"agent {version} cannot be put in place: {error.strerror or error}") from None

    def begin_trial(self, version: str, seconds: int) -> None:
        """Start that release from now on, for so long unless prove() is called by then."""
        old = self.current
        if not old or not (self._folder / version / _COMPLETE).exists():
            raise ApplyError(f"agent {version} was not staged")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        until = int(float(Path("/proc/uptime").read_text().split()[0])) + seconds
        lines = {"new": version, "old": old, "boot": boot, "until": until, "seconds": seconds}
        try:
            (self._folder / STARTS).unlink(missing_ok=True)
            beside = self._folder / f"{TRIAL}.new"
            with beside.open("w") as file:
                file.writelines(f"{name}={value}\n" for name, value in lines.items())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._folder / TRIAL)
        except OSError as error:
            raise ApplyError(f"agent {version} cannot be put in place: {error.strerror or error}") from None
        self.use(version)

    def prove(self) -> None:
        """The current release is well: the trial is over."""
        self._forget(TRIAL, STARTS)

    def reverted(self, version: str) -> str:
        """Why the launcher went back from that release; empty where it did not."""
        try:
            found, _, why = (self._folder / REVERTED).read_text().partition("\n")
        except OSError:
            return ""
        return (why.strip() or "it failed") if found == version else ""

    def prune(self, stay: set[str]) -> None:
        """Remove all releases but those and the current one, and what was said of failed ones."""
        self._forget(REVERTED)
        for path in self._folder.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name not in {self.current, *stay}:
                (path / _COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)

    def _forget(self, *names: str) -> None:
        try:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)
            _sync(self._folder)
        except OSError as error:
            raise ApplyError(f"{self._folder} cannot be written: {error.strerror or error}") from None


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise ApplyError(f"{version!r} is no version of the agent")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    """Let all that lies there survive a power loss."""
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        _sync(Path(parent))


def main(arguments: list[str]) -> int:
    """For install.sh: `FOLDER VERSION`, the wheel on standard input; it becomes current, without a trial."""
    folder, version = Path(arguments[0]), arguments[1]
    releases = Releases(folder, Path(sys.executable))
    try:
        shutil.rmtree(folder / version, ignore_errors=True)  # the same version may have been built anew
        releases.install(version, sys.stdin.buffer.read())
        releases.prove()
        releases.use(version)
        releases.prune(set())
    except ApplyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
