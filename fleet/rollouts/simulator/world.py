"""Made-up sites: what they do with a document, how often they fail and how, and when they are silent. Seeded. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

from msgspec import Struct

from fleet.rollouts.engine.actions import DocumentKind
from fleet.rollouts.engine.facts import Progress, Site, Step
from fleet.rollouts.simulator.database import Database
from fleet.rollouts.states import Failure

STANDARD: Final = "the standard"
_UNDONE: Final = (Failure.APPLY_FAILED, Failure.UNHEALTHY)


class Behaviour(Struct, frozen=True, kw_only=True):
    """Shares are of sites, times are seconds.

    `offline`: not reachable at the beginning; `never_back` of those stay so, the others come back in `back_after_s`.
    `failing`: by class, at the change (`lost`: silent for ever from it on; `timed_out`: applies for ever;
    `regressed`: goes back in its soak). `liars` say `applied` and run what they ran before. `darkenings`: how often a
    site and day it falls silent, for `dark_s`.
    """

    work_s: tuple[float, float] = (20.0, 90.0)
    reboot_s: tuple[float, float] | None = None
    offline: float = 0.0
    never_back: float = 0.1
    back_after_s: float = 6 * 3_600
    failing: Mapping[Failure, float] = {}
    liars: float = 0.0
    darkenings: float = 0.0
    dark_s: tuple[float, float] = (30.0, 1_800.0)


class World:
    """Sites of a simulated database. `run` lets happen what happens until a moment."""

    def __init__(self, database: Database, behaviour: Behaviour, seed: int, now: datetime) -> None:
        self.database, self.behaviour, self.random = database, behaviour, Random(seed)
        self._events: list[tuple[datetime, int, int, Mapping[str, Any]]] = []
        self._order = count()
        self._held: dict[int, tuple[Step, DocumentKind]] = {}
        self._origins = {site.id: site.components for site in database.sites.values()}
        for site_id in database.step_of:
            self._begin(site_id, now)

    def next_event(self) -> datetime | None:
        """When something happens next."""
        return self._events[0][0] if self._events else None

    def run(self, now: datetime) -> None:
        """Let happen what happens until `now`, and take up the documents that were given out."""
        while self.database.given:
            step, kind = self.database.given.popleft()
            self._held[step.site] = step, kind
            self._deliver(step.site, now)
        while self._events and self._events[0][0] <= now:
            at, _, site_id, changes = heappop(self._events)
            self._happen(site_id, at, changes)

    # Silence ------------------------------------------------------------------------------------------------
    def _begin(self, site_id: int, now: datetime) -> None:
        if self.random.random() < self.behaviour.offline:
            self.database.set_site(site_id, reachable=False, dark_since=now)
            if self.random.random() >= self.behaviour.never_back:
                self._later(site_id, now, self.random.uniform(0, self.behaviour.back_after_s), {"reachable": True})
        elif self.behaviour.darkenings:
            self._plan_darkness(site_id, now)

    def _plan_darkness(self, site_id: int, now: datetime) -> None:
        wait_s = self.random.expovariate(self.behaviour.darkenings / 86_400)
        self._later(site_id, now, wait_s, {"reachable": False})

    # Documents ----------------------------------------------------------------------------------------------
    def _deliver(self, site_id: int, now: datetime) -> None:
        """Hand over the newest document, if the site answers."""
        if site_id not in self._held or not self.database.sites[site_id].reachable:
            return
        step, kind = self._held.pop(site_id)
        self.database.set_sent(step)
        site = self.database.sites[site_id]
        if kind is DocumentKind.FREEZE:
            progress = site.progress if site.progress is Progress.APPLIED else Progress.HELD
            self._later(site_id, now, 1.0, {"document": step.document, "progress": progress})
        else:
            self._work(step, site, now)

    def _work(self, step: Step, site: Site, now: datetime) -> None:
        """What the site will say of its document, and when."""
        begin_s = self.random.uniform(1, 3)
        work_s = self.random.uniform(*self.behaviour.work_s)
        self._later(site.id, now, begin_s, {"document": step.document, "progress": Progress.STAGING})
        self._later(site.id, now, begin_s + work_s / 2, {"document": step.document, "progress": Progress.APPLYING})
        end_s = begin_s + work_s
        if step.undoing:
            self._later(site.id, now, end_s, self._done(step, self._origins[site.id]))
            return
        failure = self._failure()
        if failure is Failure.LOST:
            self._later(site.id, now, end_s, {"document": step.document, "reachable": False, "for_ever": True})
        elif failure is Failure.REGRESSED:
            self._later(site.id, now, end_s, self._done(step, STANDARD))
            self._later(site.id, now, end_s + 30, {"document": step.document, "conforms": False})
        elif failure is not Failure.TIMED_OUT:
            self._finish(step, site, now, end_s, failure)

    def _finish(self, step: Step, site: Site, now: datetime, end_s: float, failure: Failure | None) -> None:
        if failure:
            told = {"progress": Progress.FAILED, "failure": failure, "detail": f"simulated: {failure}"}
            self._later(site.id, now, end_s, {"document": step.document, **told})
            return
        if self.behaviour.reboot_s:
            self._later(site.id, now, end_s, {"document": step.document, "reachable": False, "reboots": True})
            end_s += self.random.uniform(*self.behaviour.reboot_s)
        lies = self.random.random() < self.behaviour.liars
        self._later(site.id, now, end_s, self._done(step, self._origins[site.id] if lies else STANDARD))

    def _failure(self) -> Failure | None:
        drawn = self.random.random()
        for failure, share in self.behaviour.failing.items():
            drawn -= share
            if drawn < 0:
                return failure
        return None

    def _done(self, step: Step, components: str) -> dict[str, Any]:
        conforms = components == STANDARD
        done = {"document": step.document, "progress": Progress.APPLIED, "components": components}
        return {**done, "conforms": conforms, "reachable": True, "up": True, "boot": f"boot {step.document}"}

    # Events -------------------------------------------------------------------------------------------------
    def _later(self, site_id: int, now: datetime, seconds: float, changes: Mapping[str, Any]) -> None:
        heappush(self._events, (now + timedelta(seconds=seconds), next(self._order), site_id, changes))

    def _happen(self, site_id: int, at: datetime, told: Mapping[str, Any]) -> None:
        changes = dict(told)
        document = changes.get("document")
        if document and document[1] < self.database.versions[site_id] and site_id not in self._held:
            return  # a later document has come since
        is_final, reboots = changes.pop("for_ever", False), changes.pop("reboots", False)
        if changes.get("reachable") is False:
            self.database.set_site(site_id, **changes, dark_since=at)
            if not is_final and not reboots:
                self._later(site_id, at, self.random.uniform(*self.behaviour.dark_s), {"reachable": True})
            return
        if not self.database.sites[site_id].reachable and "reachable" not in changes:
            self._later(site_id, at, 30, told)  # it works on in silence, and tells when it is heard again
            return
        self.database.set_site(site_id, **changes, report_at=at)
        if changes.get("reachable"):
            self._deliver(site_id, at)
            if self.behaviour.darkenings and not document:
                self._plan_darkness(site_id, at)
