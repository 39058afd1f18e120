"""How often something happened of late, by whom; bounded in memory."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_CALLERS = 10_000


class Throttle:
    """Counts per caller over a sliding window; the longest silent callers are forgotten first."""

    def __init__(self, *, limit: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, caller: str) -> None:
        """Add one."""
        times = self._seen.setdefault(caller, deque(maxlen=self._limit))
        times.append(self._clock())
        self._seen.move_to_end(caller)
        while len(self._seen) > MOST_CALLERS:
            self._seen.popitem(last=False)

    def is_full(self, caller: str) -> bool:
        """Whether `limit` of them lie within the window."""
        times = self._seen.get(caller)
        return times is not None and len(times) == self._limit and self._clock() - times[0] < self._window_s
