"""The machine that documents are applied to, as far as the applier itself needs it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from agent.apply.part import ApplyError


class Machine(Protocol):
    """A clock, the id of the present boot, and a way to boot anew."""

    @property
    def boot(self) -> str:
        """The id of the present boot."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it has power; one that is played may have none, and then nothing is done."""
        ...

    def now(self) -> datetime:
        """The wall clock, UTC."""
        ...

    def reboot(self) -> None:
        """Boot anew, soon; returns before that. Raises ApplyError where it may not."""
        ...


class ThisMachine:
    """The machine we run on. It is not ours to reboot: whoever has the right to may be given in a subclass."""

    is_running = True

    def __init__(self) -> None:
        self.boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> datetime:
        """See Machine."""
        return datetime.now(UTC)

    def reboot(self) -> None:
        """See Machine."""
        raise ApplyError("this agent has no right to reboot the machine")
