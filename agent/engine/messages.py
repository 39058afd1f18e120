"""The answers of an engine, as far as they are read here; whatever else they hold is passed over."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from agent.protocol.kinds import settle

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class EnginePart(Struct, frozen=True):
    """A part of the engine, of its `/version`."""

    name: str = field(name="Name", default="")


class Version(Struct, frozen=True, rename="pascal"):
    """`/version`."""

    api_version: str
    min_api_version: str = field(name="MinAPIVersion", default="1.12")
    components: tuple[EnginePart, ...] | None = None


class Listed(Struct, frozen=True, kw_only=True):
    """A container of `/containers/json`."""

    id: str = field(name="Id")
    names: tuple[str, ...] | None = field(name="Names", default=None)
    image: str = field(name="Image", default="")
    image_id: str = field(name="ImageID", default="")
    state: str = field(name="State", default="")
    labels: dict[str, str] | None = field(name="Labels", default=None)

    @property
    def name(self) -> str:
        """Its name, without the slash that engines put before it; its id where it has none."""
        return (self.names or (self.id,))[0].removeprefix("/")

    def label(self, name: str) -> str:
        """One of its labels; empty where it has no such."""
        return (self.labels or {}).get(name, "")


class Probe(Struct, frozen=True, rename="pascal"):
    """One run of a health check."""

    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(Struct, frozen=True, rename="pascal"):
    """What the health check says."""

    status: str = ""
    failing_streak: int = 0
    log: tuple[Probe, ...] | None = None


class State(Struct, frozen=True, kw_only=True):
    """How a container is."""

    status: str = field(name="Status", default="")
    running: bool = field(name="Running", default=False)
    exit_code: int = field(name="ExitCode", default=0)
    error: str = field(name="Error", default="")
    out_of_memory: bool = field(name="OOMKilled", default=False)
    started_at: str = field(name="StartedAt", default="")
    health: Health | None = field(name="Health", default=None)


class Bounds(Struct, frozen=True, rename="pascal"):
    """The limits a container was made with; 0 is none."""

    memory: int = 0


class HealthTimes(Struct, frozen=True, rename="pascal"):
    """How often a health check runs, in nanoseconds; 0 is the engine's own choice."""

    interval: int = 0
    timeout: int = 0


class Config(Struct, frozen=True, rename="pascal"):
    """What a container was made with."""

    healthcheck: HealthTimes | None = None


class Inspected(Struct, frozen=True, kw_only=True):
    """`/containers/ID/json`."""

    id: str = field(name="Id")
    state: State = field(name="State")
    restarts: int = field(name="RestartCount", default=0)
    config: Config = field(name="Config", default=Config())
    bounds: Bounds = field(name="HostConfig", default=Bounds())


class Image(Struct, frozen=True, kw_only=True):
    """`/images/NAME/json`, and an entry of `/images/json`."""

    id: str = field(name="Id")
    tags: tuple[str, ...] | None = field(name="RepoTags", default=None)
    digests: tuple[str, ...] | None = field(name="RepoDigests", default=None)
    size_bytes: Number = field(name="Size", default=0)


class Usage(Struct, frozen=True):
    """CPU time of a container since its start, in nanoseconds over all cores."""

    total_usage: Number = 0


class Cpu(Struct, frozen=True):
    """The CPU part of a reading."""

    cpu_usage: Usage = Usage()


class Memory(Struct, frozen=True):
    """The memory part of a reading; `stats` are the kernel's own figures, where the engine passes them on."""

    usage: Number = 0
    stats: dict[str, int] | None = None

    @property
    def used(self) -> int:
        """Bytes in use without the pages of files that the kernel gives back at once (v2's name, then v1's)."""
        figures = self.stats or {}
        idle = figures.get("inactive_file", figures.get("total_inactive_file", 0))
        return self.usage - idle if 0 <= idle <= self.usage else self.usage


class Stats(Struct, frozen=True):
    """`/containers/ID/stats`, one reading."""

    cpu: Cpu = field(name="cpu_stats", default=Cpu())
    memory: Memory = field(name="memory_stats", default=Memory())


class Fault(Struct, frozen=True):
    """The body of an answer that is an error."""

    message: str = ""
    cause: str = ""


class Created(Struct, frozen=True):
    """The answer to creating a container."""

    id: str = field(name="Id")


class Step(Struct, frozen=True):
    """A line of the progress of a pull; an error comes within it, though the status said 200."""

    status: str = ""
    error: str = ""


def read_time(text: str) -> datetime | None:
    """A moment as engines write it (RFC 3339, up to nanoseconds); None for none, which they write as year 1."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.year > 1 and moment.tzinfo is not None else None


settle(__name__)
