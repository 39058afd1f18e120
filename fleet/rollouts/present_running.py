"""A running rollout for its page: what it does and waits for, its waves with their gates, its parts in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fleet.rollouts.counting import sites
from fleet.rollouts.effects import Effect
from fleet.rollouts.engine.approvals import people_needed, verdict
from fleet.rollouts.engine.facts import Head, Snapshot
from fleet.rollouts.engine.tick import Tick
from fleet.rollouts.engine.waves import seen as shown_by
from fleet.rollouts.gates import FailureLimit, Gate, Outcome, Soak, ask
from fleet.rollouts.models import GateEvaluation, Rollout, SiteStep, Wave
from fleet.rollouts.present_words import (
    FAILURES,
    GROUP_OF,
    GROUPS,
    OUTCOMES,
    STEPS,
    WAITS,
    WAVES,
    gate_words,
    span,
)
from fleet.rollouts.states import ACTIVE_WAVE, ENDED_ROLLOUTS, Pause, RolloutState, StepState, WaveState

Counts = Mapping[int, Mapping[str, int]]
EXAMPLES: Final = 3
_NOTHING: Final[Mapping[int, GateEvaluation]] = {}
_ICONS: Final = {
    "pause": "player-pause",
    "freeze": "hand-stop",
    "resume": "player-play",
    "resume-retry": "refresh",
    "resume-skip_failed": "chevron-right",
    "resume-skip_wave": "chevron-right",
    "resume-recheck": "shield-check",
    "start": "player-play",
    "approve": "check",
    "reject": "x",
    "submit": "user",
    "abort": "x",
    "roll_back_wave": "history",
    "roll_back": "history",
    "reopen_lane": "refresh",
    "answer": "check",
}


# Counts -----------------------------------------------------------------------------------------------------
def grouped(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by state (of counts_by_wave) as counts by group; every group is there."""
    found = dict.fromkeys(GROUPS, 0)
    for state, count in counts.items():
        found[GROUP_OF[StepState(state.removeprefix("lane:"))]] += count
    return found


def in_all(counts: Counts) -> dict[str, int]:
    """The same over all waves."""
    total: Counter[str] = Counter()
    for wave in counts.values():
        total.update(wave)
    return grouped(total)


def bars(groups: Mapping[str, int]) -> list[dict[str, Any]]:
    """Groups that are not empty, for a bar and its legend: `x` and `width` in thousandths of all."""
    total, at, found = sum(groups.values()), 0.0, []
    for name, count in groups.items():
        if count:
            width = 1000 * count / total
            found.append({"group": name, "label": GROUPS[name], "count": count, "x": round(at, 2), "width": width})
            at += width
    return found


# The headline -----------------------------------------------------------------------------------------------
def headline(rollout: Rollout, waves: Sequence[Wave], counts: Counts) -> str:
    """What the rollout does, in a sentence with numbers, for whoever sees these waves and counts."""
    groups, state = in_all(counts), RolloutState(rollout.state)
    total = sum(groups.values())
    done = f"{groups['proven']:,} of {sites(total)} proven"
    active = next((wave for wave in waves if wave.state in ACTIVE_WAVE), None)
    if state in (RolloutState.DRAFT, RolloutState.PLANNED):
        return f"A plan for {sites(total)}; nothing has happened yet."
    if state in (RolloutState.AWAITING_APPROVAL, RolloutState.SCHEDULED):
        return f"Nothing has happened yet: {sites(total)} in {_waves(len(waves))}."
    if state is RolloutState.ROLLING_BACK:
        going, back = groups["back"], groups["returned"]
        return f"It goes back: {sites(back)} are as before, {going:,} still to go back."
    if state is RolloutState.ABORTING:
        return f"It was given up: {sites(groups['work'] + groups['doubt'])} at work come to their end. {done}."
    if state in ENDED_ROLLOUTS:
        left = f", {groups['left']:,} still catching up" if groups["left"] else ""
        return f"It is over: {done}{left}."
    if active is None:
        return f"{'Between two waves' if rollout_whole(waves) else 'None of your waves is open now'}: {done}."
    here = grouped(counts.get(active.index, {}))
    words = WAVES[WaveState(active.state)][0].lower()
    name = (
        f"Wave {active.index + 1} of {len(waves)}, {active.name}, is {words}"
        if rollout_whole(waves)
        else (f"Wave {active.name} is {words}")
    )
    parts = [f"{here['proven']:,} of {sites(sum(here.values()))} proven"]
    parts += [
        f"{here[group]:,} {GROUPS[group].lower()}" for group in ("soaking", "work", "doubt", "failed") if here[group]
    ]
    return f"{name}: {', '.join(parts)}."


def rollout_whole(waves: Sequence[Wave]) -> bool:
    """Whether these are all waves: they count from 0 without a gap."""
    return [wave.index for wave in waves] == list(range(len(waves)))


def _waves(count: int) -> str:
    return f"{count} wave{'' if count == 1 else 's'}"


def waits_for(head: Head, now: datetime, names: Mapping[int, str]) -> str:
    """What it waits for, in a sentence; empty where it waits for nothing but its end."""
    row, plan = head.rollout, head.plan
    if row.state is RolloutState.PLANNED:
        return "It waits for somebody to ask for approval."
    if row.state is RolloutState.AWAITING_APPROVAL:
        missing = verdict(plan, head.plan_hash, head.approvals, now).missing(names)
        return f"It waits for approval: {missing}." if missing else "All have agreed; the next tick counts them."
    if row.state is RolloutState.SCHEDULED:
        return "It waits for its time to start."
    if row.state is RolloutState.PAUSED:
        ending = "aborted" if plan.expiries.on_expiry == "abort" else "failed"
        who = {
            Pause.STOPPED: "Somebody stopped it: no further site is begun",
            Pause.FROZEN: "Somebody froze it: sites at work hold at their next safe point",
            Pause.HELD: "It waits for a person to choose how to go on",
            None: "It waits for a person",
        }[row.pause]
        return f"{who}. If nobody does anything it is {ending}."
    if row.state is RolloutState.RUNNING:
        return _waits_by_itself(head, now)
    return ""


def _waits_by_itself(head: Head, now: datetime) -> str:
    wave = next((one for one in head.waves if one.state in ACTIVE_WAVE), None)
    if wave is None:
        return ""
    groups = grouped({str(key[1]): 0 for key in head.counts[wave.index]})
    for (lane, state, _), count in head.counts[wave.index].items():
        if not lane:
            groups[GROUP_OF[state]] += count
    if wave.state is WaveState.SOAKING:
        return "It waits for the soak, then its gates are asked."
    if groups["work"] + groups["doubt"]:
        return f"It waits for {sites(groups['work'] + groups['doubt'])} at work; {groups['wait']:,} wait their turn."
    if groups["wait"]:
        return f"It waits to begin {sites(groups['wait'])}."
    return "It waits for sites to soak."


# Waves ------------------------------------------------------------------------------------------------------
def wave_columns(
    waves: Sequence[Wave],
    counts: Counts,
    head: Head | None = None,
    now: datetime | None = None,
    kept: Mapping[int, GateEvaluation] = _NOTHING,
) -> list[dict[str, Any]]:
    """Waves as columns. With the head: gates with measured values and verdicts, and the clock of the soak."""
    tick = Tick(Snapshot(head), now) if head is not None and now is not None else None
    columns = []
    for wave in waves:
        label, look = WAVES[WaveState(wave.state)]
        groups = grouped(counts.get(wave.index, {}))
        column: dict[str, Any] = {
            "wave": wave,
            "number": wave.index + 1,
            "label": label,
            "look": look,
            "groups": groups,
            "bars": bars(groups),
            "size": sum(groups.values()),
            "is_active": wave.state in ACTIVE_WAVE,
        }
        if tick is not None:
            planned = tick.plan.waves[wave.index]
            column |= {
                "why": planned.why,
                "canary": planned.canary,
                "reason": wave.reason,
                "gates": _gates(tick, wave, kept.get(wave.index)),
                "soak": _soak(tick, wave),
            }
        columns.append(column)
    return columns


def _gates(tick: Tick, wave: Wave, kept: GateEvaluation | None) -> list[dict[str, Any]]:
    """Each gate: what it asks, what is measured, the verdict. Of waves that are over, what decided then."""
    gates = tick.plan.waves[wave.index].all_gates
    if wave.state == WaveState.PENDING:
        return [_gate(gate, "", "") for gate in gates]
    if kept is not None and wave.state not in ACTIVE_WAVE:
        results = kept.evaluation["results"]
        return [_gate(gate, one["outcome"], one["sentence"]) for gate, one in zip(gates, results, strict=True)]
    measured = shown_by(tick, tick.waves[wave.index])
    asked = [ask(gate, measured) for gate in gates]
    is_early = wave.state in (WaveState.OPEN, WaveState.SOAKING)
    return [_gate(one.gate, _so_far(one.gate, one.outcome, early=is_early), one.sentence) for one in asked]


def _so_far(gate: Gate, outcome: Outcome, *, early: bool) -> str:
    """Before its time only a limit can fail; a share that is not reached yet is not yet a failure."""
    if early and outcome is Outcome.FAIL and not isinstance(gate, FailureLimit):
        return Outcome.INCONCLUSIVE
    return outcome


def _gate(gate: Gate, outcome: str, sentence: str) -> dict[str, Any]:
    label, look = OUTCOMES[outcome]
    return {"what": gate_words(gate), "measured": sentence, "label": label, "look": look}


def _soak(tick: Tick, wave: Wave) -> dict[str, Any] | None:
    """The clock of a wave that soaks: how long, since when, until when."""
    gates = tick.plan.waves[wave.index].gates
    seconds = next((gate.seconds for gate in gates if isinstance(gate, Soak)), 0)
    if wave.state != WaveState.SOAKING:
        return None
    return {
        "lasts": span(seconds),
        "until": tick.until(wave.since, seconds),
        "share": min(1.0, tick.elapsed(wave.since) / seconds) if seconds else 1.0,
    }


# Other parts ------------------------------------------------------------------------------------------------
def buttons(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """Effects for buttons: the first that goes on stands out, what is dangerous is marked."""
    found = []
    for effect in effects:
        leads = effect.verb in ("approve", "submit", "start", "answer") or effect.key in ("resume", "resume-retry")
        found.append(
            {
                "effect": effect,
                "icon": _ICONS.get(effect.key, "player-play"),
                "css": "btn-danger-quiet" if effect.danger else "btn-primary" if leads else "btn-quiet",
            }
        )
    return found


def failures(counts: Mapping[str, int], failed: Sequence[SiteStep]) -> list[dict[str, Any]]:
    """Failures by class, the most frequent first, with examples."""
    return [
        {
            "label": FAILURES.get(name, name or "Could not go back"),
            "count": count,
            "examples": [step for step in failed if step.failure == name][:EXAMPLES],
        }
        for name, count in counts.items()
    ]


def lane_rows(found: Sequence[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """The catch-up lane: how many steps are how, and why they wait."""
    return [
        {
            "group": GROUP_OF[StepState(state)],
            "what": STEPS[StepState(state)],
            "why": WAITS.get(wait, ""),
            "count": count,
        }
        for state, wait, count in found
    ]


def provider_rows(found: Sequence[tuple[int, str, str, int]]) -> list[dict[str, Any]]:
    """Blast radius by provider: sites, and how they are, those with most sites first."""
    rows: dict[int, dict[str, Any]] = {}
    for pk, name, state, count in found:
        row = rows.setdefault(pk, {"name": name, "sites": 0, **dict.fromkeys(GROUPS, 0)})
        row["sites"] += count
        row[GROUP_OF[StepState(state)]] += count
    for row in rows.values():
        row["bars"] = bars({name: row[name] for name in GROUPS})
    return sorted(rows.values(), key=lambda row: (-row["sites"], row["name"]))


def step_row(step: SiteStep, waves: Mapping[int, str]) -> dict[str, Any]:
    """A step for a table: its shape, what it does, why."""
    state = StepState(step.state)
    why = FAILURES.get(step.failure, "") or WAITS.get(step.wait, "")
    return {
        "step": step,
        "group": GROUP_OF[state],
        "what": STEPS[state],
        "why": ": ".join(part for part in (why, step.reason) if part),
        "wave": waves.get(step.wave, str(step.wave + 1)),
    }


def agreement(head: Head, now: datetime, names: Mapping[int, str]) -> dict[str, Any]:
    """How many people must agree, how many do, and what is still missing."""
    said = verdict(head.plan, head.plan_hash, head.approvals, now)
    needed = people_needed(head.plan)
    return {"needed": needed, "have": needed - said.people, "missing": said.missing(names)}
