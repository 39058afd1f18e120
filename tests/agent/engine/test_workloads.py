"""The part `workload` on a real engine with a real registry."""

from pathlib import Path

import pytest

from agent.apply.part import ApplyError, Change, Check
from agent.engine.client import Engine
from agent.engine.settings import EngineSettings
from agent.engine.workloads import Workloads
from agent.protocol.desired import Limits, Mount
from tests.agent.engine.conftest import Images
from tests.agent.engine.desired import HEALTH, Blobs, apply, make_document, make_workload, settled
from tests.engine import Podman
from tests.registry import Registry

CURRENT, BEFORE = "archipelago-pos", "archipelago-pos.before"


def digest_of(image: str) -> str:
    return image.partition("@")[2]


def short(version: str, image: str) -> str:
    return f"{version} ({digest_of(image)[:19]}…)"


def ran(podman: Podman) -> str:
    """Who has run, by what stands in the data volume."""
    return podman.run("exec", CURRENT, "/bin/cat", "/data/ran")


def with_data(blobs: Blobs) -> str:
    return blobs.add(mounts=(Mount(target="/data", volume="data"),))


class TestApply:
    def test_a_becomes_b_by_digest_and_keeps_its_data(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        config = with_data(blobs)
        first = make_document(make_workload(images.a, "A", health=HEALTH, config_sha256=config))
        assert part.changes(first, blobs) == [Change("workload", "pos", "", short("A", images.a))]
        assert apply(part, first, blobs) == []
        assert part.changes(first, blobs) == []
        second = make_document(make_workload(images.b, "B", health=HEALTH, config_sha256=config), version=2)
        assert part.changes(second, blobs) == [Change("workload", "pos", short("A", images.a), short("B", images.b))]
        assert apply(part, second, blobs) == []
        assert part.changes(second, blobs) == []
        assert podman.all_names() == {CURRENT}
        assert podman.inspect(CURRENT)["ImageName"] == images.b
        assert podman.inspect(CURRENT)["ImageDigest"] == digest_of(images.b)
        assert ran(podman) == "AB"

    def test_a_bad_version_undoes_itself(self, part: Workloads, podman: Podman, images: Images, blobs: Blobs) -> None:
        config = with_data(blobs)
        good = make_document(make_workload(images.a, "A", health=HEALTH, config_sha256=config))
        assert apply(part, good, blobs) == []
        before = podman.inspect(CURRENT)["Id"]
        bad = make_document(make_workload(images.c, "C", health=HEALTH, config_sha256=config), version=2)
        assert apply(part, bad, blobs) == [
            "pos: its health check failed 2 times in a row, at last with status 1: no words"
        ]
        assert podman.all_names() == podman.names() == {CURRENT}
        assert podman.inspect(CURRENT)["Id"] == before
        assert ran(podman) == "ACA"  # the same container, with the same data, once more
        assert part.changes(good, blobs) == []
        assert podman.images() == {digest_of(images.a)}

    def test_a_container_that_ends_at_once_is_broken(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        document = make_document(make_workload(images.ends, "D", settle_s=5.0))
        (failure,) = apply(part, document, blobs)
        assert failure.startswith("pos: it ")
        assert "exit status 3" in failure or "started again" in failure
        assert podman.all_names() == set()
        assert podman.images() == set()

    def test_what_is_no_longer_named_goes_and_can_come_back(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        config = with_data(blobs)
        one = make_document(make_workload(images.a, config_sha256=config))
        assert apply(part, one, blobs) == []
        none = make_document(version=2)
        (change,) = part.changes(none, blobs)
        assert change == Change("workload", "pos", short("A", images.a), "")
        part.stage(none, change, blobs)
        for _ in range(2):
            part.switch(none, change, blobs)
            assert part.check(none, change) == Check("well")
            assert (podman.names(), podman.all_names()) == (set(), {BEFORE})
        part.restore(none, change)
        assert podman.names() == podman.all_names() == {CURRENT}
        assert ran(podman) == "AA"
        assert apply(part, none, blobs) == []
        assert (podman.all_names(), podman.images()) == (set(), set())
        assert "archipelago-pos.data" in podman.run("volume", "ls", "--quiet")

    def test_only_the_version_before_is_kept_of_images(
        self, part: Workloads, podman: Podman, images: Images, registry: Registry, blobs: Blobs
    ) -> None:
        other = registry.push("other", {"etc/version": b"other"}, ("/bin/true",))
        podman.run("pull", "--quiet", other)
        for image in (images.a, images.b, images.ends):
            command = blobs.add(command=("/bin/sleep", "1000"))
            assert apply(part, make_document(make_workload(image, config_sha256=command)), blobs) == []
        assert podman.images() == {digest_of(images.b), digest_of(images.ends), digest_of(other)}
        # Another configuration of the same image: the one before it is still that of the other version.
        again = blobs.add(command=("/bin/sleep", "1001"))
        assert apply(part, make_document(make_workload(images.ends, config_sha256=again)), blobs) == []
        assert podman.images() == {digest_of(images.b), digest_of(images.ends), digest_of(other)}

    def test_an_image_that_somebody_else_pulled_stays(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        podman.run("pull", "--quiet", images.a)
        for image in (images.a, images.b, images.c):
            assert apply(part, make_document(make_workload(image)), blobs) == []
        assert podman.images() == {digest_of(images.a), digest_of(images.b), digest_of(images.c)}

    def test_how_long_it_settles_is_no_change(self, part: Workloads, images: Images, blobs: Blobs) -> None:
        assert apply(part, make_document(make_workload(images.a)), blobs) == []
        assert part.changes(make_document(make_workload(images.a, settle_s=9.0)), blobs) == []
        (change,) = part.changes(make_document(make_workload(images.a, limits=Limits(cpus=1.0))), blobs)
        assert change.name == "pos"


class TestConfiguration:
    def test_is_what_the_container_runs_with(
        self, engine: Engine, podman: Podman, images: Images, blobs: Blobs, tmp_path: Path
    ) -> None:
        part = Workloads(engine, EngineSettings(podman.socket, folders=(tmp_path,)))
        (tmp_path / "tills").mkdir()
        config = blobs.add(
            command=("/bin/sleep", "500"),
            env={"TILL": "7", "GREETING": "two words"},
            mounts=(Mount(target="/tills", folder=str(tmp_path / "tills"), read_only=True),),
            user="1234",
            read_only=True,
        )
        limits = Limits(cpus=0.5, mem_bytes=64 << 20)
        assert apply(part, make_document(make_workload(images.a, limits=limits, config_sha256=config)), blobs) == []
        found = podman.inspect(CURRENT)
        host = found["HostConfig"]
        assert found["Config"]["Cmd"] == ["/bin/sleep", "500"]
        assert {"TILL=7", "GREETING=two words"} <= set(found["Config"]["Env"])
        assert (host["CpuQuota"], host["CpuPeriod"], host["Memory"]) == (50_000, 100_000, 64 << 20)
        assert (host["Privileged"], host["CapAdd"], host["SecurityOpt"]) == (False, [], ["no-new-privileges"])
        assert (host["PidsLimit"], host["ReadonlyRootfs"], host["NetworkMode"]) == (2_048, True, "none")
        assert (host["RestartPolicy"]["Name"], host["LogConfig"]["Size"]) == ("unless-stopped", "10MB")
        assert [(m["Source"], m["Destination"], m["RW"]) for m in found["Mounts"]] == [
            (str(tmp_path / "tills"), "/tills", False)
        ]
        assert "NoNewPrivs:\t1" in podman.run("exec", CURRENT, "/bin/cat", "/proc/1/status")
        assert podman.run("exec", CURRENT, "/bin/id", "-u") == "1234\n"

    def test_that_is_missing_or_not_allowed_is_refused_before_anything_is_done(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        missing = make_document(make_workload(images.a, config_sha256="sha256:" + "0" * 64))
        with pytest.raises(ApplyError, match="is missing"):
            part.changes(missing, blobs)
        folder = blobs.add(mounts=(Mount(target="/host", folder="/etc"),))
        with pytest.raises(ApplyError, match=r"^workload pos: the site does not allow /etc to be mounted$"):
            part.changes(make_document(make_workload(images.a, config_sha256=folder)), blobs)
        assert podman.all_names() == set()


class TestForeign:
    @pytest.mark.parametrize("name", [CURRENT, BEFORE])
    @pytest.mark.parametrize("label", [(), ("--label", "archipelago.workload=other")])
    def test_a_container_of_our_name_is_left_alone(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs, name: str, label: tuple[str, ...]
    ) -> None:
        podman.run("run", "--detach", "--network", "none", "--name", name, *label, images.a)
        before = podman.inspect(name)
        document = make_document(make_workload(images.b, "B"))
        sentence = f"a container {name} is there that is not Archipelago's"
        with pytest.raises(ApplyError, match=sentence):
            part.changes(document, blobs)
        change = Change("workload", "pos", "", "B")
        for step in (
            lambda: part.switch(document, change, blobs),
            lambda: part.check(document, change),
            lambda: part.keep(document, change),
            lambda: part.restore(document, change),
        ):
            with pytest.raises(ApplyError, match=sentence):
                step()
        assert podman.all_names() == {name}
        after = podman.inspect(name)
        assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])

    def test_others_are_none_of_our_business(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        podman.run("run", "--detach", "--network", "none", "--name", "pos", images.a)
        podman.run("run", "-d", "--network", "none", "--name", "x", "--label", "archipelago.workload=x", images.a)
        assert apply(part, make_document(make_workload(images.b, "B")), blobs) == []
        assert apply(part, make_document(version=2), blobs) == []
        assert podman.names() == {"pos", "x"}


class TestSteps:
    def test_each_may_be_done_twice(self, part: Workloads, podman: Podman, images: Images, blobs: Blobs) -> None:
        assert apply(part, make_document(make_workload(images.a)), blobs) == []
        document = make_document(make_workload(images.b, "B"), version=2)
        (change,) = part.changes(document, blobs)
        old = podman.inspect(CURRENT)["Id"]
        part.restore(document, change)  # of what never was
        for _ in range(2):
            part.stage(document, change, blobs)
        assert podman.inspect(CURRENT)["Id"] == old
        part.stage(document, change, blobs)
        ids = set()
        for _ in range(2):
            part.switch(document, change, blobs)
            assert settled(part, document, change) == Check("well")
            ids.add(podman.inspect(CURRENT)["Id"])
        assert len(ids) == 1
        assert part.changes(document, blobs) == [change]  # it is not kept yet
        assert podman.inspect(BEFORE)["Id"] == old
        for _ in range(2):
            part.restore(document, change)
            assert podman.all_names() == podman.names() == {CURRENT}
            assert podman.inspect(CURRENT)["Id"] == old
        part.stage(document, change, blobs)
        part.switch(document, change, blobs)
        for _ in range(2):
            part.keep(document, change)
            assert podman.all_names() == {CURRENT}
        assert podman.inspect(CURRENT)["ImageName"] == images.b

    def test_switching_needs_what_was_staged_and_stops_nothing_without(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        assert apply(part, make_document(make_workload(images.a)), blobs) == []
        document = make_document(make_workload(images.b, "B"), version=2)
        (change,) = part.changes(document, blobs)
        with pytest.raises(ApplyError, match="is not there; it was not staged"):
            part.switch(document, change, blobs)
        assert podman.names() == {CURRENT}

    def test_a_document_between_never_costs_the_one_that_was_kept(
        self, part: Workloads, podman: Podman, images: Images, blobs: Blobs
    ) -> None:
        assert apply(part, make_document(make_workload(images.a)), blobs) == []
        kept = podman.inspect(CURRENT)["Id"]
        for version, image in enumerate((images.b, images.c), start=2):
            document = make_document(make_workload(image), version=version)
            (change,) = part.changes(document, blobs)
            assert change.before == short("A", images.a)
            part.stage(document, change, blobs)
            part.switch(document, change, blobs)
            assert podman.inspect(BEFORE)["Id"] == kept
        part.restore(document, change)
        assert podman.inspect(CURRENT)["Id"] == kept
