"""Disputes in words and rows."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from fleet.kit.tenancy import Rights, Scope
from slas.models import Dispute, DisputeStep
from slas.present.incidents import KINDS, LOOKS, cause_words, charged_words
from slas.selectors.disputes import to_decide
from slas.states import DisputeState, Kind, Step

ATTENTION_SHOWN: Final = 20
# A state is a shape and a word, never colour alone.
STATES: Final = {
    DisputeState.OPEN: ("degraded", "Open"),
    DisputeState.ACCEPTED: ("up", "Accepted"),
    DisputeState.ADJUSTED: ("up", "Adjusted"),
    DisputeState.REJECTED: ("down", "Rejected"),
    DisputeState.WITHDRAWN: ("unknown", "Withdrawn"),
}
STEPS: Final = {
    Step.FILED: ("alert-triangle", "filed it"),
    Step.EVIDENCE: ("upload", "added evidence"),
    Step.ACCEPTED: ("check", "accepted it"),
    Step.ADJUSTED: ("check", "adjusted it"),
    Step.REJECTED: ("x", "rejected it"),
    Step.WITHDRAWN: ("x", "withdrew it"),
}


def row_of(row: Dispute) -> dict[str, Any]:
    """A line of a list."""
    look, label = STATES[DisputeState(row.state)]
    return {
        "dispute": row,
        "look": look,
        "label": label,
        "kind": KINDS[Kind(row.incident.kind)],
        "kind_look": LOOKS[row.incident.kind],
        "cause": cause_words(row.cause),
        "claimed_s": (row.ends - row.begins).total_seconds(),
    }


def dispute_rows(who: Scope, rights: Rights) -> list[dict[str, Any]]:
    """Open disputes that wait for the viewer's decision, as rows of what needs attention."""
    return [
        {
            "matter": "dispute",
            "dispute": row,
            "since": row.filed_at,
            "why": f"{row.provider.name} says: {cause_words(row.cause).lower()}",
        }
        for row in to_decide(who, rights, limit=ATTENTION_SHOWN)
    ]


def steps_of(steps: Iterable[DisputeStep]) -> list[dict[str, Any]]:
    """The trail, oldest first, with what came of a decision in words."""
    rows = []
    for step in steps:
        icon, verb = STEPS[Step(step.kind)]
        rows.append({"step": step, "icon": icon, "verb": verb, "came": _came(step.proof)})
    return rows


def _came(proof: dict[str, Any]) -> str:
    if "charged_to" not in proof:
        return ""
    lasted = datetime.fromisoformat(proof["ends"]) - datetime.fromisoformat(proof["begins"])
    parts = [f"{cause_words(proof['cause'])}, charged to {charged_words(proof['charged_to'])}"]
    if proof.get("adjustments"):
        parts.append(f"at most {lasted.total_seconds():,.0f} s no longer count")
    if "correction" in proof:
        parts.append("the cause of the outage is corrected")
    return "; ".join(parts)
