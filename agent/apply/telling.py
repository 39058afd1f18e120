"""What a site says of its desired state: state and progress for who asks, and receipts that it signs."""

from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.apply.record import Kept, Newest, Said, Work
from agent.apply.site import Site, settle
from agent.protocol.desired import ENDED, DesiredState, Receipt, seal_receipt

_RECEIPTED: Final = ENDED | {"held"}


def with_receipt(site: UUID, state: Site, work: Work, key: Ed25519PrivateKey | None) -> Work:
    """The record with a new receipt, signed by the site's key, where its state calls for one; else as it is."""
    if work.state not in _RECEIPTED or work.prior is not None:
        return work
    newest = state.newest
    about: Kept = work
    if work.state == "held" and newest is not None and newest.hold and newest.number > work.number:
        about = newest  # it is this one that has frozen the site
    said = work.said
    if said is not None and (said.state, said.epoch, said.version, said.detail) == (
        work.state,
        *about.number,
        work.detail,
    ):
        return work
    receipt = Receipt(
        site=site,
        epoch=about.epoch,
        version=about.version,
        sha256=about.sha256,
        state=work.state,
        detail=work.detail,
        at=state.machine.now(),
        boot=state.machine.boot,
        changed=tuple(change.name for change in work.changes[:256]),
    )
    envelope = None if key is None else seal_receipt(receipt, key)
    epoch, version = about.number
    return settle(
        work, said=Said(state=work.state, epoch=epoch, version=version, detail=work.detail, envelope=envelope)
    )


def spoken_of(work: Work | None) -> Work | None:
    """The record whose document the site speaks of: during a repair the one before it, as if there were none."""
    return work if work is None or work.prior is None else work.prior


def shown_state(newest: Newest | None, work: Work | None, note: str) -> tuple[DesiredState, str]:
    """State and detail of the newest document; `note` is what the step that is under way waits for."""
    said = spoken_of(work)
    if work is None or said is None:
        return "accepted", ""
    if newest is not None and newest.number > said.number:
        if work.state == "held" and newest.hold:
            return "held", work.detail
        return "accepted", "" if work.phase == "ended" else f"version {said.version} comes first"
    return said.state, (note if work.phase != "ended" else "") or said.detail


def progress(state: Site, work: Work) -> tuple[int, int]:
    """Steps that are done, of all: each change is staged, switched and kept."""
    count = len(work.changes)
    done = {
        "planning": 0,
        "staging": state.trying.staged,
        "staged": count,
        "switching": count + work.index,
        "checking": count + work.index,
        "rebooting": 2 * count,
        "proving": 2 * count,
        "keeping": 2 * count + work.index,
        "restoring": 0,
        "ended": 3 * count if work.state == "applied" else 0,
    }
    return done[work.phase], 3 * count
