import socket
from pathlib import Path

import pytest

from agent.engine.container import creation, spec_digest
from agent.engine.errors import EngineError
from agent.engine.settings import EngineSettings
from agent.protocol.desired import HealthCheck, Limits, Mount, PublishedPort, WorkloadConfig
from tests.agent.engine.desired import make_workload

IMAGE = "registry.example.org/pos:4.2@sha256:" + "a" * 64


def test_the_whole_request() -> None:
    workload = make_workload(
        IMAGE,
        "4.2",
        config_sha256="sha256:" + "c" * 64,
        limits=Limits(cpus=1.5, mem_bytes=1 << 30),
        health=HealthCheck(command=("/bin/check",), interval_s=10, timeout_s=0.5, retries=4, grace_s=60),
    )
    config = WorkloadConfig(
        command=("serve",),
        env={"B": "2", "A": "1"},
        ports=(
            PublishedPort(host=8080, container=80),
            PublishedPort(host=8081, container=80, address="127.0.0.1"),
            PublishedPort(host=53, container=53, protocol="udp", address="::1"),
        ),
        mounts=(Mount(target="/data", volume="data"),),
        user="1000",
        read_only=True,
    )
    assert creation(workload, config, EngineSettings(), "the image before") == {
        "Image": "registry.example.org/pos@sha256:" + "a" * 64,
        "Labels": {
            "archipelago.workload": "pos",
            "archipelago.spec": spec_digest(workload),
            "archipelago.image": IMAGE,
            "archipelago.version": "4.2",
            "archipelago.config": "sha256:" + "c" * 64,
            "archipelago.before": "the image before",
        },
        "Cmd": ["serve"],
        "User": "1000",
        "Env": ["A=1", "B=2"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "StopTimeout": 10,
        "Healthcheck": {
            "Test": ["CMD", "/bin/check"],
            "Interval": 10_000_000_000,
            "Timeout": 500_000_000,
            "Retries": 4,
            "StartPeriod": 60_000_000_000,
        },
        "HostConfig": {
            "NetworkMode": "bridge",
            "PortBindings": {
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
                "53/udp": [{"HostIp": "::1", "HostPort": "53"}],
            },
            "Mounts": [{"Type": "volume", "Source": "archipelago-pos.data", "Target": "/data", "ReadOnly": False}],
            "ReadonlyRootfs": True,
            "Privileged": False,
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 2_048,
            "RestartPolicy": {"Name": "unless-stopped"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "NanoCpus": 1_500_000_000,
            "Memory": 1 << 30,
        },
    }


def test_what_is_not_said_is_left_to_the_image() -> None:
    body = creation(make_workload(IMAGE), WorkloadConfig(network="host"), EngineSettings(), "")
    assert not {"Cmd", "User", "Healthcheck"} & body.keys()
    assert not {"NanoCpus", "Memory", "CapAdd", "Devices", "Binds"} & body["HostConfig"].keys()
    assert body["HostConfig"]["NetworkMode"] == "host"


class TestFolders:
    def mounted(self, folder: Path, *allowed: Path, engine: Path = Path("/nowhere/engine.sock")) -> str:
        config = WorkloadConfig(mounts=(Mount(target="/x", folder=str(folder)),))
        settings = EngineSettings(engine, folders=allowed)
        return str(creation(make_workload(IMAGE), config, settings, "")["HostConfig"]["Mounts"][0]["Source"])

    def test_are_those_that_the_site_allows_and_what_is_below(self, tmp_path: Path) -> None:
        (tmp_path / "tills" / "one").mkdir(parents=True)
        (tmp_path / "tills-secret").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "tills")
        for folder in (tmp_path / "tills", tmp_path / "tills" / "one", tmp_path / "link"):
            assert self.mounted(folder, tmp_path / "tills") == str(folder.resolve())
        outside = tmp_path / "tills" / "out"
        outside.symlink_to("/etc")
        for folder in (tmp_path, tmp_path / "tills-secret", tmp_path / "tills" / ".." / "tills-secret", outside):
            with pytest.raises(EngineError, match="the site does not allow"):
                self.mounted(folder, tmp_path / "tills")

    def test_must_be_there(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for name in ("none", "file"):
            with pytest.raises(EngineError, match=r"is no folder$"):
                self.mounted(tmp_path / name, tmp_path)

    def test_never_hand_over_the_engine(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "engine.sock"))
        with pytest.raises(EngineError, match="holds the engine's socket"):
            self.mounted(tmp_path, tmp_path, engine=tmp_path / "engine.sock")


def test_an_address_must_be_one() -> None:
    config = WorkloadConfig(ports=(PublishedPort(host=80, container=80, address="0.0.0.0:80/--x"),))
    with pytest.raises(EngineError, match=r"is no address to publish a port at$"):
        creation(make_workload(IMAGE), config, EngineSettings(), "")
