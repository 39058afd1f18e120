"""A seeded virtual site: what it reports is a function of its seed, the time, and what was done to it."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from random import Random
from typing import Final
from uuid import UUID

import msgspec

from agent.backends.catalogue import (
    MAX_WORKLOADS,
    WORKLOADS,
    choose_components,
    choose_hardware,
    image_bytes,
    make_component,
)
from agent.backends.curves import CURVES, Profile, utc_offset_s
from agent.protocol import (
    PROTOCOL,
    Component,
    Desired,
    Report,
    Resources,
    Verdict,
    VerdictState,
    Workload,
    components_digest,
    encode_report,
)

REFRESH_S: Final = 2.0
_DAY_S: Final = 86_400
_TURN: Final = 2 * math.pi
_SOME_QUARTER: Final = 1_767_225_600 // 900  # the begin of 2026


class SimulatedBackend:
    """One virtual site. All its figures follow the demand curve of its profile in its own time zone."""

    # Ten thousand of these live in one process.
    __slots__ = (
        "_boot",
        "_boot_at_s",
        "_components",
        "_curve",
        "_desired",
        "_digest",
        "_disk_ratio",
        "_fixed_offset_s",
        "_full",
        "_hardware",
        "_journal_head",
        "_journal_seq",
        "_kinds",
        "_lean",
        "_made_at_s",
        "_now_s",
        "_phase",
        "_rebooted_at_s",
        "_seed",
        "_state",
        "_state_since_s",
        "_time_zone",
        "_uptime_s",
        "site",
    )

    def __init__(
        self,
        site: UUID,
        *,
        seed: int,
        profile: Profile,
        time_zone: str,
        workloads: int,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`workloads` is how many, at most MAX_WORKLOADS; `now_s` gives seconds since the epoch."""
        if not 0 <= workloads <= MAX_WORKLOADS:
            raise ValueError(f"workloads must be 0 to {MAX_WORKLOADS}")
        random = Random(f"site/{seed}")
        self.site = site
        self._seed = seed
        self._now_s = now_s
        self._time_zone = time_zone
        self._fixed_offset_s = utc_offset_s(time_zone, _SOME_QUARTER)
        self._curve = CURVES[profile]
        self._kinds = WORKLOADS[profile][:workloads]
        self._hardware = choose_hardware(profile, random)
        self._phase = random.uniform(0, _TURN)
        self._disk_ratio = random.uniform(0.22, 0.55)
        self._uptime_s = random.uniform(20, 90) * _DAY_S
        self._rebooted_at_s = 0.0
        self._boot_at_s, self._boot = 0.0, ""
        self._state: VerdictState = "up"
        self._state_since_s = 0.0
        self._journal_seq = 0
        self._journal_head: str | None = None
        self._desired: Desired | None = None
        self._full: bytes | None = None
        self._lean: bytes | None = None
        self._made_at_s = -math.inf
        self._set_components(choose_components(self._kinds, random))

    @property
    def state(self) -> VerdictState:
        """The verdict the site gives of itself."""
        return self._state

    @property
    def components_digest(self) -> str:
        """The digest of the present set of components."""
        return self._digest

    def set_journal(self, seq: int, head: str | None) -> None:
        """See Backend."""
        if seq != self._journal_seq:
            self._journal_seq, self._journal_head = seq, head
            self._forget()

    def set_desired(self, desired: Desired | None) -> None:
        """See Backend."""
        if desired != self._desired:
            self._desired = desired
            self._forget()

    def report(self, components_digest: str | None) -> bytes:
        """See Backend. The bytes are kept for REFRESH_S, so `at` may be that old."""
        now_s = self._now_s()
        if now_s - self._made_at_s >= REFRESH_S or now_s < self._made_at_s:
            self._forget()
            self._made_at_s = now_s
        if components_digest == self._digest:
            if self._lean is None:
                self._lean = encode_report(self.make(self._made_at_s, with_components=False))
            return self._lean
        if self._full is None:
            self._full = encode_report(self.make(self._made_at_s))
        return self._full

    def set_state(self, state: VerdictState) -> None:
        """From now on the site judges itself so, and its figures show why."""
        if state != self._state:
            self._state, self._state_since_s = state, self._now_s()
            self._forget()

    def upgrade(self, kind: str, name: str, version: str) -> bool:
        """Give a component another version; a new kernel comes with a reboot. False when the site has no such one."""
        before = self._components
        after = tuple(make_component(kind, name, version) if (c.kind, c.name) == (kind, name) else c for c in before)
        if not any((c.kind, c.name) == (kind, name) for c in before):
            return False
        if after != before:
            self._set_components(after)
            if kind == "kernel":
                self.reboot()
        return True

    @property
    def is_running(self) -> bool:
        """Whether the machine runs."""
        return True

    def reboot(self) -> None:
        """The machine has booted just now."""
        self._rebooted_at_s = self._now_s()
        self._forget()

    def make_now(self, components_digest: str | None = None) -> Report:
        """The report of this very moment; components are left out when their digest is the one given."""
        return self.make(self._now_s(), with_components=components_digest != self._digest)

    def make(self, now_s: float, *, with_components: bool = True) -> Report:
        """The report of the moment `now_s` (seconds since the epoch)."""
        boot, boot_at_s = self._booted(now_s)
        offset_s = utc_offset_s(self._time_zone, int(now_s // 900))
        demand = self._demand(now_s, offset_s)
        moment = partial(datetime.fromtimestamp, tz=UTC)
        return Report(
            protocol=PROTOCOL,
            site=self.site,
            boot=boot,
            mono_ms=int((now_s - boot_at_s) * 1_000),
            at=moment(now_s),
            verdict=Verdict(self._state, moment(self._state_since_s or boot_at_s), self._reasons()),
            resources=self._resources(now_s, boot_at_s, demand),
            components_digest=self._digest,
            components=self._components if with_components else None,
            image_bytes=image_bytes(self._components) if with_components else None,
            workloads=self._workloads(demand),
            desired=self._desired,
            journal_seq=self._journal_seq,
            journal_head=self._journal_head,
        )

    def _set_components(self, components: tuple[Component, ...]) -> None:
        self._components = components
        self._digest = components_digest(components)
        self._forget()

    def _forget(self) -> None:
        self._full = self._lean = None
        self._made_at_s = -math.inf

    def _booted(self, now_s: float) -> tuple[str, float]:
        """Boot id and time of the last boot: one every `_uptime_s`, and at each kernel upgrade."""
        phase_s = self._phase / _TURN * self._uptime_s
        planned_s = phase_s + (now_s - phase_s) // self._uptime_s * self._uptime_s
        boot_at_s = planned_s
        if planned_s < self._rebooted_at_s <= now_s:
            boot_at_s = self._rebooted_at_s
        if boot_at_s != self._boot_at_s:
            identity = sha256(f"boot/{self._seed}/{boot_at_s}".encode()).digest()
            self._boot, self._boot_at_s = str(UUID(bytes=identity[:16], version=4)), boot_at_s
        return self._boot, boot_at_s

    def _demand(self, now_s: float, offset_s: float) -> float:
        """0..1: the curve of the week, with slow and fast swings of the site's own."""
        swing = (
            math.sin(now_s * (_TURN / 1_730) + self._phase)
            + 0.6 * math.sin(now_s * (_TURN / 307) + 2.1 * self._phase)
            + 0.4 * math.sin(now_s * (_TURN / 47) + 3.7 * self._phase)
        )
        demand = self._curve.at(now_s + offset_s) * (1 + 0.09 * swing) + 0.004 * swing
        return min(1.0, max(0.0, demand))

    def _resources(self, now_s: float, boot_at_s: float, demand: float) -> Resources:
        machine = self._hardware
        cpu_ratio = min(1.0, 0.04 + 0.78 * demand)
        # A fixed offset, not the zone's of the day: a counter must not run back when the clocks do.
        fixed_s = self._fixed_offset_s
        busy_s = self._curve.integral_s(now_s + fixed_s) - self._curve.integral_s(boot_at_s + fixed_s)
        fill_s = (30 + 20 * math.sin(self._phase)) * _DAY_S  # old logs go once in ten to fifty days
        filled = (now_s + self._phase * _DAY_S) % fill_s / fill_s
        disk_ratio = self._disk_ratio + 0.25 * filled
        mem_ratio = 0.30 + 0.26 * demand + 0.08 * math.sin(self._phase + now_s * (_TURN / _DAY_S))
        return Resources(
            cpu_count=machine.cpu_count,
            cpu_ratio=round(cpu_ratio, 4),
            load1=round(cpu_ratio * machine.cpu_count * 1.08, 2),
            mem_bytes=int(mem_ratio * machine.mem_total_bytes),
            mem_total_bytes=machine.mem_total_bytes,
            disk_bytes=int(disk_ratio * machine.disk_total_bytes),
            disk_total_bytes=machine.disk_total_bytes,
            net_rx_bytes_total=int(110_000 * machine.cpu_count * (busy_s + 0.02 * (now_s - boot_at_s))),
            net_tx_bytes_total=int(42_000 * machine.cpu_count * (busy_s + 0.03 * (now_s - boot_at_s))),
            temp_celsius=round(machine.ambient_celsius + 34 * cpu_ratio, 1),
            power_watts=round(machine.idle_watts + (machine.busy_watts - machine.idle_watts) * cpu_ratio, 1),
        )

    def _workloads(self, demand: float) -> tuple[Workload, ...]:
        ill = self._ill()
        return tuple(
            Workload(
                name=kind.name,
                managed=True,
                state="exited" if i == ill and self._state == "down" else "running",
                health="unhealthy" if i == ill else "healthy",
                cpu_ratio=0.0 if i == ill else round(kind.cpu_ratio * demand, 4),
                mem_bytes=int(kind.mem_bytes * (0.55 + 0.3 * demand)),
                mem_limit_bytes=kind.mem_bytes,
                restarts=3 if i == ill else 0,
            )
            for i, kind in enumerate(self._kinds)
        )

    def _ill(self) -> int | None:
        """Index of the workload that fails while the site is not up."""
        if self._state == "up" or not self._kinds:
            return None
        return self._seed % len(self._kinds)

    def _reasons(self) -> tuple[str, ...]:
        if self._state == "up":
            return ()
        ill = self._ill()
        if ill is None:
            return ("disk errors on the data volume",)
        what = "has exited" if self._state == "down" else "is unhealthy"
        return (f"workload {self._kinds[ill].name} {what}",)


def with_fields(report: Report, **fields: object) -> bytes:
    """The report as bytes with some fields replaced, whether or not they are true."""
    return encode_report(msgspec.structs.replace(report, **fields))
