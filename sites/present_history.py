"""Corrected history put into words and shapes for pages. Pure: no query is made here."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sites.models import ComponentSpan, StateInterval
from sites.present import evidence_text


@dataclass(frozen=True, slots=True)
class Fix:
    """How an interval fell: when, and which of its site's journal entries corrected it, if it was they."""

    at: datetime
    from_seq: int | None
    to_seq: int | None


def first_recorded(rows: Sequence[StateInterval]) -> list[StateInterval]:
    """Those that no correction brought, so what was on record before any. `rows` hold those that fell, too."""
    corrected_at = {(row.axis, row.superseded_at) for row in rows if row.superseded_at is not None}
    return [row for row in rows if (row.axis, row.recorded_at) not in corrected_at]


def fix_of(row: StateInterval, rows: Sequence[StateInterval]) -> Fix | None:
    """What corrected an interval that fell: the entries that prove what took its place within its time."""
    if row.superseded_at is None:
        return None
    proofs = [
        proof
        for other in rows
        if other.axis == row.axis and other.recorded_at == row.superseded_at and _touch(row, other)
        if (proof := _journal(other.evidence)) is not None
    ]
    if not proofs:
        return Fix(row.superseded_at, None, None)
    return Fix(row.superseded_at, min(proof["from_seq"] for proof in proofs), max(proof["to_seq"] for proof in proofs))


def _touch(one: StateInterval, other: StateInterval) -> bool:
    return (other.valid_to is None or one.valid_from <= other.valid_to) and (
        one.valid_to is None or other.valid_from <= one.valid_to
    )


def _journal(evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    found = (evidence or {}).get("journal")
    return found if isinstance(found, dict) else None


def proof_text(evidence: Mapping[str, Any]) -> str:
    """What proves an interval, short: what was answered to a poll, or why nothing was; journal entries in full."""
    if "poll" not in evidence:
        return evidence_text(evidence)
    if "verdict" in evidence:
        return ": ".join(["it answered " + str(evidence["verdict"]), *map(str, evidence.get("reasons") or ())])
    return ": ".join(filter(None, ["no report", str(evidence.get("detail") or evidence.get("failure") or "")]))


@dataclass(frozen=True, slots=True)
class Change:
    """One thing whose version changed, or that came (`before` empty) or went (`after` empty)."""

    kind: str
    name: str
    before: str
    after: str


def changes_of(spans: Sequence[ComponentSpan]) -> list[tuple[ComponentSpan, list[Change]]]:
    """Each span that follows another, with what changed at its beginning; newest first. `spans`: oldest first."""
    found = []
    for before, after in itertools.pairwise(spans):
        changes = _differences(before, after)
        if changes:
            found.append((after, changes))
    return found[::-1]


def _differences(before: ComponentSpan, after: ComponentSpan) -> list[Change]:
    old, new = _versions(before), _versions(after)
    return [
        Change(kind, name, _text(old.get((kind, name))), _text(new.get((kind, name))))
        for kind, name in sorted(old.keys() | new.keys())
        if old.get((kind, name)) != new.get((kind, name))
    ]


def _versions(span: ComponentSpan) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    return {(kind, name): (version, digest) for kind, name, version, digest in span.component_set.components}


def _text(version: tuple[str | None, str | None] | None) -> str:
    """The version, and the digest beside it where there is one: it may be all that changed."""
    if version is None:
        return ""
    return " ".join(filter(None, [version[0], (version[1] or "")[7:15]])) or "—"
