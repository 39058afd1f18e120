"""The file that says which sites a simulator plays."""

import ipaddress
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from agent.backends.catalogue import MAX_WORKLOADS
from agent.backends.curves import Profile

MAX_SITES: Final = 10_000
BLOCK: Final = ipaddress.ip_network("127.64.0.0/10")


class FleetFileError(Exception):
    """The fleet file cannot be used; the message says why in one line."""


class SiteSpec(msgspec.Struct, frozen=True):
    """One simulated site. `seed` decides everything that is not said here; `join` is its join string, if it has one.

    With `dial_out` it cannot be dialled, and calls the gateway.
    """

    site: UUID
    address: str
    seed: int
    name: str = ""
    join: str = ""
    dial_out: bool = False
    time_zone: str = "UTC"
    workloads: Annotated[int, Meta(ge=0, le=MAX_WORKLOADS)] = 4
    profile: Profile = "shop"


class _FleetFile(msgspec.Struct):
    sites: list[SiteSpec]


def read_fleet(path: Path) -> list[SiteSpec]:
    """The sites of a fleet file, checked. Raises FleetFileError."""
    try:
        sites = msgspec.json.decode(path.read_bytes(), type=_FleetFile).sites
    except OSError as error:
        raise FleetFileError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise FleetFileError(f"{path} is not a fleet file: {error}") from None
    if not 0 < len(sites) <= MAX_SITES:
        raise FleetFileError(f"{path} has {len(sites)} sites; one process plays 1 to {MAX_SITES}")
    _check(path, sites)
    return sites


def _check(path: Path, sites: list[SiteSpec]) -> None:
    seen: set[object] = set()
    zones: set[str] = set()
    for spec in sites:
        try:
            inside = ipaddress.IPv4Address(spec.address) in BLOCK
        except ValueError:
            inside = False
        if not inside:
            raise FleetFileError(f"{path}: address {spec.address!r} of site {spec.site} is not in {BLOCK}")
        if spec.site in seen or spec.address in seen:
            raise FleetFileError(f"{path}: site {spec.site} or its address {spec.address} is there twice")
        seen |= {spec.site, spec.address}
        zones.add(spec.time_zone)
    for zone in zones:
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError):
            raise FleetFileError(f"{path}: no time zone {zone!r}") from None
