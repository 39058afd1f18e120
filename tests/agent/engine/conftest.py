"""One registry with images for all tests here, and an engine for each."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.engine.client import Engine
from agent.engine.settings import EngineSettings
from agent.engine.workloads import Workloads
from tests.agent.engine.desired import Blobs
from tests.engine import Podman, podman_at, registry_at, some_ports
from tests.registry import Registry

# Says in the data volume who ran, and runs on.
RUN = ("/bin/sh", "-c", "cat /etc/version >> /data/ran; exec sleep 100000")


@dataclass(frozen=True)
class Images:
    """References by digest: `a` and `b` are well, `c` never becomes healthy, `ends` ends at once."""

    a: str
    b: str
    c: str
    ends: str


@pytest.fixture(scope="session")
def ports() -> tuple[int, ...]:
    """Ports of registries that every engine here may use without TLS; the first is that of `registry`."""
    return some_ports(4)


@pytest.fixture(scope="session")
def registry(ports: tuple[int, ...]) -> Iterator[Registry]:
    with registry_at(ports[0]) as running:
        yield running


@pytest.fixture(scope="session")
def images(registry: Registry) -> Images:
    def push(version: str, *, healthy: bool = True, command: tuple[str, ...] = RUN) -> str:
        files = {"etc/version": version.encode()} | ({"healthy": b""} if healthy else {})
        return registry.push("pos", files, command, tag=version)

    return Images(push("A"), push("B"), push("C", healthy=False), push("D", command=("/bin/sh", "-c", "exit 3")))


@pytest.fixture(scope="session")
def shared_podman(ports: tuple[int, ...]) -> Iterator[Podman]:
    with podman_at(ports) as running:
        yield running


@pytest.fixture
def podman(shared_podman: Podman) -> Iterator[Podman]:
    """An engine that holds nothing."""
    shared_podman.start()
    try:
        yield shared_podman
    finally:
        shared_podman.clear()


@pytest.fixture
def engine(podman: Podman) -> Engine:
    return Engine(podman.socket)


@pytest.fixture
def part(podman: Podman, engine: Engine) -> Workloads:
    return Workloads(engine, EngineSettings(podman.socket))


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()
