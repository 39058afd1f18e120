"""What sites were told to run, put into words for pages. Pure: no query is made here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sites.changes import Change, changes
from sites.models import DesiredDocument, DesiredReceipt, SiteDesired
from sites.states import Answer


@dataclass(frozen=True, slots=True)
class Shown:
    """A state as a page shows it: a word, its look (`down`, `degraded` or nothing), its icon, and what it means."""

    label: str
    look: str
    icon: str
    lead: str


_REFUSALS = {
    "too_large": "It is larger than the site takes.",
    "signature": "The site does not know the key that signed it. Somebody must look at the agent's trust.",
    "malformed": "The site cannot read it; its agent may be older than this document.",
    "not_mine": "The site says that it is meant for another one.",
    "older": "The site has had a newer version already.",
    "equivocation": "The site has another document of this very version. Find out who signed it before you go on.",
    "expired": "It had run out before the site took it. Apply it again.",
    "blobs_missing": "The site lacks a configuration or a wheel; it is handed over again.",
    "storage": "The site has no room to keep it; it is handed over again.",
}
_STATES = {
    "accepted": Shown("Accepted", "", "clock", "The site has it and begins."),
    "staging": Shown("Staging", "", "clock", "The site fetches what is new. Nothing has changed there yet."),
    "staged": Shown("Staged", "", "clock", "All that is new is at the site. It changes what runs next."),
    "applying": Shown("Applying", "", "refresh", "The site is changing what runs."),
    "held": Shown("Held", "degraded", "player-pause", "The site waits at a safe point."),
    "applied": Shown("Applied", "", "check", "The site runs this version."),
    "failed": Shown("Failed", "down", "alert-triangle", "The site could not apply it; what ran before still runs."),
    "rolled_back": Shown("Rolled back", "down", "alert-triangle", "The site undid it; what ran before runs again."),
    "superseded": Shown("Superseded", "", "minus", "A newer version took its place."),
}
_NOTHING = Shown("Never told", "", "minus", "The site was never told what to run, and runs what somebody set up there.")
_UNSIGNED = Shown("Waits for its signature", "", "clock", "The signer signs it within seconds while it runs.")
_SIGNED = Shown("Being handed over", "", "clock", "It is signed, and is handed over when the site is reached.")
_PASSED = Shown("Passed over", "", "minus", "A newer version was given out before the site said anything of it.")


def shown_of(row: DesiredDocument, standing: SiteDesired | None, receipt: DesiredReceipt | None) -> Shown:
    """The state of a document: by what the site says now if it is its newest, else by the last receipt for it."""
    if row.refused:
        return Shown("Not signed", "down", "alert-triangle", f"The signer refuses it: {row.refused}")
    if standing is None or standing.document_id != row.pk:
        return _STATES.get(receipt.state, _PASSED) if receipt else _PASSED
    if standing.answer == Answer.REFUSED:
        meaning = _REFUSALS.get(standing.answer_reason, "")
        return Shown("Refused", "down", "alert-triangle", f"The site refuses it. {meaning}")
    if (standing.reported_epoch, standing.reported_version) == (row.epoch, row.version):
        return _STATES.get(standing.reported_state, _STATES["accepted"])
    if standing.answer == Answer.ACCEPTED:
        return _STATES["accepted"]
    return _UNSIGNED if row.signed_at is None else _SIGNED


def newest_shown(standing: SiteDesired | None, receipt: DesiredReceipt | None) -> Shown:
    """The state of the newest document of a site."""
    if standing is not None and standing.recovering:
        lead = "The database was restored. Nothing is given out or signed for the site until it has told its counters."
        if standing.recovery_problem:
            lead += f" What it tells is not believed: {standing.recovery_problem}. It is asked again each minute."
        return Shown("Recovering", "degraded", "clock", lead)
    if standing is None or standing.document is None:
        return _NOTHING
    return shown_of(standing.document, standing, receipt)


@dataclass(frozen=True, slots=True)
class Version:
    """A document in the history of a site, with what it changed of the one before."""

    row: DesiredDocument
    shown: Shown
    changes: Sequence[Change]
    note: str


def versions_of(
    documents: Sequence[DesiredDocument],
    standing: SiteDesired | None,
    receipts: Mapping[tuple[int, int], DesiredReceipt],
    bodies: Mapping[str, bytes],
    *,
    more: bool,
) -> list[Version]:
    """`documents`, newest first, each beside the one after it in the list; `more`: the last is only compared with."""
    found = []
    for number, row in enumerate(documents):
        before = documents[number + 1] if number + 1 < len(documents) else None
        if before is None and more:
            break
        shown = shown_of(row, standing, receipts.get((row.epoch, row.version)))
        changed = changes(before.content if before else None, row.content, bodies)
        found.append(Version(row, shown, changed, _note(row, before)))
    return found


def _note(row: DesiredDocument, before: DesiredDocument | None) -> str:
    """What a version says beside its content."""
    was = before.hold if before else False
    if row.hold != was:
        return "Freezes the site." if row.hold else "Thaws the site."
    return "Given out while the site is frozen." if row.hold else ""


def progress_of(standing: SiteDesired | None) -> dict[str, Any] | None:
    """`done` of `total` steps while the site is at work; None otherwise."""
    working = ("accepted", "staging", "staged", "applying", "held")
    if standing is None or not standing.total or standing.reported_state not in working:
        return None
    return {"done": min(standing.done, standing.total), "total": standing.total}
