"""A real container engine and real registries for tests: Debian's podman, runc and docker-registry, on loopback.

`podman_at` and `registry_at` give one each and leave nothing behind: no process, no mount, no container. Where the
machine cannot run containers, `need_containers` skips loudly; with CI set in the environment that is a failure.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.engine.client import Engine
from agent.engine.errors import EngineError
from fleet.stack.process import Program, spawn, stop
from tests.agent.wire import free_port
from tests.registry import Registry, make_layer

PROGRAMS = ("podman", "conmon", "runc", "docker-registry", "busybox")
_CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"""


# The engine -------------------------------------------------------------------------------------------------
class Podman:
    """One engine with a storage of its own; `socket` answers while it runs."""

    def __init__(self, folder: Path, root: Path, ports: Sequence[int]) -> None:
        """`folder` is short (a socket is in it), `root` holds images; `ports` are those of registries without TLS."""
        self.folder, self.root, self.socket = folder, root, folder / "engine.sock"
        (folder / "containers.conf").write_text(_CONTAINERS)
        insecure = "".join(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n' for port in ports)
        (folder / "registries.conf").write_text(insecure)
        self._argv = (
            *("podman", "--root", str(root), "--runroot", str(folder / "run"), "--tmpdir", str(folder / "tmp")),
            *("--storage-driver", "vfs", "--log-level", "warn"),
        )
        self._environ = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
            "TMPDIR": str(folder),
        }
        self._program = Program(
            "podman",
            (*self._argv, "system", "service", "--time", "0", f"unix://{self.socket}"),
            cwd=folder,
            env=self._environ,
        )
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> Engine:
        """Run, unless it does, and answer. Fails with the engine's own words."""
        if self._child is not None:
            return Engine(self.socket)
        with (self.folder / "log").open("ab") as output:
            self._child = spawn(self._program, output)
        engine = Engine(self.socket)
        until = time.monotonic() + 20
        while True:
            try:
                engine.is_podman  # noqa: B018 - it asks
                return engine
            except EngineError as error:
                if self._child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"podman does not answer: {error}\n{self.log[-2000:]}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the service; containers go on, for each has a monitor of its own."""
        if self._child is not None:
            stop(self._child, self._program)
            self._child = None
        self.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the service at once, as kill -9 does."""
        assert self._child is not None
        self._child.kill()
        self.stop()

    def reboot(self) -> None:
        """What a power loss of the machine leaves of an engine: no process, no mount, and only what is on the disk."""
        pids = [int(pid) for pid in self.run("ps", "--format", "{{.Pid}}").split()]
        ids = self.run("ps", "--quiet", "--no-trunc").split()
        self.kill()
        for pid in [*_processes_of(self.folder), *pids]:  # monitors first, for they would start again what ends
            os.kill(pid, signal.SIGKILL)
        self._kill_rest()
        self._unmount_rest()
        for container in ids:  # what the runtime notes in /run
            subprocess.run(["runc", "delete", "--force", container], check=True, capture_output=True)
        shutil.rmtree(self.folder / "run")
        shutil.rmtree(self.folder / "tmp")
        self.start()

    def run(self, *arguments: str) -> str:
        """What a podman command says. Raises CalledProcessError."""
        done = subprocess.run(
            (*self._argv, *arguments), cwd=self.folder, env=self._environ, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"podman {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine says of a container, in the form of podman itself. Raises RuntimeError for one not there."""
        found: dict[str, Any] = json.loads(self.run("container", "inspect", container))[0]
        return found

    def names(self) -> set[str]:
        """Names of all containers that run."""
        return set(self.run("ps", "--format", "{{.Names}}").split())

    def all_names(self) -> set[str]:
        """Names of all containers, those that do not run too."""
        return set(self.run("ps", "--all", "--format", "{{.Names}}").split())

    def images(self) -> set[str]:
        """Digests of all images."""
        return set(self.run("images", "--no-trunc", "--format", "{{.Digest}}").split())

    def clear(self) -> None:
        """Remove all containers, volumes and images."""
        self.run("rm", "--all", "--force", "--time", "0")
        self.run("volume", "prune", "--force")
        self.run("rmi", "--all", "--force")

    def close(self) -> None:
        """Take everything away. Fails if something of it is left."""
        try:
            self.clear()
        finally:
            self.stop()
            left = [*self._kill_rest(), *self._unmount_rest()]
        assert not left, f"left behind by podman: {left}"

    def _kill_rest(self) -> list[str]:
        """End processes that name our folder, which is nobody else's; they have a moment to end by themselves."""
        until = time.monotonic() + 5
        while (left := _processes_of(self.folder)) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return list(left.values())

    def _unmount_rest(self) -> list[str]:
        """Take mounts away; the storage's own, which stay while the engine is used, are no leftovers."""
        places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        ours = [place for place in places if Path(place).is_relative_to(self.folder) and Path(place) != self.root]
        for place in reversed(ours):
            subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        return [place for place in ours if Path(place) != self.root / "vfs"]


def _processes_of(folder: Path) -> dict[int, str]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{folder}/".encode() in words:
                found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


@contextmanager
def podman_at(ports: Sequence[int] = (), *, root_bytes: int | None = None) -> Iterator[Podman]:
    """A running engine; with `root_bytes` its storage is a disk of that size (only root may do that)."""
    need_containers()
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    root = folder / "root"
    root.mkdir()
    podman = Podman(folder, root, ports)
    try:
        if root_bytes is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={root_bytes}", "tmpfs", str(root)], check=True)
        podman.start()
        try:
            yield podman
        finally:
            podman.close()
    finally:
        if root_bytes is not None:
            subprocess.run(["umount", "--lazy", str(root)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def registry_at(port: int, *, credentials: bool = False) -> Iterator[Registry]:
    """A running registry with a storage of its own."""
    need_containers()
    with tempfile.TemporaryDirectory(prefix="registry-") as folder:
        registry = Registry(Path(folder), port, credentials=credentials)
        try:
            registry.start()
            yield registry
        finally:
            registry.kill()


# Whether it is possible here --------------------------------------------------------------------------------
def need_containers() -> None:
    """Skip the test, or fail it in CI, where this machine cannot run containers; the reason is said."""
    reason = _why_not()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run the tests of the container engine, and cannot: {reason}")
    if reason:
        pytest.skip(f"NO CONTAINERS HERE, the engine is NOT tested: {reason}")


@functools.cache
def _why_not() -> str:
    """Why no container can be run here, found out by running one; empty when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return (
            f"not installed: {', '.join(missing)} (Debian: apt-get install podman runc docker-registry busybox-static)"
        )
    try:
        _try_one()
    except (RuntimeError, OSError, subprocess.SubprocessError, AssertionError, EngineError) as error:
        return f"{' '.join(str(error).split())[:600]} (busybox must be a static one)"
    return ""


def _try_one() -> None:
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    (folder / "root").mkdir()
    (folder / "layer.tar").write_bytes(make_layer({}))
    podman = Podman(folder, folder / "root", ())
    try:
        podman.run("import", str(folder / "layer.tar"), "localhost/probe:1")
        podman.run("run", "--rm", "--network", "none", "--memory", "64m", "localhost/probe:1", "/bin/true")
        podman.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def some_ports(count: int) -> tuple[int, ...]:
    """Ports that are free now."""
    return tuple(free_port() for _ in range(count))
