"""What a wave must show before the next one opens: a list of gates, each a small value of a plan. Pure.

Gates that a plan does not name are added by `gates_of`: a sample of one; 90 % proven (in a canary: all); failures of
any class hold at 10 % (in a canary: at one); and lost sites hold at three, or at 2 %, whichever comes first (in a
canary: at one), so that an update that cuts every uplink stops in its first wave.
"""

from collections.abc import Sequence
from enum import StrEnum
from math import ceil
from typing import Annotated, Final

from msgspec import Meta, Struct

from fleet.rollouts.states import Failure

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[int, Meta(ge=0, le=366 * 86_400)]
Text = Annotated[str, Meta(max_length=500)]


class Outcome(StrEnum):
    """What a gate answers. Only `pass` opens the next wave; the others hold, `inconclusive` too."""

    GOES = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class MinSample(Struct, frozen=True, forbid_unknown_fields=True, tag="min_sample"):
    """At least so many sites were tried to their end (proven or failed); fewer is inconclusive."""

    sites: Count


class SuccessShare(Struct, frozen=True, forbid_unknown_fields=True, tag="success_share"):
    """Of those, at least this share is proven."""

    share: Share


class FailureLimit(Struct, frozen=True, forbid_unknown_fields=True, tag="failures"):
    """Holds as soon as `count` sites, or `share` of the wave, failed in one of `classes` (empty: any).

    `share` is of the wave's sites. Looked at on every tick. A class whose action is `continue` is not counted by a
    limit on any class.
    """

    classes: tuple[Failure, ...] = ()
    count: Count | None = None
    share: Share | None = None


class Soak(Struct, frozen=True, forbid_unknown_fields=True, tag="soak"):
    """So long must pass after the last site was changed."""

    seconds: Seconds


class Deadline(Struct, frozen=True, forbid_unknown_fields=True, tag="deadline"):
    """The wave must have passed so long after it opened."""

    seconds: Seconds


class MetricLimit(Struct, frozen=True, forbid_unknown_fields=True, tag="metric"):
    """A figure of the wave's sites lies within bounds, such as `cpu_ratio` or `mem_ratio`."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    at_least: float | None = None
    at_most: float | None = None


class SlaBudget(Struct, frozen=True, forbid_unknown_fields=True, tag="sla_budget"):
    """At least this share of the availability budget of the wave's sites is left."""

    share_left: Share


class Human(Struct, frozen=True, forbid_unknown_fields=True, tag="human"):
    """A person looks, and says yes."""

    question: Text = ""


Gate = MinSample | SuccessShare | FailureLimit | Soak | Deadline | MetricLimit | SlaBudget | Human


class Measure(Struct, frozen=True):
    """A figure that was measured; None where there is none (yet), and `error` where asking for it failed."""

    value: float | None = None
    error: str = ""


class Seen(Struct, frozen=True):
    """What a wave has shown so far. `failed` by class; `counted` leaves out classes whose action is `continue`."""

    size: int
    proven: int
    failed: dict[Failure, int]
    counted: dict[Failure, int]
    open_s: float
    soaked_s: float
    metrics: dict[str, Measure]
    budget_left: Measure | None
    answer: bool | None

    @property
    def tried(self) -> int:
        """Sites that were tried to their end."""
        return self.proven + sum(self.failed.values())


class Result(Struct, frozen=True):
    """What one gate answers, in a word and in a sentence with the values that it saw."""

    gate: Gate
    outcome: Outcome
    sentence: str


class Evaluation(Struct, frozen=True):
    """What all gates answer together, and all that they saw: kept as evidence."""

    outcome: Outcome
    results: tuple[Result, ...]
    seen: Seen

    @property
    def sentence(self) -> str:
        """Why the wave does not pass; empty where it does."""
        return "; ".join(result.sentence for result in self.results if result.outcome is not Outcome.GOES)


DEFAULT_SHARE: Final = {True: SuccessShare(1.0), False: SuccessShare(0.9)}
DEFAULT_ANY: Final = {True: FailureLimit((), 1), False: FailureLimit((), None, 0.1)}
DEFAULT_LOST: Final = {True: FailureLimit((Failure.LOST,), 1), False: FailureLimit((Failure.LOST,), 3, 0.02)}
_WORST_FIRST: Final = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.GOES)


def gates_of(gates: Sequence[Gate], *, canary: bool) -> tuple[Gate, ...]:
    """The gates of a wave, with those that no wave goes without."""
    limits = [gate for gate in gates if isinstance(gate, FailureLimit)]
    given = {type(gate) for gate in gates}
    added: list[Gate] = []
    if MinSample not in given:
        added.append(MinSample(1))
    if SuccessShare not in given:
        added.append(DEFAULT_SHARE[canary])
    if all(limit.classes for limit in limits):
        added.append(DEFAULT_ANY[canary])
    if not any(Failure.LOST in limit.classes for limit in limits):
        added.append(DEFAULT_LOST[canary])
    return (*gates, *added)


def evaluate(gates: Sequence[Gate], seen: Seen) -> Evaluation:
    """Ask every gate; together they are as bad as the worst."""
    results = tuple(ask(gate, seen) for gate in gates)
    given = {result.outcome for result in results}
    return Evaluation(next((o for o in _WORST_FIRST if o in given), Outcome.GOES), results, seen)


def crossed(gates: Sequence[Gate], seen: Seen) -> Evaluation | None:
    """The evaluation of what is watched on every tick (limits and deadlines), if one of them fails."""
    watched = [gate for gate in gates if isinstance(gate, FailureLimit | Deadline)]
    evaluation = evaluate(watched, seen)
    return evaluation if evaluation.outcome is Outcome.FAIL else None


def ask(gate: Gate, seen: Seen) -> Result:
    """What one gate answers to what was seen."""
    match gate:
        case MinSample(sites):
            enough = seen.tried >= sites
            sentence = f"{seen.tried} sites tried, {sites} needed"
            return Result(gate, Outcome.GOES if enough else Outcome.INCONCLUSIVE, sentence)
        case SuccessShare(share):
            return _success_share(gate, share, seen)
        case FailureLimit():
            return _failures(gate, seen)
        case Soak(seconds):
            over = seen.soaked_s >= seconds
            sentence = f"soaked {seen.soaked_s:.0f} of {seconds} s"
            return Result(gate, Outcome.GOES if over else Outcome.INCONCLUSIVE, sentence)
        case Deadline(seconds):
            late = seen.open_s > seconds
            return Result(gate, Outcome.FAIL if late else Outcome.GOES, f"open for {seen.open_s:.0f} of {seconds} s")
        case MetricLimit(name, at_least, at_most):
            return _within(gate, name, seen.metrics.get(name, Measure()), at_least, at_most)
        case SlaBudget(share_left):
            if seen.budget_left is None:
                sentence = "the SLA budget is not configured: no contract promises availability for sites of this wave"
                return Result(gate, Outcome.INCONCLUSIVE, sentence)
            return _within(gate, "SLA budget left", seen.budget_left, share_left, None)
        case Human():
            outcome = {True: Outcome.GOES, False: Outcome.FAIL, None: Outcome.INCONCLUSIVE}[seen.answer]
            words = {True: "a person said yes", False: "a person said no", None: "a person has not answered"}
            return Result(gate, outcome, words[seen.answer])


def _success_share(gate: SuccessShare, share: float, seen: Seen) -> Result:
    if not seen.tried:
        return Result(gate, Outcome.INCONCLUSIVE, "no site was tried")
    reached = seen.proven / seen.tried
    sentence = f"{seen.proven} of {seen.tried} proven, {share:.1%} needed"
    return Result(gate, Outcome.GOES if reached >= share else Outcome.FAIL, sentence)


def _failures(gate: FailureLimit, seen: Seen) -> Result:
    failed = sum(seen.failed.get(name, 0) for name in gate.classes) if gate.classes else sum(seen.counted.values())
    limits = [gate.count] if gate.count else []
    if gate.share:
        limits.append(max(1, ceil(gate.share * seen.size - 1e-9)))
    words = ", ".join(gate.classes) or "any class"
    sentence = f"{failed} failed ({words}), held at {min(limits)}"
    return Result(gate, Outcome.FAIL if failed >= min(limits) else Outcome.GOES, sentence)


def _within(gate: Gate, name: str, measure: Measure, at_least: float | None, at_most: float | None) -> Result:
    if measure.error:
        return Result(gate, Outcome.ERROR, f"{name}: {measure.error}")
    if measure.value is None:
        return Result(gate, Outcome.INCONCLUSIVE, f"{name}: there is no figure")
    low = at_least is not None and measure.value < at_least
    high = at_most is not None and measure.value > at_most
    bounds = " and ".join(
        text
        for text in (at_least is not None and f"at least {at_least:g}", at_most is not None and f"at most {at_most:g}")
        if text
    )
    return Result(gate, Outcome.FAIL if low or high else Outcome.GOES, f"{name} is {measure.value:g}, {bounds} allowed")
