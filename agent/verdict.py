"""The site's own verdict from the results of its probes, with hysteresis.

Pure: results and `now` in, verdict out; no I/O, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from agent.protocol import MAX_REASONS, STATES, Verdict, VerdictState

REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Rule:
    """`fall` results in a row that are worse than the standing make it worse, `rise` better ones make it better."""

    name: str
    fall: int
    rise: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one look of a probe found: how bad it is, and a short sentence."""

    state: VerdictState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds of a probe: `detail` is what the last look said that was not good. `recent` are the last states."""

    state: VerdictState = "up"
    detail: str = ""
    recent: tuple[VerdictState, ...] = ()


def step(rule: Rule, standing: Standing, result: Result) -> Standing:
    """The standing after one more result.

    It gets as bad as the best of the last `fall` results, and as good as the worst of the last `rise`: so a probe that
    says now degraded, now down is degraded, and one result alone changes nothing unless the rule says one.
    """
    recent = (*standing.recent, result.state)[-max(rule.fall, rule.rise) :]
    detail = printable(result.detail) if result.state != "up" else standing.detail
    state = standing.state
    if len(recent) >= rule.fall and (best := min(recent[-rule.fall :], key=STATES.index)) and _worse(best, state):
        state = best
    if len(recent) >= rule.rise and (worst := max(recent[-rule.rise :], key=STATES.index)) and _worse(state, worst):
        state = worst
    return replace(standing, state=state, detail=detail, recent=recent)


def judge(standings: Iterable[tuple[str, Standing]], before: Verdict, now: datetime) -> Verdict:
    """The worst of all standings by name, and why, sorted; `since` is `now` only if the state changed."""
    bad = [(name, standing) for name, standing in standings if standing.state != "up"]
    states: list[VerdictState] = ["up", *(standing.state for _, standing in bad)]
    state = max(states, key=STATES.index)
    reasons = sorted(f"{printable(name)}: {standing.detail}"[:REASON_CHARS] for name, standing in bad)
    return Verdict(state, before.since if state == before.state else now, tuple(reasons[:MAX_REASONS]))


def _worse(one: VerdictState, other: VerdictState) -> bool:
    return STATES.index(one) > STATES.index(other)


def printable(text: str) -> str:
    """Bounded, and fit for a report, an entry of the journal, a log and a terminal, whatever a probe has quoted."""
    return "".join(c if c.isprintable() else "?" for c in text[:REASON_CHARS])
