"""A workload of a document as a container of the engine: its names, its labels, and the request that makes it."""

import ipaddress
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.engine.errors import EngineError
from agent.engine.images import parse_reference
from agent.engine.settings import EngineSettings
from agent.protocol.desired import DesiredWorkload, HealthCheck, Mount, WorkloadConfig, encode_plain

# The label that makes a container Archipelago's; nothing without it is ever touched.
WORKLOAD: Final = "archipelago.workload"
SPEC: Final = "archipelago.spec"
IMAGE: Final = "archipelago.image"
VERSION: Final = "archipelago.version"
CONFIG: Final = "archipelago.config"
BEFORE: Final = "archipelago.before"  # the image that ran before, kept for a while
STOP_S: Final = 10
_PIDS: Final = 2_048
_LOGS: Final = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def current_name(workload: str) -> str:
    """The name of the container that a workload runs in."""
    return f"archipelago-{workload}"


def before_name(workload: str) -> str:
    """The name under which its predecessor is kept until the new one is to stay."""
    return f"archipelago-{workload}.before"


def spec_digest(workload: DesiredWorkload) -> str:
    """What a container was made from; one with another digest is replaced. How long it settles makes no difference."""
    return "sha256:" + sha256(encode_plain(msgspec.structs.replace(workload, settle_s=0.0))).hexdigest()


def labels_of(workload: DesiredWorkload, image_before: str) -> dict[str, str]:
    """The labels of its container."""
    return {
        WORKLOAD: workload.name,
        SPEC: spec_digest(workload),
        IMAGE: workload.image,
        VERSION: workload.version or "",
        CONFIG: workload.config_sha256 or "",
        BEFORE: image_before,
    }


def creation(
    workload: DesiredWorkload, config: WorkloadConfig, settings: EngineSettings, image_before: str
) -> dict[str, Any]:
    """The body of `/containers/create`. Raises EngineError for what the site does not allow."""
    body: dict[str, Any] = {
        "Image": parse_reference(workload.image).canonical,
        "Labels": labels_of(workload, image_before),
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "ExposedPorts": {f"{port.container}/{port.protocol}": {} for port in config.ports},
        "StopTimeout": STOP_S,
        "HostConfig": _host(workload, config, settings),
    }
    if config.command is not None:
        body["Cmd"] = list(config.command)
    if config.user:
        body["User"] = config.user
    if workload.health is not None:
        body["Healthcheck"] = _health(workload.health)
    return body


def _host(workload: DesiredWorkload, config: WorkloadConfig, settings: EngineSettings) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": config.network,
        "PortBindings": _ports(config),
        "Mounts": [_mount(workload.name, mount, settings) for mount in config.mounts],
        "ReadonlyRootfs": config.read_only,
        "Privileged": False,
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": _PIDS,
        "RestartPolicy": {"Name": "unless-stopped"},
        "LogConfig": _LOGS,
    }
    if workload.limits.cpus is not None:
        host["NanoCpus"] = round(workload.limits.cpus * 1e9)
    if workload.limits.mem_bytes is not None:
        host["Memory"] = workload.limits.mem_bytes
    return host


def _health(health: HealthCheck) -> dict[str, Any]:
    return {
        "Test": ["CMD", *health.command],
        "Interval": round(health.interval_s * 1e9),
        "Timeout": round(health.timeout_s * 1e9),
        "Retries": health.retries,
        "StartPeriod": round(health.grace_s * 1e9),
    }


def _ports(config: WorkloadConfig) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in config.ports:
        try:
            address = str(ipaddress.ip_address(port.address)) if port.address else ""
        except ValueError:
            raise EngineError(f"{port.address!r} is no address to publish a port at") from None
        binding = {"HostIp": address, "HostPort": str(port.host)}
        bindings.setdefault(f"{port.container}/{port.protocol}", []).append(binding)
    return bindings


def _mount(workload: str, mount: Mount, settings: EngineSettings) -> dict[str, Any]:
    """A named volume belongs to its workload, and is never removed by us: it is the site's data."""
    said: dict[str, Any] = {"Target": mount.target, "ReadOnly": mount.read_only}
    if mount.folder is None:
        return said | {"Type": "volume", "Source": f"archipelago-{workload}.{mount.volume}"}
    return said | {"Type": "bind", "Source": _allowed(mount.folder, settings)}


def _allowed(folder: str, settings: EngineSettings) -> str:
    """The folder with its links followed, if the site allows it. Raises EngineError."""
    real = Path(os.path.realpath(folder))
    if not any(real.is_relative_to(os.path.realpath(root)) for root in settings.folders):
        raise EngineError(f"the site does not allow {folder} to be mounted")
    if not real.is_dir():
        raise EngineError(f"{folder}, which is to be mounted, is no folder")
    if Path(os.path.realpath(settings.socket)).is_relative_to(real):
        raise EngineError(f"{folder} holds the engine's socket, which no workload is given")
    return str(real)
