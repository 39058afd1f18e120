"""What cannot work in a plan, found before anything starts, in sentences. Pure."""

from collections import Counter
from collections.abc import Iterator

from fleet.rollouts.counting import are
from fleet.rollouts.counting import sites as counted
from fleet.rollouts.gates import Deadline, FailureLimit, Gate, MetricLimit, MinSample, Soak
from fleet.rollouts.plan import Action, Plan, Wave
from fleet.rollouts.states import Failure

Fault = tuple[str, str]


def faults(plan: Plan) -> list[str]:
    """A sentence for each thing that cannot work; empty where all can. Zones are looked at by the preview."""
    return [sentence for _, sentence in placed_faults(plan)]


def placed_faults(plan: Plan) -> list[Fault]:
    """The same, each with the member that it is about (`waves[0]`, `approvals.needed`)."""
    return [*_wave_faults(plan), *_gate_faults(plan), *_other_faults(plan)]


def _wave_faults(plan: Plan) -> Iterator[Fault]:
    if not plan.waves:
        yield "waves", "There are no waves."
    seen: dict[int, str] = {}
    names = [wave.name for wave in plan.waves]
    for name, count in Counter(names).items():
        if count > 1:
            last = len(names) - 1 - names[::-1].index(name)
            yield f"waves[{last}].name", f"{count} waves are called {name!r}."
    for index, wave in enumerate(plan.waves):
        place = f"waves[{index}]"
        if not wave.sites:
            yield place, f"Wave {wave.name!r} has no sites."
        twice = len(wave.sites) - len(set(wave.sites))
        if twice:
            yield place, f"Wave {wave.name!r} names {counted(twice)} twice."
        elsewhere = Counter(seen[site] for site in set(wave.sites) if site in seen)
        for other, count in elsewhere.items():
            yield (
                place,
                f"{counted(count)} {are(count)} in wave {other!r} and in wave {wave.name!r}.",
            )
        seen |= dict.fromkeys(wave.sites, wave.name)


def _gate_faults(plan: Plan) -> Iterator[Fault]:
    for index, wave in enumerate(plan.waves):
        for kind, count in Counter(type(gate) for gate in wave.gates).items():
            if count > 1 and kind not in (FailureLimit, MetricLimit):
                tag = kind.__struct_config__.tag
                yield f"waves[{index}]", f"Wave {wave.name!r} has {count} gates of one kind ({tag})."
        for number, gate in enumerate(wave.gates):
            reason = _gate_fault(plan, wave, gate)
            if reason:
                yield f"waves[{index}].gates[{number}]", f"Wave {wave.name!r} {reason}."


def _gate_fault(plan: Plan, wave: Wave, gate: Gate) -> str:
    match gate:
        case MinSample(sites) if sites > len(wave.sites):
            return f"can never pass: it has {counted(len(wave.sites))}, and its sample needs {sites}"
        case FailureLimit(_, None, None):
            return "has a failure limit with neither a count nor a share"
        case MetricLimit(name, None, None):
            return f"has a limit on {name!r} with no bound"
        case MetricLimit(name, float(low), float(high)) if low > high:
            return f"can never pass: {name!r} cannot be at least {low:g} and at most {high:g}"
        case Deadline(seconds) if seconds < _shortest_s(plan, wave):
            return f"can never pass: it needs {_shortest_s(plan, wave)} s at the least, and its deadline is {seconds} s"
    return ""


def _shortest_s(plan: Plan, wave: Wave) -> int:
    """The least time from a wave's opening to its gate: its starts at their rate, a site's soak, and the wave's own."""
    rate = plan.caps.starts_per_minute
    starting = max(0, len(wave.sites) - rate) * 60 // rate if rate else 0
    soak = max((gate.seconds for gate in wave.gates if isinstance(gate, Soak)), default=0)
    return starting + max(plan.times.soak_s, soak)


def _other_faults(plan: Plan) -> Iterator[Fault]:
    if Failure.LOST in plan.retries:
        yield "retries.lost", "A lost site cannot be tried again: it is asked until it answers."
    if plan.actions.get(Failure.LOST) is Action.CONTINUE:
        yield (
            "actions.lost",
            "A rollout cannot go on over lost sites: an update that cuts uplinks would reach every site.",
        )
    if plan.approvals.needed < len(set(plan.approvals.providers)):
        yield "approvals.needed", "More providers must approve than approvals are needed."
    if plan.expiries.pause_s == 0 or plan.expiries.approval_s == 0:
        yield "expiries", "A pause or an approval that expires at once lets nobody act."
