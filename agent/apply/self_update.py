"""The agent itself, as a Part: the new release is started on trial, and stays only if the centre reaches it."""

from collections.abc import Callable, Sequence
from typing import Final

from agent.apply.part import ApplyError, Blobs, Change, Check
from agent.apply.releases import Releases
from agent.protocol.desired import AgentRelease, Document

TRIAL_S: Final = 300
NAME: Final = "archipelago-agent"


class SelfUpdate:
    """See agent.apply.part. `running` is the version of this process, `polled` whether the centre has polled it.

    `restart` has this process end, soon, so that the launcher starts what is current then; it may be called twice.
    """

    name = "agent"

    def __init__(
        self,
        releases: Releases,
        *,
        running: str,
        polled: Callable[[], bool],
        restart: Callable[[], None],
        trial_s: int = TRIAL_S,
    ) -> None:
        self._releases, self._running, self._polled, self._restart = releases, running, polled, restart
        self._trial_s = trial_s

    def changes(self, document: Document, blobs: Blobs) -> Sequence[Change]:
        """See Part."""
        wanted = document.agent
        if wanted is None or wanted.version == self._running:
            return []
        if not self._releases.current:
            raise ApplyError("this agent was not installed by install.sh, so it cannot replace itself")
        return [Change(self.name, NAME, self._running, wanted.version)]

    def stage(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part."""
        wanted = _wanted(document)
        self._releases.install(wanted.version, blobs.read(wanted.blob))

    def switch(self, document: Document, change: Change, blobs: Blobs) -> None:
        """See Part; what runs is not changed by it."""
        version = _wanted(document).version
        if why := self._releases.reverted(version):
            raise ApplyError(f"agent {version} was tried already: {why}")
        if self._releases.current != version:
            self._releases.begin_trial(version, self._trial_s)

    def check(self, document: Document, change: Change) -> Check:
        """See Part; the old process ends by it, and the new one asks on."""
        version = _wanted(document).version
        if why := self._releases.reverted(version):
            return Check("broken", f"{why}; agent {self._running} is back")
        if self._releases.current != version:
            return Check("broken", f"agent {version} is not in place")
        if self._running != version:
            self._restart()
            return Check("waiting", f"agent {version} is to start")
        if not self._polled():
            return Check("waiting", "the centre has not polled it yet")
        self._releases.prove()
        return Check("well")

    def keep(self, document: Document, change: Change) -> None:
        """See Part."""
        self._releases.prove()
        self._releases.prune({self._running})

    def restore(self, document: Document, change: Change) -> None:
        """See Part; where the new one does this, the old one starts after it."""
        if self._releases.current == _wanted(document).version != change.before:
            self._releases.use(change.before)
        self._releases.prove()
        if self._running == self._releases.current:
            self._releases.prune(set())
        else:
            self._restart()


def _wanted(document: Document) -> AgentRelease:
    if document.agent is None:
        raise ApplyError("the document says nothing of the agent")
    return document.agent
