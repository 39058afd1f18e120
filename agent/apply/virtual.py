"""What documents change at virtual sites: versions in their reports, in the sites' own time, without a thread a site.

What is real of it: the order of the steps, what is kept, and how they fail when they are told to.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Final

from agent.apply.part import ApplyError, Blobs, Change, Check
from agent.apply.site import Site
from agent.protocol import Component
from agent.protocol.desired import DesiredWorkload, Document, read_document
from agent.virtual_site import VirtualSite

KERNEL: Final = "kernel"
AGENT: Final = "archipelago-agent"
SETTLE_S: Final = (0.5, 2.5)
PATIENCE_S: Final = 5.0
LOOK_S: Final = 0.5
LEAST_S: Final = 0.01  # a shorter wait may be lost in the rounding of a time
Things = tuple[Component, ...]


class VirtualMachine:
    """The clock and the boots of a virtual site."""

    def __init__(self, site: VirtualSite) -> None:
        self._site = site

    @property
    def boot(self) -> str:
        """See Machine."""
        return self._site.boot

    @property
    def is_running(self) -> bool:
        """See Machine."""
        return self._site.is_running

    def now(self) -> datetime:
        """See Machine."""
        return datetime.fromtimestamp(self._site.now_s, UTC)

    def reboot(self) -> None:
        """See Machine; a virtual one is back at once."""
        self._site.reboot()


class VirtualPart:
    """A Part of a virtual site: each thing that changes is a few components of its report."""

    __slots__ = ("_before", "_since_s", "_site", "name")

    def __init__(self, name: str, site: VirtualSite) -> None:
        self.name = name
        self._site = site
        self._before: dict[str, Things] = {}  # what was there, until keep()
        self._since_s: dict[str, float] = {}

    def changes(self, document: Document, blobs: Blobs) -> Sequence[Change]:
        """See Part; what goes comes before what is new."""
        wanted = self._wanted(document)
        removed = [name for name in self._present(document) if name not in wanted]
        return [
            Change(self.name, name, _text(self._here(name)), _text(wanted.get(name, ())))
            for name in (*removed, *wanted)
            if self._here(name) != wanted.get(name, ())
        ]

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part."""
        if self._site.apply_fault == "pull":
            raise ApplyError(f"{change.name}: {change.after} cannot be pulled: the registry knows no such thing")

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part."""
        wanted = self._wanted(document).get(change.name, ())
        if self._site.apply_fault == "lies" or self._here(change.name) == wanted:
            return
        self._before.setdefault(change.name, self._here(change.name))
        self._since_s[change.name] = self._site.now_s
        if self.name == "os" and change.name == KERNEL:
            self._site.next_kernel = wanted[0].version
        else:
            self._set(change.name, wanted, _memory(document, change.name))
        if self._site.apply_fault == "cuts":
            self._site.set_mode("dark")

    def check(self, document: Document, change: Change) -> Check:
        """See Part."""
        wanted = self._wanted(document).get(change.name, ())
        age_s = self._site.now_s - self._since_s.get(change.name, 0.0)
        if self._site.apply_fault == "lies":
            return Check("well")
        if self._site.apply_fault == "hang":
            return Check("waiting", "nothing is heard of it")
        if self._site.apply_fault == "unhealthy" and wanted:
            return Check("waiting") if 0 <= age_s < PATIENCE_S else Check("broken", "its health check never passed")
        settle_s = Random(f"{self._site.seed}/{change.name}/{change.after}").uniform(*SETTLE_S)
        if wanted and 0 <= age_s < settle_s:  # what goes is gone at once
            return Check("waiting", "it is starting", again_s=max(LEAST_S, settle_s - age_s))
        if self._here(change.name) == wanted:
            return Check("well")
        if change.name == KERNEL and wanted and self._site.next_kernel == wanted[0].version:
            return Check("reboot")
        return Check("broken", "it is not what it was switched to")

    def keep(self, document: Document, change: Change) -> None:
        """See Part."""
        self._before.pop(change.name, None)

    def restore(self, document: Document, change: Change) -> None:
        """See Part."""
        before = self._before.pop(change.name, None)
        if before is None:
            return
        if self.name == "os" and change.name == KERNEL:
            self._site.next_kernel = None
            if self._here(KERNEL) != before:
                self._site.put(before[0])
                self._site.reboot()
        else:
            self._set(change.name, before, None)

    def adopt(self, document: Document) -> None:
        """Be as the document says, at once: a virtual site ends with its process, but what it had applied does not."""
        for name in self._present(document):
            self._set(name, (), None)
        for name, things in self._wanted(document).items():
            self._set(name, things, _memory(document, name))

    # What is wanted, and what is there ------------------------------------------------------------------------
    def _wanted(self, document: Document) -> dict[str, Things]:
        if self.name == "workload":
            return {workload.name: _things(workload) for workload in document.workloads}
        if self.name == "agent":
            return {} if document.agent is None else {AGENT: (Component("agent", AGENT, document.agent.version),)}
        if document.os is None:
            return {}
        wanted: dict[str, Things] = {name: (Component("os", name, v),) for name, v in document.os.packages.items()}
        if document.os.kernel is not None:
            wanted[KERNEL] = (Component("kernel", "linux", document.os.kernel),)
        return wanted

    def _present(self, document: Document) -> list[str]:
        """What must go if it is not wanted: workloads alone."""
        return [c.name for c in self._site.components if c.kind == "workload"] if self.name == "workload" else []

    def _here(self, name: str) -> Things:
        kinds = {"workload": ("workload", "config"), "agent": ("agent",), "os": ("os",)}[self.name]
        if self.name == "os" and name == KERNEL:
            kinds, name = ("kernel",), "linux"
        found = {c.kind: c for c in self._site.components if c.name == name}
        return tuple(found[kind] for kind in kinds if kind in found)

    def _set(self, name: str, things: Things, mem_bytes: int | None) -> None:
        for component in self._here(name):
            if not any((component.kind, component.name) == (thing.kind, thing.name) for thing in things):
                self._site.drop(component.kind, component.name)
        for thing in things:
            self._site.put(thing, mem_bytes)


def virtual_parts(site: VirtualSite) -> list[VirtualPart]:
    """All that a document can change at a virtual site, in the order in which it is done."""
    return [VirtualPart(name, site) for name in ("workload", "os", "agent")]


def recall(site: Site) -> None:
    """At the start: let a virtual site be what its process had made of it before, and be looked at not too often."""
    site.first_look_s = LOOK_S
    parts = [part for part in site.parts if isinstance(part, VirtualPart)]
    if site.applied is not None:
        document = read_document(site.applied.envelope)
        for part in parts:
            part.adopt(document)
    work = site.work
    if work is None or work.phase not in {"switching", "checking", "rebooting", "proving", "keeping", "restoring"}:
        return
    document = read_document(work.envelope)
    done = work.index + (work.phase in {"checking", "restoring"})
    for change in work.changes[: done if work.phase in {"switching", "checking", "restoring"} else None]:
        for part in parts:
            if part.name == change.part:
                part.switch(document, change, site.blobs)


def _things(workload: DesiredWorkload) -> Things:
    image, _, sha256 = workload.image.partition("@")
    tag = image.rpartition("/")[2].partition(":")[2]
    running = Component("workload", workload.name, workload.version or tag or None, sha256)
    if workload.config_sha256 is None:
        return (running,)
    return running, Component("config", workload.name, None, workload.config_sha256)


def _memory(document: Document, name: str) -> int | None:
    return next((w.limits.mem_bytes for w in document.workloads if w.name == name), None)


def _text(things: Things) -> str:
    """For people: the version, and the begin of the digest."""
    if not things:
        return ""
    first, config = things[0], things[1].digest if len(things) > 1 else None
    shown = [first.version or "", f"({first.digest[:15]}…)" if first.digest else ""]
    return " ".join(filter(None, (*shown, f"config {config[7:15]}" if config else ""))) or first.name
