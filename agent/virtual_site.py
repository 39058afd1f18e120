"""A simulated site together with how it is told to fail."""

from collections.abc import Callable
from typing import Final, Literal, get_args

from agent.backends.simulated import SimulatedBackend
from agent.fleet_file import SiteSpec

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
# `PUT /v1/desired` that are lost; a site that says `applied` and changes nothing; one that never says how it is.
ApplyFault = Literal["pull", "unhealthy", "lost", "lies", "hang"]
APPLY_FAULTS: Final[tuple[ApplyFault, ...]] = get_args(ApplyFault)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


class VirtualSite(SimulatedBackend):
    """`mode` is the failure the operator ordered, None when there is none; `churned` is one that churn made.

    `apply_fault` is how changes of its desired state fail, None if they do not.
    """

    __slots__ = ("address", "apply_fault", "churned", "mode", "seed", "turn")

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
