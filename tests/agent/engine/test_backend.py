"""The engine backend: what it says of a real engine, and of one that is away."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.backends.host import HostBackend, read_components
from agent.engine.backend import EngineBackend
from agent.engine.client import Engine
from agent.engine.inventory import InventoryReader
from agent.engine.settings import EngineSettings
from agent.engine.workloads import Workloads
from agent.protocol import Component, Report, Workload, decode_report
from agent.protocol.desired import Limits
from tests.agent.engine.conftest import Images
from tests.agent.engine.desired import HEALTH, Blobs, apply, make_document, make_workload
from tests.agent.factories import SITE
from tests.engine import Podman

INTERVAL_S = 0.2
BUSY = ("/bin/sh", "-c", "while true; do true; done")


@pytest.fixture
def backend(engine: Engine) -> Iterator[EngineBackend]:
    made = EngineBackend(HostBackend(SITE), engine, INTERVAL_S)
    try:
        yield made
    finally:
        made.close()


def await_report(backend: EngineBackend, holds: Callable[[Report], bool], seconds: float = 15) -> Report:
    until = time.monotonic() + seconds
    while not holds(report := decode_report(backend.report(None))):
        assert time.monotonic() < until, report
        time.sleep(0.02)
    return report


def digest_of(image: str) -> str:
    return image.partition("@")[2]


def own(report: Report) -> list[Component]:
    """Components that are not the host's."""
    return [c for c in report.components or () if c.kind in {"workload", "config"}]


def test_names_what_runs_by_the_digest_it_was_pulled_by(
    part: Workloads, backend: EngineBackend, podman: Podman, images: Images, blobs: Blobs
) -> None:
    config = blobs.add(network="none")
    limits = Limits(mem_bytes=64 << 20)
    document = make_document(make_workload(images.a, "4.2", health=HEALTH, limits=limits, config_sha256=config))
    assert apply(part, document, blobs) == []
    podman.run("tag", images.a, "localhost/built:7")
    podman.run("run", "--detach", "--network", "none", "--name", "pos", "localhost/built:7")
    backend.refresh()
    report = await_report(backend, lambda r: len(r.workloads) == 2 and r.workloads[0].cpu_ratio is not None)
    assert own(report) == [
        Component("workload", "pos", "4.2", digest_of(images.a)),
        Component("config", "pos", None, config),
        Component("workload", "pos (not managed)", "7", digest_of(images.a)),
    ]
    size = int(podman.run("image", "inspect", "--format", "{{.Size}}", images.a))
    assert report.image_bytes == {digest_of(images.a): size}
    assert size > 0
    ours, foreign = report.workloads
    assert (ours.name, ours.managed, ours.state, ours.health, ours.restarts) == ("pos", True, "running", "healthy", 0)
    assert ours.mem_limit_bytes == 64 << 20
    assert 0 < (ours.mem_bytes or 0) < 64 << 20
    assert 0 <= (ours.cpu_ratio or 0) <= 0.5
    assert foreign == Workload(name="pos (not managed)", state="running")
    assert report.verdict.state == "up"


def test_a_busy_workload_shows_its_share_of_all_cores(
    part: Workloads, engine: Engine, images: Images, blobs: Blobs
) -> None:
    config = blobs.add(command=BUSY)
    limits = Limits(cpus=0.2)
    assert apply(part, make_document(make_workload(images.a, limits=limits, config_sha256=config)), blobs) == []
    reader = InventoryReader(engine)
    assert reader.read().workloads[0].cpu_ratio is None
    time.sleep(1)
    ratio = reader.read().workloads[0].cpu_ratio
    assert ratio == pytest.approx(0.2 / (os.cpu_count() or 1), rel=0.5)


def test_a_predecessor_that_is_kept_is_no_workload(
    part: Workloads, engine: Engine, images: Images, blobs: Blobs
) -> None:
    assert apply(part, make_document(make_workload(images.a)), blobs) == []
    document = make_document(make_workload(images.b, "B"))
    (change,) = part.changes(document, blobs)
    part.stage(document, change, blobs)
    part.switch(document, change, blobs)
    found = InventoryReader(engine).read()
    assert found.components[0] == Component("workload", "pos", "B", digest_of(images.b))
    assert [(c.kind, c.name) for c in found.components] == [("workload", "pos"), ("config", "pos")]
    assert [(w.name, w.managed) for w in found.workloads] == [("pos", True)]


def test_a_workload_that_is_unwell_degrades_the_verdict(
    part: Workloads, backend: EngineBackend, podman: Podman, images: Images, blobs: Blobs
) -> None:
    assert apply(part, make_document(make_workload(images.a, health=HEALTH)), blobs) == []
    since = await_report(backend, lambda r: bool(r.workloads)).verdict.since
    podman.run("stop", "--time", "0", "archipelago-pos")
    verdict = await_report(backend, lambda r: r.verdict.state != "up").verdict
    assert (verdict.state, verdict.reasons) == ("degraded", ('workload "pos" is exited',))
    assert verdict.since > since
    podman.run("start", "archipelago-pos")
    assert await_report(backend, lambda r: r.verdict.state == "up").verdict.reasons == ()


def test_health_is_looked_at_where_podman_has_nobody_to_do_it(
    part: Workloads, backend: EngineBackend, podman: Podman, images: Images, blobs: Blobs
) -> None:
    assert apply(part, make_document(make_workload(images.a, health=HEALTH)), blobs) == []
    podman.run("exec", "archipelago-pos", "/bin/sh", "-c", "/bin/busybox rm /healthy")
    report = await_report(backend, lambda r: r.verdict.state != "up")
    assert report.verdict.reasons == ('workload "pos" is unhealthy',)


def test_an_engine_that_goes_and_comes_back(
    part: Workloads, backend: EngineBackend, podman: Podman, images: Images, blobs: Blobs
) -> None:
    assert apply(part, make_document(make_workload(images.a)), blobs) == []
    before = await_report(backend, lambda r: bool(r.workloads))
    podman.stop()
    away = await_report(backend, lambda r: r.verdict.state != "up")
    assert (away.verdict.state, away.verdict.reasons) == ("degraded", ("the container engine does not answer",))
    assert away.components == before.components
    assert [w.name for w in away.workloads] == ["pos"]
    podman.start()
    back = await_report(backend, lambda r: r.verdict.state == "up")
    assert back.components == before.components


def test_without_an_engine_the_host_is_reported(tmp_path: Path) -> None:
    backend = EngineBackend(HostBackend(SITE), Engine(tmp_path / "none.sock"), INTERVAL_S)
    try:
        report = decode_report(backend.report(None))
    finally:
        backend.close()
    assert (report.verdict.state, report.verdict.reasons) == ("degraded", ("the container engine does not answer",))
    assert (report.components, report.workloads) == (read_components(), ())


def test_a_change_is_seen_at_once(engine: Engine, images: Images, blobs: Blobs, podman: Podman) -> None:
    backend = EngineBackend(HostBackend(SITE), engine, 600)
    try:
        part = Workloads(engine, EngineSettings(podman.socket), changed=backend.refresh)
        assert apply(part, make_document(make_workload(images.a)), blobs) == []
        found = own(await_report(backend, lambda r: bool(own(r))))
        assert found[0] == Component("workload", "pos", "A", digest_of(images.a))
    finally:
        backend.close()
