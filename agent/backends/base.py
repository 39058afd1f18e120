"""The one small interface every backend stands behind."""

from typing import Protocol
from uuid import UUID


class Backend(Protocol):
    """Answers polls for one site."""

    @property
    def site(self) -> UUID:
        """The site this backend speaks for."""
        ...

    def report(self, components_digest: str | None) -> bytes:
        """A report of this moment, as `agent.protocol.encode_report` writes it.

        Components are left out (null) when `components_digest`, which the caller already holds,
        is the digest of the present set. Must return within milliseconds: it runs on the event loop.
        """
        ...
