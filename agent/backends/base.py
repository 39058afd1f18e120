"""The one small interface every backend stands behind."""

from typing import Protocol
from uuid import UUID

from agent.protocol import Desired, Report, VerdictState


class Backend(Protocol):
    """Answers polls for one site."""

    @property
    def site(self) -> UUID:
        """The site this backend speaks for."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether the machine runs: one that is played may be without power, and then writes nothing."""
        ...

    @property
    def state(self) -> VerdictState:
        """The verdict it gives of itself now."""
        ...

    @property
    def components_digest(self) -> str:
        """The digest of the components it has now."""
        ...

    def make_now(self, components_digest: str | None = None) -> Report:
        """The report of this very moment; components are left out when their digest is the one given."""
        ...

    def set_journal(self, seq: int, head: str | None) -> None:
        """What reports say of the journal from now on: its last number, and that entry's digest."""
        ...

    def set_desired(self, desired: Desired | None) -> None:
        """What reports say of the desired state from now on; None while the agent takes none."""
        ...

    def report(self, components_digest: str | None) -> bytes:
        """A report of this moment, as `agent.protocol.encode_report` writes it.

        Components are left out (null) when `components_digest`, which the caller already holds,
        is the digest of the present set. Must return within milliseconds: it runs on the event loop.
        """
        ...
