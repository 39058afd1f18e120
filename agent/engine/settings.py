"""What the site itself says of its container engine; no document can say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are at a registry; the password is the first line of a file, read anew for every pull."""

    username: str
    password_file: Path


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where the engine is, and what a document may ask of it.

    `registries` maps a registry (`registry.example.org:5000`; `docker.io` for names without one) to credentials.
    `folders` are those of the machine that may be mounted, they and all below them. Every `interval_s` the engine is
    asked what runs; a pull in which nothing moves for `pull_idle_s`, or that takes `pull_limit_s`, has failed.
    """

    socket: Path = Path("/var/run/docker.sock")
    registries: Mapping[str, Credentials] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    interval_s: float = 5.0
    pull_idle_s: float = 120.0
    pull_limit_s: float = 3_600.0
