"""Why an outage was, by rule from facts. Pure: what is known of its begin comes in, the first rule that fits goes out.

The order is from what is surest: our own blindness, maintenance that both sides agreed on, a change that was at work,
a machine that came back in another boot, a link that was cut while the site's own journal says that it ran on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slas.states import CHARGED, Cause, Charged, Kind


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an outage. `step` is the rollout's step that was at work, `document` another change that was.

    `window` is agreed maintenance and `window_side` who asked for it; `rebooted` that the site came back in another
    boot; `ran_on` that its journal says it was well all the while; `reasons_of_workloads` that nothing but workloads
    was said to be wrong.
    """

    kind: Kind
    blind: int | None = None
    window: int | None = None
    window_side: str = ""
    step: Mapping[str, Any] = field(default_factory=dict)
    document: int | None = None
    rebooted: bool = False
    ran_on: bool = False
    reasons_of_workloads: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A cause, whose it is, what that rests on, and the rule in a sentence."""

    cause: Cause
    charged_to: Charged
    proof: dict[str, Any]
    rule: str


def judge(known: Known) -> Judged:
    """The first rule that fits."""
    if known.kind is Kind.UNREACHABLE and known.blind is not None:
        return _of(Cause.CENTRE, {"blind": known.blind}, "The centre itself could not watch.")
    if known.window is not None:
        proof = {"window": known.window}
        return Judged(Cause.MAINTENANCE, Charged(known.window_side), proof, "Maintenance that was agreed on had begun.")
    if known.step:
        return _of(Cause.OPERATOR_ROLLOUT, dict(known.step), "A rollout was at work at the site.")
    if known.document is not None:
        return _of(Cause.OPERATOR_CHANGE, {"document": known.document}, "A change that was ordered was at work.")
    if known.rebooted:
        return _of(Cause.POWER, {}, "The machine came back in another boot: power, or hardware.")
    if known.kind is Kind.UNREACHABLE and known.ran_on:
        return _of(Cause.LINK, {}, "The site's own journal says that it ran on.")
    if known.kind is not Kind.UNREACHABLE and known.reasons_of_workloads:
        return _of(Cause.WORKLOAD, {}, "Nothing but workloads was said to be wrong.")
    return _of(Cause.UNKNOWN, {}, "No rule fits what is known.")


def _of(cause: Cause, proof: dict[str, Any], rule: str) -> Judged:
    return Judged(cause, CHARGED[cause], proof, rule)
