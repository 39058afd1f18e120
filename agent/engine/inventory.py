"""Reads what runs at an engine: workloads with their figures, and components with the digests they were pulled by."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.engine import container as spec
from agent.engine.client import Engine, name_in_path
from agent.engine.container import current_name
from agent.engine.errors import EngineAway, EngineError, one_line
from agent.engine.images import digest_of, parse_reference
from agent.engine.judge import probe_if_due
from agent.engine.messages import Image, Inspected, Listed, Stats
from agent.protocol import Component, Workload

# What a report may hold (512), less the components of the host.
MAX_SHOWN: Final = 500
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What runs. `troubles` are the managed workloads that are not well, each in a sentence.

    `image_bytes`: what the images of the workloads take on the disk, unpacked, by digest.
    """

    workloads: tuple[Workload, ...] = ()
    components: tuple[Component, ...] = ()
    troubles: tuple[str, ...] = ()
    image_bytes: Mapping[str, int] = field(default_factory=dict)


class InventoryReader:
    """Reads again and again: shares of the CPU are between two readings. Used by one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cpu: dict[str, tuple[int, int]] = {}
        self._images: dict[tuple[str, str], tuple[str, int]] = {}

    def read(self) -> Inventory:
        """What runs now; blocks for some milliseconds a container. Raises EngineError."""
        listed = self._engine.get("/containers/json", tuple[Listed, ...], all=True)
        managed = sorted((c for c in listed if is_managed(c)), key=lambda c: c.label(spec.WORKLOAD))
        managed = managed[: MAX_SHOWN // 2]
        foreign = sorted((c for c in listed if not is_managed(c) and not _is_kept(c)), key=lambda c: c.name)
        names = {c.label(spec.WORKLOAD) for c in managed}
        shown = [(c, _foreign_name(c, names)) for c in foreign][: MAX_SHOWN - 2 * len(managed)]
        workloads = [self._workload(c) for c in managed]
        everything = (
            *(w for w in workloads if w is not None),
            *(Workload(name=name, state=_word(c.state)) for c, name in shown),
        )
        components = (
            *(part for c in managed for part in self._managed_components(c)),
            *(Component("workload", name, _tag(c), self._digest(c, c.image)) for c, name in shown),
        )
        self._forget(listed)
        sizes = {digest: size for digest, size in self._images.values() if size and _DIGEST.fullmatch(digest)}
        return Inventory(everything, components, tuple(t for w in everything if (t := _trouble(w))), sizes)

    def _workload(self, found: Listed) -> Workload | None:
        """A managed container; None if it went away meanwhile."""
        path = f"/containers/{name_in_path(found.id)}"
        try:
            state = self._engine.get(f"{path}/json", Inspected)
            if probe_if_due(self._engine, state):
                state = self._engine.get(f"{path}/json", Inspected)
        except EngineError as error:
            if error.status in {404, 409}:
                return None
            raise
        stats = self._stats(path) if state.state.running else None
        health = state.state.health
        return Workload(
            name=found.label(spec.WORKLOAD),
            managed=True,
            state=_word(state.state.status or found.state),
            health=_word(health.status) if health is not None and health.status else None,
            cpu_ratio=self._cpu_ratio(found.id, stats.cpu.cpu_usage.total_usage) if stats is not None else None,
            mem_bytes=stats.memory.used if stats is not None else None,
            mem_limit_bytes=state.bounds.memory or None,
            restarts=max(0, state.restarts),
        )

    def _stats(self, path: str) -> Stats | None:
        """The figures of a container that runs; None if it has ended meanwhile, which engines answer in many ways."""
        try:
            return self._engine.get(f"{path}/stats", Stats, stream=False, **{"one-shot": True})
        except EngineAway:
            raise
        except EngineError:
            return None

    def _cpu_ratio(self, container: str, busy_ns: int) -> float | None:
        """Share of all cores since the reading before; None at the first one, and when it was started again since."""
        now_ns = time.monotonic_ns()
        before = self._cpu.get(container)
        self._cpu[container] = busy_ns, now_ns
        if before is None or busy_ns < before[0] or now_ns <= before[1]:
            return None
        ratio = (busy_ns - before[0]) / (now_ns - before[1]) / (os.cpu_count() or 1)
        return round(min(1.0, ratio), 4)

    def _managed_components(self, found: Listed) -> tuple[Component, ...]:
        name, image = found.label(spec.WORKLOAD), found.label(spec.IMAGE)
        version = one_line(found.label(spec.VERSION)) or _tag(found)
        workload = Component("workload", name, version, self._digest(found, image or found.image))
        config = found.label(spec.CONFIG)
        return (workload, Component("config", name, None, one_line(config))) if config else (workload,)

    def _digest(self, found: Listed, reference: str) -> str | None:
        """The digest of the reference it was pulled by, asked (with the size) once for each image."""
        key = (found.image_id, reference)
        if key not in self._images:
            try:
                image = self._engine.get(f"/images/{name_in_path(found.image_id)}/json", Image)
            except EngineError as error:
                if error.status != 404:
                    raise
                return None  # removed by force under a container that runs
            found_digest = digest_of(reference, image.digests or ())
            if found_digest is None:
                return None  # built here; it may be pushed yet
            self._images[key] = one_line(found_digest), image.size_bytes
        return self._images[key][0]

    def _forget(self, listed: tuple[Listed, ...]) -> None:
        """Hold nothing of containers and images that are gone."""
        ids, images = {c.id for c in listed}, {c.image_id for c in listed}
        self._cpu = {key: value for key, value in self._cpu.items() if key in ids}
        self._images = {key: value for key, value in self._images.items() if key[0] in images}


def is_managed(found: Listed) -> bool:
    """Whether it is the container of a workload of ours: label and name agree."""
    name = found.label(spec.WORKLOAD)
    return bool(name) and found.name == current_name(name)


def _is_kept(found: Listed) -> bool:
    """Whether it is a predecessor that waits for the end of a change: it is no workload of its own."""
    name = found.label(spec.WORKLOAD)
    return bool(name) and found.name == spec.before_name(name)


def _foreign_name(found: Listed, taken: set[str]) -> str:
    name = one_line(found.name) or "?"
    return f"{name} (not managed)" if name in taken else name


def _tag(found: Listed) -> str | None:
    return one_line(parse_reference(found.image).tag) or None


def _word(text: str) -> str:
    """A state as a report can hold it."""
    return one_line(text, 64) or "unknown"


def _trouble(workload: Workload) -> str:
    if not workload.managed:
        return ""
    if workload.state != "running":
        return f'workload "{workload.name}" is {workload.state}'
    return f'workload "{workload.name}" is unhealthy' if workload.health == "unhealthy" else ""
