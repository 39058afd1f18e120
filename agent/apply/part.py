"""What can be changed at a site: containers, packages of the operating system, the agent itself; each a Part.

The applier drives all parts through the same steps, and may be killed between any two instructions:

    changes -> stage (all) -> switch, check (one after another) -> keep (all)
                                  \\-> restore (all that were switched, the last first)

So each step is idempotent: a second `switch` of what is switched, a `restore` of what never was, a `keep` of what has
nothing left over, change nothing. Whatever a step needs is found in the world (labels, files, packages), never in the
memory of a process. Until `keep`, what was before is still there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.protocol.desired import Document


class ApplyError(Exception):
    """A step failed; the message says why in one line that people can act on.

    `transient` is true for what may pass by itself (a registry that is away): it is tried again before it counts.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to be changed, in a form that survives a restart: `part` and `name` find it again.

    `before` and `after` are for people, such as `4.2.0 (sha256:1f3a…)`; `before` is empty for what is new, `after` for
    what is removed.
    """

    part: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Check:
    """How a changed thing is: `waiting` is to be asked again, `reboot` is well after a reboot, `broken` says why.

    `again_s`: in how many seconds it can be another, where the part knows.
    """

    state: Literal["well", "waiting", "reboot", "broken"]
    detail: str = ""
    again_s: float | None = None


class Blobs(Protocol):
    """The blobs that were sent, by their digests."""

    def read(self, digest: str) -> bytes:
        """The bytes of a blob that is there, whole. Raises ApplyError."""
        ...


class Part(Protocol):
    """One kind of thing that a document can change. All calls block, and run in the applier's thread."""

    @property
    def name(self) -> str:
        """Names the part in Change.part: `workload`, `os` or `agent`."""
        ...

    def changes(self, document: Document, blobs: Blobs) -> Sequence[Change]:
        """What must change here for the document to hold, in the order in which to do it; nothing is done.

        Raises ApplyError for a document that can never hold here (no engine, a folder that may not be mounted).
        """
        ...

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        """Fetch all that the change needs, so that switching needs no network. Raises ApplyError."""
        ...

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        """Put the new in place of the old, which is kept. Raises ApplyError."""
        ...

    def check(self, document: Document, change: Change) -> Check:
        """How the new is, now. Raises ApplyError when that cannot be seen."""
        ...

    def keep(self, document: Document, change: Change) -> None:
        """The new is to stay: let what was kept of the old go. Raises ApplyError."""
        ...

    def restore(self, document: Document, change: Change) -> None:
        """Put the old back, and let the new go. Raises ApplyError."""
        ...
