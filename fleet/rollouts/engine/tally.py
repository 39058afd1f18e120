"""Counters of one tick: what the database counted, kept right while the tick moves steps. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, cast

from fleet.rollouts.engine.facts import CountKey, Counts, Flight, Step
from fleet.rollouts.plan import Caps
from fleet.rollouts.states import Failure, StepState

_NONE: Final[Mapping[CountKey, int]] = {}


class Tally:
    """Steps by wave, lane, state and failure class; slots in flight; starts of the last minute."""

    def __init__(self, counts: Counts, flight: Flight) -> None:
        self._waves: dict[int, Mapping[CountKey, int]] = dict(counts)
        self._own: set[int] = set()
        self.wave = flight.wave
        self.lane = flight.lane
        self.started = flight.started
        self.lane_started = flight.lane_started
        self._providers = Counter(flight.by_provider)
        self._regions = Counter(flight.by_region)

    def count(self, states: Collection[StepState], wave: int | None = None, *, lane: bool | None = None) -> int:
        """How many steps are in one of `states`; `lane` None counts both."""
        waves = self._waves.values() if wave is None else (self._waves.get(wave, _NONE),)
        return sum(
            n for keys in waves for (laned, state, _), n in keys.items() if state in states and lane in (None, laned)
        )

    def failed(self, wave: int) -> dict[Failure, int]:
        """Failed steps of a wave, outside the lane, by class."""
        keys = self._waves.get(wave, _NONE)
        return {
            failure: n
            for (lane, state, failure), n in keys.items()
            if state is StepState.FAILED and not lane and failure and n
        }

    def moved(self, before: Step, after: Step) -> None:
        """A step is no longer `before`, but `after`."""
        keys = self._keys(before.wave)
        keys[before.lane, before.state, before.failure] -= 1
        keys[after.lane, after.state, after.failure] += 1
        self._slot(before, -1)
        self._slot(after, 1)

    def moved_all(self, wave: int | None, state: StepState, lane: bool | None, target: StepState) -> None:
        """All steps of a wave (or of all) that were in `state` are in `target`, without a failure."""
        for index in list(self._waves) if wave is None else [wave]:
            keys = self._keys(index)
            for key in [key for key in keys if key[1] is state and lane in (None, key[0])]:
                laned = key[0] and target is not StepState.QUEUED
                keys[laned, target, None] += keys.pop(key)

    def room(self, cap: int, rate: int | None, *, lane: bool = False) -> int:
        """How many more may be in flight now; `rate` is the most starts in a minute."""
        free = cap - (self.lane if lane else self.wave)
        if rate is not None:
            free = min(free, rate - (self.lane_started if lane else self.started))
        return max(0, free)

    def full(self, caps: Caps) -> tuple[frozenset[int], frozenset[str]]:
        """Providers and regions that have no slot left."""
        providers = {k for k, n in self._providers.items() if caps.per_provider and n >= caps.per_provider}
        regions = {k for k, n in self._regions.items() if caps.per_region and n >= caps.per_region}
        return frozenset(providers), frozenset(regions)

    def fits(self, step: Step, caps: Caps) -> bool:
        """Whether the step's provider and region have a slot left."""
        provider_fits = caps.per_provider is None or self._providers[step.provider] < caps.per_provider
        return provider_fits and (caps.per_region is None or self._regions[step.region] < caps.per_region)

    def start(self, *, lane: bool) -> None:
        """One more was started."""
        if lane:
            self.lane_started += 1
        else:
            self.started += 1

    def _keys(self, wave: int) -> Counter[CountKey]:
        """This tick's own copy of a wave's counters."""
        if wave not in self._own:
            self._own.add(wave)
            self._waves[wave] = Counter(self._waves.get(wave, _NONE))
        return cast(Counter[CountKey], self._waves[wave])

    def _slot(self, step: Step, change: int) -> None:
        if not step.slot:
            return
        if step.lane:
            self.lane += change
        else:
            self.wave += change
        self._providers[step.provider] += change
        self._regions[step.region] += change
