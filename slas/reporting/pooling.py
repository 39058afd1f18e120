"""Figures of several promises or sites together, and of their outages. Pure.

Each was counted by the rules of its own contract: added up are the milliseconds that its exact shares stand for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from slas.engine import Figures, Totals
from slas.reporting.counted import Synced
from slas.reporting.paper import Lost, Place, Promise

HOUR_MS = 3_600_000


class _Judged:
    """Several promises or sites, by how many of them have which verdict."""

    __slots__ = ()
    met: int
    missed: int
    open: int

    @property
    def count(self) -> int:
        """How many of them have a verdict."""
        return self.met + self.missed + self.open

    @property
    def verdict(self) -> str | None:
        """The worst of them."""
        return "MISSED" if self.missed else "UNDETERMINED" if self.open else "MET" if self.met else None


@dataclass(frozen=True, slots=True)
class Pooled(_Judged):
    """Promises or sites as one: verdicts by word, targets from the least to the most."""

    measure: str
    totals: Totals
    shares: Figures
    met: int
    missed: int
    open: int
    targets: tuple[Fraction, Fraction] | None = None


@dataclass(frozen=True, slots=True)
class Outages:
    """How many sites went down, how long each outage was on average and at most, in hours within the period."""

    count: int
    mean_h: Fraction | None
    longest_h: Fraction | None
    lasting: int


@dataclass(frozen=True, slots=True)
class Versions(_Judged):
    """Promises of version synchronisation as one: offers by outcome, the share on time of what is decided."""

    on_time: int
    late: int
    pending: int
    share: Fraction | None
    met: int
    missed: int
    open: int
    targets: tuple[Fraction, Fraction] | None


def versions_of(rows: Sequence[Synced]) -> Versions:
    """Those promises together."""
    on_time, late = sum(one.on_time for one in rows), sum(one.late for one in rows)
    words = [one.verdict for one in rows]
    targets = [one.target for one in rows]
    return Versions(
        on_time,
        late,
        sum(one.pending for one in rows),
        Fraction(on_time, on_time + late) if on_time + late else None,
        words.count("MET"),
        words.count("MISSED"),
        words.count("UNDETERMINED"),
        (min(targets), max(targets)) if targets else None,
    )


def pooled(measure: str, rows: Iterable[Promise | Place]) -> Pooled:
    """Those of one measure together; the others are left out."""
    own = [one for one in rows if one.measure == measure]
    totals = sum((one.totals for one in own), Totals())
    words = [one.verdict for one in own]
    targets = [one.target for one in own if isinstance(one, Promise)]
    return Pooled(
        measure,
        totals,
        _shares(own),
        words.count("MET"),
        words.count("MISSED"),
        words.count("UNDETERMINED"),
        (min(targets), max(targets)) if targets else None,
    )


def outages_of(rows: Sequence[Lost], kind: str = "down") -> Outages:
    """The outages of one kind."""
    own = [one for one in rows if one.kind == kind]
    hours = [Fraction(one.lasted_ms, HOUR_MS) for one in own]
    mean = sum(hours, Fraction(0)) / len(hours) if hours else None
    return Outages(len(own), mean, max(hours, default=None), sum(one.end is None for one in own))


# ------------------------------------------------------------------------------------------------------------
def _shares(rows: Sequence[Promise | Place]) -> Figures:
    known = [(one.shares, one.totals.scheduled_ms - one.totals.excluded_ms, one.totals.unknown_ms) for one in rows]

    def share(parts: Iterable[tuple[Fraction | None, int]]) -> Fraction | None:
        counted = [(part, whole) for part, whole in parts if part is not None and whole]
        whole = sum(ms for _, ms in counted)
        return sum((part * ms for part, ms in counted), Fraction(0)) / whole if whole else None

    return Figures(
        share((shares.measured, counted - unknown) for shares, counted, unknown in known),
        share((shares.floor, counted) for shares, counted, _ in known),
        share((shares.ceiling, counted) for shares, counted, _ in known),
        share((shares.coverage, counted) for shares, counted, _ in known),
    )
