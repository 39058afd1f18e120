"""What each kind of probe looks at. A look returns a Result, or raises GetError or OSError."""

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.backends.host import temperature_celsius
from agent.config import (
    ContainerProbe,
    DiskProbe,
    HttpProbe,
    Probe,
    Severity,
    TcpProbe,
    TemperatureProbe,
)
from agent.probes.http_get import GetError, Where, get
from agent.verdict import Result

MAX_BODY_BYTES: Final = 256 << 10
MAX_CONTAINER_BYTES: Final = 1 << 20
GOOD: Final = Result("up")

Look = Callable[[], Awaitable[Result]]


def look_of(probe: Probe) -> Look:
    """How a probe looks; what can be prepared once is. Raises OSError for a `ca_file` that cannot be read."""
    if isinstance(probe, HttpProbe):
        return partial(look_http, probe, _where(probe))
    if isinstance(probe, TcpProbe):
        return partial(look_tcp, probe)
    if isinstance(probe, ContainerProbe):
        return partial(look_container, probe)
    read = read_disk if isinstance(probe, DiskProbe) else read_temperature
    return InThread(partial(read, probe))  # type: ignore[arg-type]  # each reads its own kind


# HTTP, TCP ----------------------------------------------------------------------------------------------------
def _where(probe: HttpProbe) -> Where:
    parts = urlsplit(probe.url)
    tls = ssl.create_default_context(cafile=probe.ca_file) if parts.scheme == "https" else None
    return Where(parts.hostname or "", parts.port or (443 if tls else 80), tls)


async def look_http(probe: HttpProbe, where: Where) -> Result:
    """Status, and the text in the first 256 KiB of the body if one is expected."""
    parts = urlsplit(probe.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    response = await get(where, target, host=host, most_bytes=0 if probe.contains is None else MAX_BODY_BYTES)
    if response.status != probe.expect_status:
        return Result(probe.severity, f"answered {response.status}, expected {probe.expect_status}")
    if probe.contains is not None and probe.contains.encode() not in response.body:
        return Result(probe.severity, "its answer does not hold the expected text")
    return GOOD


async def look_tcp(probe: TcpProbe) -> Result:
    """Whether a connection can be made."""
    _, writer = await asyncio.open_connection(probe.host, probe.port)
    writer.transport.abort()
    return GOOD


# Containers -----------------------------------------------------------------------------------------------------
class _Health(msgspec.Struct):
    Status: str = ""


class _State(msgspec.Struct):
    Status: str = ""
    Running: bool = False
    Paused: bool = False
    Health: _Health | None = None


class _Container(msgspec.Struct):
    """The part of `GET /containers/NAME/json` that matters; Docker and Podman both give it."""

    State: _State


async def look_container(probe: ContainerProbe) -> Result:
    """Good when it runs and its own health check, where it has one, does not say `unhealthy`."""
    where = Where(unix=probe.socket)
    response = await get(where, f"/containers/{probe.container}/json", host="engine", most_bytes=MAX_CONTAINER_BYTES)
    if response.status == 404:
        return Result(probe.severity, f"there is no container {probe.container}")
    if response.status != 200:
        return Result(probe.severity, f"the container engine answered {response.status}")
    try:
        state = msgspec.json.decode(response.body, type=_Container).State
    except (ValueError, RecursionError):
        raise GetError("the container engine's answer cannot be read") from None
    if not state.Running or state.Paused:
        return Result(probe.severity, f"the container is {state.Status or 'not running'}")
    if state.Health is not None and state.Health.Status == "unhealthy":
        return Result(probe.severity, "the container is unhealthy")
    return GOOD


# Disk and temperature: plain reads, which a failing device may block for ever ------------------------------------
class InThread:
    """Reads in a thread of its own. One that hangs is waited for: no second one is started beside it."""

    def __init__(self, read: Callable[[], Result]) -> None:
        self._read = read
        self._pending: asyncio.Future[Result] | None = None

    async def __call__(self) -> Result:
        """What was read. Raises OSError."""
        if self._pending is None or self._pending.done():
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            threading.Thread(target=self._work, args=(loop, self._pending), daemon=True, name="probe").start()
        return await asyncio.shield(self._pending)

    def _work(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Result]") -> None:
        try:
            result: Result | OSError = self._read()
        except OSError as error:
            result = error

        def tell() -> None:
            if isinstance(result, OSError):
                future.set_exception(result)
                future.exception()  # whoever waited may have given up
            else:
                future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell)


def read_disk(probe: DiskProbe) -> Result:
    """Used share of what the filesystem gives to ordinary users, as df says it. Raises OSError."""
    disk = os.statvfs(probe.path)
    usable = disk.f_blocks - disk.f_bfree + disk.f_bavail
    used_ratio = (disk.f_blocks - disk.f_bfree) / usable if usable else 0.0
    said = f"{probe.path} is {used_ratio * 100:.0f} % full"
    return _graded(used_ratio, probe.warn_ratio, probe.critical_ratio, probe.severity, said)


def read_temperature(probe: TemperatureProbe) -> Result:
    """The hottest reading of the CPU's sensor. Raises OSError where there is none."""
    celsius = temperature_celsius()
    if celsius is None:
        raise OSError("there is no temperature sensor")
    return _graded(celsius, probe.warn_celsius, probe.critical_celsius, probe.severity, f"the CPU has {celsius:g} °C")


def _graded(value: float, warn: float, critical: float, severity: Severity, said: str) -> Result:
    if value >= critical:
        return Result(severity, said)
    return Result("degraded", said) if value >= warn else GOOD
