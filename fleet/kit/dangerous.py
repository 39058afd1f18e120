"""dangerous(): marks the edges whose misuse costs most, so that fresh authentication can guard just these."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

Edge = TypeVar("Edge", bound=Callable[..., Any])
MARK: Final = "dangerous_action"
ACTIONS: set[str] = set()


def dangerous(action: str) -> Callable[[Edge], Edge]:
    """Mark a view or an operation of the API: it does `action`, as the audit names it. Changes nothing else."""

    def mark(edge: Edge) -> Edge:
        setattr(edge, MARK, action)
        ACTIONS.add(action)
        return edge

    return mark
