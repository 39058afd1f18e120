"""The real machine, read from /proc, /sys and psutil."""

import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import psutil

from agent import __version__
from agent.protocol import (
    PROTOCOL,
    Component,
    Desired,
    Report,
    Resources,
    Verdict,
    VerdictState,
    components_digest,
    encode_report,
)

_RESOURCES_MAX_AGE_S: Final = 1.0
_COMPONENTS_MAX_AGE_S: Final = 60.0
_CPU_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "acpitz")
_PLAUSIBLE_CELSIUS: Final = (-60.0, 150.0)  # outside it the sensor is broken, not the machine


class HostBackend:
    """Reports the machine it runs on. Its verdict is that of its probes; without any it is `up` while it can answer."""

    def __init__(self, site: UUID, root: Path = Path("/"), *, verdict: Callable[[], Verdict] | None = None) -> None:
        """`root` is a path on the filesystem whose use is reported; `verdict` gives the verdict of this moment."""
        self.site = site
        self._root = str(root)
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        up = Verdict("up", datetime.now(UTC))
        self._verdict = verdict or (lambda: up)
        self._cpu_busy_s, self._cpu_all_s = _cpu_times_s()
        self._cpu_ratio = 0.0
        self._resources, self._resources_at_s = self._measure(), time.monotonic()
        self._components, self._components_at_s = read_components(), time.monotonic()
        self._digest = components_digest(self._components)
        self._journal_seq = 0
        self._journal_head: str | None = None
        self._desired: Desired | None = None

    @property
    def is_running(self) -> bool:
        """It runs, for it is asked."""
        return True

    @property
    def state(self) -> VerdictState:
        """The verdict the host gives of itself."""
        return self._verdict().state

    @property
    def components_digest(self) -> str:
        """The digest of the present set of components, at most a minute old."""
        self._refresh_components()
        return self._digest

    def set_journal(self, seq: int, head: str | None) -> None:
        """See Backend."""
        self._journal_seq, self._journal_head = seq, head

    def set_desired(self, desired: Desired | None) -> None:
        """See Backend."""
        self._desired = desired

    def report(self, components_digest: str | None) -> bytes:
        """See Backend."""
        return encode_report(self.make_now(components_digest))

    def make_now(self, components_digest: str | None = None) -> Report:
        """The report of this moment; components are left out when their digest is the one given."""
        self._refresh()
        return Report(
            protocol=PROTOCOL,
            site=self.site,
            boot=self._boot,
            mono_ms=time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000,
            at=datetime.now(UTC),
            verdict=self._verdict(),
            resources=self._resources,
            components_digest=self._digest,
            components=None if components_digest == self._digest else self._components,
            desired=self._desired,
            journal_seq=self._journal_seq,
            journal_head=self._journal_head,
        )

    def _refresh(self) -> None:
        """Measure again what is too old; a flood of polls must not become a flood of system calls."""
        now_s = time.monotonic()
        if now_s - self._resources_at_s >= _RESOURCES_MAX_AGE_S:
            self._resources, self._resources_at_s = self._measure(), now_s
        self._refresh_components()

    def _refresh_components(self) -> None:
        now_s = time.monotonic()
        if now_s - self._components_at_s >= _COMPONENTS_MAX_AGE_S:
            self._components, self._components_at_s = read_components(), now_s
            self._digest = components_digest(self._components)

    def _measure(self) -> Resources:
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(self._root)
        received, sent = _network_bytes()
        return Resources(
            cpu_count=os.cpu_count() or 1,
            cpu_ratio=self._measure_cpu(),
            load1=round(os.getloadavg()[0], 2),
            mem_bytes=max(0, memory.total - memory.available),
            mem_total_bytes=memory.total,
            disk_bytes=disk.used,
            disk_total_bytes=disk.total,
            net_rx_bytes_total=received,
            net_tx_bytes_total=sent,
            temp_celsius=temperature_celsius(),
        )

    def _measure_cpu(self) -> float:
        """Share of all cores that was busy since the measurement before; the old one while the clock has not moved."""
        busy_s, all_s = _cpu_times_s()
        if all_s > self._cpu_all_s:
            ratio = (busy_s - self._cpu_busy_s) / (all_s - self._cpu_all_s)
            self._cpu_ratio = round(min(1.0, max(0.0, ratio)), 4)
        self._cpu_busy_s, self._cpu_all_s = busy_s, all_s
        return self._cpu_ratio


def read_components() -> tuple[Component, ...]:
    """Kernel, operating system and agent with their versions, as they are now."""
    kernel = os.uname()
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {"ID": "linux"}
    version = release.get("VERSION_ID") or release.get("BUILD_ID")
    return (
        Component("kernel", kernel.sysname.lower(), kernel.release),
        Component("os", release["ID"], version),
        Component("agent", "archipelago-agent", __version__),
    )


def _cpu_times_s() -> tuple[float, float]:
    """Busy and total CPU seconds since boot, over all cores; guest time is part of user time already."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    return total - idle, total


def _network_bytes() -> tuple[int | None, int | None]:
    """Bytes received and sent since boot by the interfaces that are devices; bridges would count them twice."""
    counters = psutil.net_io_counters(pernic=True)
    counters.pop("lo", None)
    devices = {name: c for name, c in counters.items() if Path("/sys/class/net", name, "device").exists()} or counters
    if not devices:
        return None, None
    return sum(c.bytes_recv for c in devices.values()), sum(c.bytes_sent for c in devices.values())


def temperature_celsius() -> float | None:
    """The hottest reading of the first CPU sensor there is."""
    sensors = psutil.sensors_temperatures()
    low, high = _PLAUSIBLE_CELSIUS
    for chip in _CPU_SENSORS:
        readings = [r.current for r in sensors.get(chip, []) if r.current is not None and low < r.current < high]
        if readings:
            return round(float(max(readings)), 1)
    return None
