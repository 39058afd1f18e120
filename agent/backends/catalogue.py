"""What simulated sites are made of: hardware sizes, workloads, and versions with a believable spread."""

import re
from collections.abc import Iterable
from hashlib import sha256
from random import Random
from typing import Final, NamedTuple

from agent import __version__
from agent.backends.curves import Profile
from agent.protocol import Component

GIB: Final = 1 << 30
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Hardware(NamedTuple):
    """Size of a site's machines together, and their electrical and thermal character."""

    cpu_count: int
    mem_total_bytes: int
    disk_total_bytes: int
    idle_watts: float
    busy_watts: float
    ambient_celsius: float


class WorkloadKind(NamedTuple):
    """A workload's part of the CPU demand at the busiest hour, and its memory."""

    name: str
    versions: tuple[str, ...]
    cpu_ratio: float
    mem_bytes: int


def _kind(name: str, versions: str, cpu_ratio: float, mem_gib: float) -> WorkloadKind:
    return WorkloadKind(name, tuple(versions.split()), cpu_ratio, int(mem_gib * GIB))


# Versions from the newest down.
_POS = _kind("pos", "4.2.1 4.2.0 4.1.7", 0.14, 1.6)
_SYNC = _kind("inventory-sync", "2.9.4 2.9.3 2.8.11", 0.08, 0.8)
_PRINTER = _kind("label-printer", "1.6.0 1.5.2", 0.02, 0.2)
_BROKER = _kind("mqtt-broker", "2.0.20 2.0.18", 0.05, 0.3)
_VISION = _kind("vision-qc", "7.3.2 7.3.1 7.1.0", 0.30, 6.5)
_DATABASE = _kind("edge-db", "17.6 17.5 16.9", 0.09, 4.0)
_TELEMETRY = _kind("telemetry", "0.131.0 0.128.0", 0.03, 0.4)
_GATEWAY = _kind("opcua-gateway", "3.4.0 3.3.5", 0.06, 0.5)
_VEHICLES = _kind("agv-dispatch", "5.1.3 5.1.2", 0.10, 1.2)
_CHECKOUT = _kind("self-checkout", "3.0.8 3.0.7 2.9.9", 0.10, 1.1)
_PRICES = _kind("price-tags", "1.12.0 1.11.4", 0.02, 0.3)
_DOCKS = _kind("dock-scheduler", "2.2.0 2.1.6", 0.04, 0.6)

WORKLOADS: Final[dict[Profile, tuple[WorkloadKind, ...]]] = {
    "shop": (_POS, _SYNC, _PRINTER, _DATABASE, _TELEMETRY, _CHECKOUT, _PRICES, _BROKER),
    "factory": (_VISION, _BROKER, _DATABASE, _GATEWAY, _TELEMETRY, _PRINTER, _VEHICLES, _SYNC),
    "warehouse": (_SYNC, _PRINTER, _BROKER, _DATABASE, _VEHICLES, _DOCKS, _TELEMETRY, _VISION),
}
MAX_WORKLOADS: Final = 8

_PLATFORMS: Final = (  # kernel, Debian release, and in how many of 100 sites
    ("6.1.0-41-amd64", "12.12", 88),
    ("6.1.0-40-amd64", "12.12", 7),
    ("6.1.0-35-amd64", "12.11", 3),
    ("5.10.0-36-amd64", "11.11", 2),
)
_AGENTS: Final = ((__version__, 90), ("0.0.9", 8), ("0.0.8", 2))
_CONFIGS: Final = (("2026.11.2", 85), ("2026.11.1", 12), ("2026.9.4", 3))
_SIZES: Final[dict[Profile, tuple[tuple[int, int, int], ...]]] = {  # cores, GiB of memory, GB of disk
    "shop": ((8, 32, 960), (8, 64, 960), (16, 64, 1_920)),
    "factory": ((32, 128, 3_840), (48, 256, 7_680), (64, 256, 7_680)),
    "warehouse": ((16, 64, 1_920), (24, 128, 3_840), (32, 128, 3_840)),
}


def choose_hardware(profile: Profile, random: Random) -> Hardware:
    """The machines of a site."""
    cores, mem_gib, disk_gb = random.choice(_SIZES[profile])
    return Hardware(
        cpu_count=cores,
        mem_total_bytes=mem_gib * GIB,
        disk_total_bytes=disk_gb * 10**9,
        idle_watts=35 + 2.2 * cores,
        busy_watts=60 + 6.5 * cores,
        ambient_celsius=random.uniform(24, 33) + (4 if profile == "factory" else 0),
    )


def choose_components(kinds: tuple[WorkloadKind, ...], random: Random) -> tuple[Component, ...]:
    """Versions of a site: most sites have the newest of everything, a few are behind."""
    kernel, release, _ = random.choices(_PLATFORMS, weights=[share for *_, share in _PLATFORMS])[0]
    agent = random.choices([v for v, _ in _AGENTS], weights=[share for _, share in _AGENTS])[0]
    config = random.choices([v for v, _ in _CONFIGS], weights=[share for _, share in _CONFIGS])[0]
    workloads = (
        make_component(
            "workload", kind.name, random.choices(kind.versions, weights=(96, 3, 1)[: len(kind.versions)])[0]
        )
        for kind in kinds
    )
    return (
        Component("kernel", "linux", kernel),
        Component("os", "debian", release),
        Component("agent", "archipelago-agent", agent),
        make_component("config", "site-config", config),
        *workloads,
    )


def image_bytes(components: Iterable[Component]) -> dict[str, int]:
    """What the images of simulated workloads take on the disk, by digest: 60 MB to 1.1 GB, told by the digest."""
    digests = (c.digest for c in components if c.kind == "workload" and c.digest and _DIGEST.fullmatch(c.digest))
    return {digest: 60_000_000 + int(sha256(digest.encode()).hexdigest()[:8], 16) // 4 for digest in digests}


def make_component(kind: str, name: str, version: str) -> Component:
    """A component of that version; what is pulled by digest gets the digest of its name and version."""
    digest = None
    if kind in {"workload", "config"}:
        digest = "sha256:" + sha256(f"{name}:{version}".encode()).hexdigest()
    return Component(kind, name, version, digest)  # type: ignore[arg-type]  # callers pass a kind they found
