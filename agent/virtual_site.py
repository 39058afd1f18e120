"""A simulated site together with how it is told to fail."""

from collections.abc import Callable
from typing import Final, Literal, get_args

from agent.backends.catalogue import WorkloadKind
from agent.backends.simulated import SimulatedBackend
from agent.fleet_file import SiteSpec
from agent.protocol import Component

Mode = Literal[
    "down",
    "degraded",
    "dark",
    "off",
    "hang",
    "loris",
    "garbage",
    "big",
    "bomb",
    "liar",
    "headers",
    "wrong_site",
    "wrong_protocol",
    "future_clock",
]
# How the changes fail that a document asks for: images that nobody can pull; workloads that never get well; answers to
# `PUT /v1/desired` that are lost; a site that says `applied` and changes nothing; one that never says how it is; one
# whose uplink the change cuts.
ApplyFault = Literal["pull", "unhealthy", "lost", "lies", "hang", "cuts"]
APPLY_FAULTS: Final[tuple[ApplyFault, ...]] = get_args(ApplyFault)
NEW_WORKLOAD_BYTES: Final = 256 << 20
NEW_WORKLOAD_RATIO: Final = 0.02
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


class VirtualSite(SimulatedBackend):
    """`mode` is the failure the operator ordered, None when there is none; `churned` is one that churn made.

    `apply_fault` is how changes of its desired state fail, None if they do not.
    """

    __slots__ = ("address", "apply_fault", "churned", "mode", "next_kernel", "seed", "turn")

    def __init__(self, spec: SiteSpec, now_s: Callable[[], float]) -> None:
        super().__init__(
            spec.site,
            seed=spec.seed,
            profile=spec.profile,
            time_zone=spec.time_zone,
            workloads=spec.workloads,
            now_s=now_s,
        )
        self.address, self.seed = spec.address, spec.seed
        self.apply_fault: ApplyFault | None = None
        self.next_kernel: str | None = None  # what the next boot brings; None for the same one
        self.mode: Mode | None = None
        self.churned = False
        self.turn = 0

    @property
    def on_the_wire(self) -> bool:
        """Whether the failure is in how the site answers, rather than in the verdict it gives."""
        return self.mode is not None and self.mode not in {"down", "degraded"}

    @property
    def is_running(self) -> bool:
        """Whether the machine has power."""
        return self.mode != "off"

    def set_mode(self, mode: Mode | None) -> None:
        """Fail so from now on, or with None be well again; a machine that gets its power back has booted anew."""
        if self.mode == "off" and mode != "off":
            self.reboot()
        self.mode, self.churned, self.turn = mode, False, 0
        if mode == "down" or mode == "degraded":
            self.set_state(mode)
        else:
            self.set_state("up")

    def next_turn(self) -> int:
        """0, 1, 2, ... since the mode was set: modes with several variants go through them in order."""
        self.turn += 1
        return self.turn - 1

    # What desired state changes -------------------------------------------------------------------------------
    @property
    def now_s(self) -> float:
        """Seconds since the epoch, by the site's own clock."""
        return self._now_s()

    @property
    def boot(self) -> str:
        """The id of the present boot."""
        return self._booted(self._now_s())[0]

    @property
    def components(self) -> tuple[Component, ...]:
        """All that has a version here."""
        return self._components

    def reboot(self) -> None:
        """The machine has booted just now, into the kernel that was installed last."""
        if self.next_kernel is not None:
            self.put(Component("kernel", "linux", self.next_kernel))
            self.next_kernel = None
        super().reboot()

    def put(self, component: Component, mem_bytes: int | None = None) -> None:
        """Have this component, in place of the one of its kind and name. A workload may use `mem_bytes`."""
        key = (component.kind, component.name)
        others = [c for c in self._components if (c.kind, c.name) != key]
        if len(others) == len(self._components):
            self._set_components((*others, component))
        else:  # where it was
            self._set_components(tuple(component if (c.kind, c.name) == key else c for c in self._components))
        if component.kind == "workload":
            before = next((kind for kind in self._kinds if kind.name == component.name), None)
            memory = mem_bytes or (before.mem_bytes if before else NEW_WORKLOAD_BYTES)
            kind = WorkloadKind(component.name, (), before.cpu_ratio if before else NEW_WORKLOAD_RATIO, memory)
            if before is None:
                self._kinds = (*self._kinds, kind)
            else:
                self._kinds = tuple(kind if k.name == component.name else k for k in self._kinds)

    def drop(self, kind: str, name: str) -> None:
        """Have that component no more."""
        self._set_components(tuple(c for c in self._components if (c.kind, c.name) != (kind, name)))
        if kind == "workload":
            self._kinds = tuple(k for k in self._kinds if k.name != name)
