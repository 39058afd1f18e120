"""A real container engine and real registries for tests: Debian's podman, runc and docker-registry, on loopback.

`podman_at` and `registry_at` give one each and leave nothing behind: no process, no mount, no container. Where the
machine cannot run containers, `need_containers` skips loudly; with CI set in the environment that is a failure.
"""

import base64
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.engine.client import Engine
from agent.engine.errors import EngineError
from fleet.stack.process import Program, spawn, stop
from tests.agent.wire import free_port

PROGRAMS = ("podman", "conmon", "runc", "docker-registry", "busybox")
PASSWORD = "right"
_HASH = "$2b$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC"  # of PASSWORD, by bcrypt
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
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_COMMANDS = ("sh", "sleep", "test", "cat", "true", "false", "echo", "touch", "id", "wc")


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


# Registries -------------------------------------------------------------------------------------------------
class Registry:
    """A registry without TLS at 127.0.0.1; with `credentials` it wants user `site` and PASSWORD."""

    def __init__(self, folder: Path, port: int, *, credentials: bool = False) -> None:
        self.folder, self.port = folder, port
        self.host = f"127.0.0.1:{port}"
        self._headers = {}
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": True}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": self.host},
        }
        if credentials:
            (folder / "users").write_text(f"site:{_HASH}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
            self._headers = {"Authorization": "Basic " + base64.b64encode(f"site:{PASSWORD}".encode()).decode()}
        (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        self._program = Program(
            "registry", ("docker-registry", "serve", str(folder / "config.yml")), cwd=folder, env=dict(os.environ)
        )
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run, and answer."""
        with (self.folder / "log").open("ab") as output:
            self._child = spawn(self._program, output)
        until = time.monotonic() + 20
        while True:
            try:
                self._ask("GET", "/v2/")
                return
            except OSError:
                if self._child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the registry does not answer: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def push(self, repository: str, files: dict[str, bytes], command: Sequence[str], *, tag: str = "latest") -> str:
        """Put an image of busybox and these files there under a tag; its reference by digest."""
        layer = _layer(files)
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"], "StopSignal": "SIGKILL"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        plain = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(repository, plain, "application/vnd.oci.image.config.v1+json"),
            "layers": [self._blob(repository, layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", body, _MANIFEST)
        return f"{self.host}/{repository}@{_digest(body)}"

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"")["Location"]
        place = place.removeprefix(f"http://{self.host}")
        joint = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{joint}digest={_digest(data)}", data, "application/octet-stream")
        return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}

    def _ask(self, method: str, path: str, data: bytes | None = None, media_type: str = "") -> Any:
        headers = self._headers | ({"Content-Type": media_type} if media_type else {})
        request = urllib.request.Request(f"http://{self.host}{path}", data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers


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


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _layer(files: dict[str, bytes]) -> bytes:
    """An uncompressed layer: busybox, names for its commands, and the files."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for folder in ("bin", "data", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        for name, data in {"bin/busybox": Path(busybox).read_bytes(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name in _COMMANDS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return output.getvalue()


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
    (folder / "layer.tar").write_bytes(_layer({}))
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
