"""Faults of the engine and of registries, each really done."""

import os
import threading
from pathlib import Path

import pytest

from agent.apply.part import ApplyError
from agent.engine.client import Engine
from agent.engine.settings import Credentials, EngineSettings
from agent.engine.workloads import Workloads
from agent.protocol.desired import Mount
from tests.agent.engine.conftest import RUN, Images
from tests.agent.engine.desired import HEALTH, Blobs, apply, make_document, make_workload
from tests.agent.engine.door import Door
from tests.engine import Podman, podman_at, registry_at
from tests.registry import PASSWORD, Registry

CURRENT = "archipelago-pos"
MIB = 1 << 20


def start_a(part: Workloads, images: Images, blobs: Blobs) -> None:
    config = blobs.add(mounts=(Mount(target="/data", volume="data"),))
    assert apply(part, make_document(make_workload(images.a, health=HEALTH, config_sha256=config)), blobs) == []


def refused(part: Workloads, image: str, blobs: Blobs) -> ApplyError:
    """Why the image cannot be staged."""
    document = make_document(make_workload(image, "X"), version=2)
    (change,) = part.changes(document, blobs)
    with pytest.raises(ApplyError) as caught:
        part.stage(document, change, blobs)
    return caught.value


def assert_a_runs(podman: Podman, images: Images) -> None:
    assert podman.names() == podman.all_names() == {CURRENT}
    assert podman.inspect(CURRENT)["ImageName"] == images.a


def test_a_registry_that_dies_in_mid_pull(
    part: Workloads, podman: Podman, images: Images, ports: tuple[int, ...], blobs: Blobs
) -> None:
    start_a(part, images, blobs)
    with registry_at(ports[1]) as registry:
        files = {"etc/version": b"big", "healthy": b"", "etc/noise": os.urandom(16 * MIB)}
        pushed = registry.push("big", files, RUN)
        image = pushed.replace(registry.host, f"127.0.0.1:{ports[2]}")
        door = Door(ports[2], registry.port, bytes_per_s=4 * MIB)
        errors: list[ApplyError] = []
        puller = threading.Thread(target=lambda: errors.append(refused(part, image, blobs)))
        puller.start()
        try:
            assert door.wait_for(MIB)
            registry.kill()
            door.close()
            puller.join(60)
            assert not puller.is_alive()
        finally:
            door.close()
        assert [error.transient for error in errors] == [True]
        assert "cannot be pulled" in str(errors[0])
        assert_a_runs(podman, images)
        registry.start()
        door = Door(ports[2], registry.port)
        try:
            assert apply(part, make_document(make_workload(image, "big", health=HEALTH)), blobs) == []
        finally:
            door.close()
    assert podman.inspect(CURRENT)["ImageName"] == image


def test_a_pull_in_which_nothing_moves(
    engine: Engine, podman: Podman, images: Images, ports: tuple[int, ...], blobs: Blobs
) -> None:
    part = Workloads(engine, EngineSettings(podman.socket, pull_idle_s=0.5))
    with registry_at(ports[1]) as registry:
        pushed = registry.push("silent", {}, RUN)
        door = Door(ports[2], registry.port, bytes_per_s=0)
        try:
            error = refused(part, pushed.replace(registry.host, f"127.0.0.1:{ports[2]}"), blobs)
        finally:
            door.close()
    assert (str(error), error.transient) == ("the engine did not answer within 0.5 s", True)


def test_an_engine_that_dies_in_mid_pull(
    part: Workloads, podman: Podman, images: Images, ports: tuple[int, ...], blobs: Blobs
) -> None:
    start_a(part, images, blobs)
    with registry_at(ports[1]) as registry:
        pushed = registry.push("big", {"etc/noise": os.urandom(16 * MIB)}, RUN)
        image = pushed.replace(registry.host, f"127.0.0.1:{ports[2]}")
        door = Door(ports[2], registry.port, bytes_per_s=4 * MIB)
        errors: list[ApplyError] = []
        puller = threading.Thread(target=lambda: errors.append(refused(part, image, blobs)))
        puller.start()
        try:
            assert door.wait_for(MIB)
            podman.kill()
            puller.join(20)
            assert not puller.is_alive()
        finally:
            door.close()
        assert [error.transient for error in errors] == [True]
        assert str(errors[0]).startswith("the engine broke off: ")
        podman.start()
        assert_a_runs(podman, images)
        door = Door(ports[2], registry.port)
        try:
            assert apply(part, make_document(make_workload(image, "big")), blobs) == []
        finally:
            door.close()


def test_a_pull_without_end(
    engine: Engine, podman: Podman, images: Images, ports: tuple[int, ...], blobs: Blobs
) -> None:
    part = Workloads(engine, EngineSettings(podman.socket, pull_limit_s=0.0))
    error = refused(part, images.a, blobs)
    assert str(error).endswith(" cannot be pulled: it takes more than 0 s")
    assert error.transient


def test_a_digest_that_does_not_exist(part: Workloads, podman: Podman, images: Images, blobs: Blobs) -> None:
    start_a(part, images, blobs)
    error = refused(part, images.a.partition("@")[0] + "@sha256:" + "0" * 64, blobs)
    assert str(error).startswith(f"the registry {images.a.partition('/')[0]} has no such image: ")
    assert not error.transient
    assert_a_runs(podman, images)


def test_credentials(engine: Engine, podman: Podman, ports: tuple[int, ...], blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "password"

    def part_as(username: str, password: str) -> Workloads:
        file.write_text(f"{password}\n")
        return Workloads(engine, EngineSettings(podman.socket, {registry.host: Credentials(username, file)}))

    with registry_at(ports[1], credentials=True) as registry:
        image = registry.push("private", {"healthy": b""}, RUN)
        errors = [refused(Workloads(engine, EngineSettings(podman.socket)), image, blobs)]
        for username, password in (("site", "wrong"), ("nobody", PASSWORD)):
            errors.append(refused(part_as(username, password), image, blobs))
        for error in errors:
            assert str(error).startswith(f"the registry {registry.host} ")
            assert not error.transient
            assert PASSWORD not in str(error)
        assert apply(part_as("site", PASSWORD), make_document(make_workload(image)), blobs) == []
    file.unlink()
    part = Workloads(engine, EngineSettings(podman.socket, {registry.host: Credentials("site", file)}))
    error = refused(part, image[:-1] + ("0" if image[-1] != "0" else "1"), blobs)
    assert str(error) == f"the password of a registry cannot be read from {file}: No such file or directory"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk(registry: Registry, images: Images, ports: tuple[int, ...], blobs: Blobs) -> None:
    huge = registry.push("huge", {"etc/noise": os.urandom(32 * MIB)}, RUN)
    with podman_at(ports, root_bytes=24 * MIB) as podman:
        part = Workloads(Engine(podman.socket), EngineSettings(podman.socket))
        start_a(part, images, blobs)
        error = refused(part, huge, blobs)
        assert str(error).startswith("the disk of the engine is full: ")
        assert_a_runs(podman, images)
        # And it goes on from there with what has room.
        assert apply(part, make_document(make_workload(images.b, "B")), blobs) == []


def test_an_engine_that_is_stopped_and_started(part: Workloads, podman: Podman, images: Images, blobs: Blobs) -> None:
    start_a(part, images, blobs)
    document = make_document(make_workload(images.b, "B", health=HEALTH), version=2)
    (change,) = part.changes(document, blobs)
    part.stage(document, change, blobs)
    podman.stop()
    for step in (
        lambda: part.changes(document, blobs),
        lambda: part.stage(document, change, blobs),
        lambda: part.switch(document, change, blobs),
        lambda: part.check(document, change),
        lambda: part.keep(document, change),
        lambda: part.restore(document, change),
    ):
        with pytest.raises(ApplyError) as caught:
            step()
        assert str(caught.value) == f"the engine's socket {podman.socket} is not there"
        assert caught.value.transient
    assert_a_runs(podman, images)
    podman.start()
    assert apply(part, document, blobs) == []
    assert podman.inspect(CURRENT)["ImageName"] == images.b


def test_a_reboot_of_the_machine(part: Workloads, podman: Podman, images: Images, blobs: Blobs) -> None:
    start_a(part, images, blobs)
    document = make_document(make_workload(images.b, "B", health=HEALTH), version=2)
    (change,) = part.changes(document, blobs)
    part.stage(document, change, blobs)
    part.switch(document, change, blobs)
    podman.run("run", "--detach", "--network", "none", "--name", "foreign", images.a)
    podman.reboot()
    assert podman.names() == set()
    for _ in range(2):
        part.start_all()
        assert podman.names() == {CURRENT}
    assert podman.inspect(CURRENT)["ImageName"] == images.b
    assert podman.all_names() == {CURRENT, f"{CURRENT}.before", "foreign"}
    part.restore(document, change)
    assert podman.names() == {CURRENT}
    assert podman.inspect(CURRENT)["ImageName"] == images.a


def test_a_tag_that_was_moved_fools_nobody(part: Workloads, podman: Podman, registry: Registry, blobs: Blobs) -> None:
    old = registry.push("moving", {"etc/version": b"old"}, RUN, tag="stable")
    new = registry.push("moving", {"etc/version": b"new"}, RUN, tag="stable")
    assert old != new
    image = old.replace("@", ":stable@")
    assert apply(part, make_document(make_workload(image)), blobs) == []
    assert podman.inspect(CURRENT)["ImageDigest"] == old.partition("@")[2]
    assert podman.run("exec", CURRENT, "/bin/cat", "/etc/version") == "old"


def test_what_cannot_be_started_leaves_the_old_one_running(
    part: Workloads, podman: Podman, images: Images, blobs: Blobs
) -> None:
    start_a(part, images, blobs)
    config = blobs.add(command=("/no/such/program",))
    (failure,) = apply(part, make_document(make_workload(images.b, "B", config_sha256=config), version=2), blobs)
    assert "no such file" in failure
    assert_a_runs(podman, images)
