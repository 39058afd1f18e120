"""Sites that come and go on their own, at a steady seeded rate."""

import heapq
from collections.abc import Sequence
from random import Random
from typing import Final

from agent.virtual_site import VirtualSite

MAX_PER_MINUTE: Final = 10.0
_ILL_S: Final = (60.0, 180.0)


class Churn:
    """Flips verdicts so that `per_minute`, a share of all sites, changes each minute; half of the flips are recoveries.

    Call `advance` a few times a second.
    """

    def __init__(self, sites: Sequence[VirtualSite], seed: int = 0) -> None:
        self.per_minute = 0.0
        self._sites = sites
        self._random = Random(f"churn/{seed}")
        self._due = 0.0
        self._ill: list[tuple[float, str, VirtualSite]] = []

    def set_rate(self, per_minute: float) -> None:
        """Change the rate; at 0 all that churn made ill recover at once."""
        self.per_minute = per_minute
        if per_minute == 0:
            for *_, site in self._ill:
                self._recover(site)
            self._ill.clear()
            self._due = 0.0

    def advance(self, now_s: float, passed_s: float) -> int:
        """Do the flips of the time that passed, and say how many that were."""
        self._due += self.per_minute * len(self._sites) * passed_s / 60
        flips = 0
        while self._due >= 1:
            self._due -= 1
            flips += self._flip(now_s)
        return flips

    def _flip(self, now_s: float) -> bool:
        while self._ill and self._ill[0][0] <= now_s:
            *_, site = heapq.heappop(self._ill)
            if self._recover(site):
                return True
        site = self._random.choice(self._sites)
        if site.mode is not None or site.churned:
            return False
        site.churned = True
        site.set_state("degraded" if self._random.random() < 0.6 else "down")
        heapq.heappush(self._ill, (now_s + self._random.uniform(*_ILL_S), site.address, site))
        return True

    @staticmethod
    def _recover(site: VirtualSite) -> bool:
        """Let a site be well again, unless an ordered failure took its place meanwhile."""
        if not site.churned:
            return False
        site.churned = False
        site.set_state("up")
        return True
