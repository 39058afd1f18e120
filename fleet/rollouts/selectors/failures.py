"""Which class of failure a site's words are. Pure: the protocol gives a sentence, gates count classes."""

from typing import Final

from fleet.rollouts.states import Failure

# The first that is found decides; words are those of agent.apply and of the engines below it.
_WORDS: Final[tuple[tuple[Failure, tuple[str, ...]], ...]] = (
    (Failure.NO_SPACE, ("no room", "no space", "enospc", "disk is full")),
    (Failure.PULL_FAILED, ("pull", "registry", "manifest", "fetch")),
    (Failure.UNHEALTHY, ("unhealthy", "not healthy", "never well", "health")),
    (Failure.TIMED_OUT, ("expired",)),
)


def failure_of(detail: str) -> Failure:
    """The class of a failure in the words of a site; `apply_failed` where they say nothing more."""
    text = detail.lower()
    return next((failure for failure, words in _WORDS if any(word in text for word in words)), Failure.APPLY_FAILED)
