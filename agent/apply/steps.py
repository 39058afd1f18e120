"""One site's way from one document to the next, a step at a time.

A step acts as the record says, and returns the record to be kept before the next. So whatever instruction the process
dies at, what was done since the record on the disk is done again, and each act of a Part may be done twice
(agent.apply.part). Between steps
are the safe points: once all is staged, before each change, before a reboot. There a newer document is noticed, and
`hold` is obeyed.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from agent.apply.part import ApplyError, Change, Check, Part
from agent.apply.record import Applied, Work
from agent.apply.site import Site, Step, Trying, document_of, settle
from agent.protocol import format_time
from agent.protocol.desired import Document, DocumentRefused, read_document

RETRY_S: Final = (1.0, 60.0)
TRIES: Final = 10
LOOK_S: Final = 1.0
# Longer than the longest grace of a health check: a part that never makes up its mind must not hang for ever.
CHECK_S: Final = 4_200.0
REBOOT_S: Final = 300.0
_REPAIR: Final = " | "
log = logging.getLogger("agent")


def advance(site: Site) -> Step:
    """Do the next step. What it returns must be on the disk before the next call; blocks as long as the part does."""
    work = site.work
    if work is None or work.phase == "ended":
        site.parsed = None
        return _begin(site)
    key = (work.sha256, work.phase, work.index)
    if site.trying.key != key:
        site.trying = Trying(key, began_s=time.monotonic())
    try:
        document = document_of(site, work)
    except DocumentRefused as error:  # what is kept is checked at every start; this is beyond repair
        return _end(work, "failed", f"the document that is kept cannot be read: {error.reason}")
    try:
        return _STEPS[work.phase](site, work, document)
    except ApplyError as error:
        return _failed(site, work, str(error), transient=error.transient)
    except Exception as error:  # the top of a step: a part that breaks must not end the applier
        log.exception("a step of %s failed", work.phase)
        return _failed(site, work, f"{type(error).__name__}: {error}", transient=False)


# Beginning and ending ---------------------------------------------------------------------------------------
def _begin(site: Site) -> Step:
    """Take up the newest document; or, once after each start, see that the last good one still holds."""
    work, newest = site.work, site.newest
    if newest is not None and (work is None or newest.number > work.number):
        detail = "it does not follow on what was held before: versions were skipped" if newest.skipped else ""
        site.is_repaired = True
        return Step(
            Work(
                envelope=newest.envelope,
                sha256=newest.sha256,
                epoch=newest.epoch,
                version=newest.version,
                state="accepted",
                phase="planning",
                detail=detail,
                said=None if work is None else work.said,
            )
        )
    good = site.applied
    if site.is_repaired or work is None or good is None or (newest is not None and newest.hold):
        return Step(wait_s=None)
    site.is_repaired = True
    return Step(
        Work(
            envelope=good.envelope,
            sha256=good.sha256,
            epoch=good.epoch,
            version=good.version,
            state=work.state,
            phase="planning",
            detail=work.detail,
            prior=work,
            said=work.said,
        )
    )


def _end(work: Work, state: str, detail: str, applied: Applied | None = None) -> Step:
    """The document ended so; a repair goes back to what was said before it, and adds what it did."""
    if work.prior is None:
        return Step(settle(work, state=state, phase="ended", detail=detail, index=0), applied)
    said = work.prior.detail
    if work.changes or state != "applied":
        names = ", ".join(change.name for change in work.changes)
        note = f"brought back after a restart: {names}" if state == "applied" else f"after a restart: {detail}"
        log.warning("version %d of the desired state was %s", work.version, note)
        said = f"{said.partition(_REPAIR)[0]}{_REPAIR}{note}"
    return Step(settle(work.prior, detail=said, said=work.said))


def _failed(site: Site, work: Work, why: str, *, transient: bool) -> Step:
    """Try again what may pass by itself; else go back, or where nothing was done, end."""
    trying = site.trying
    trying.tries += 1
    pause_s = min(RETRY_S[1], RETRY_S[0] * 2 ** (trying.tries - 1))
    limit = TRIES if transient else 1
    if work.phase == "restoring":  # a site must not stay between: what may pass is waited for
        limit = 2**31 if transient else 3
    if trying.tries < limit:
        trying.note = f"{why} (tried {trying.tries} times)" if trying.tries > 1 else why
        return Step(wait_s=pause_s)
    if work.phase == "planning":
        return _end(work, "failed", why)
    if work.phase == "keeping":  # the new is well; what was left of the old is not worth going back
        log.warning("something of the old was left behind: %s", why)
        return Step(settle(work, index=work.index + 1))
    if work.phase == "restoring":
        change = work.changes[work.index]
        detail = f"{work.why}; {change.name} could not be brought back: {why}"
        return Step(settle(work, index=work.index - 1, outcome="failed", why=detail))
    return _go_back(work, "failed" if work.phase in {"staging", "staged"} else "rolled_back", why)


def _go_back(work: Work, outcome: str, why: str) -> Step:
    """Restore all, the last first; what was never switched is let go by the same call."""
    last = len(work.changes) - 1
    return Step(settle(work, phase="restoring", index=last, outcome=outcome, why=why, detail=why))


# The steps --------------------------------------------------------------------------------------------------
def _plan(site: Site, work: Work, document: Document) -> Step:
    names = {part.name for part in site.parts}
    wanted = {"workload": bool(document.workloads), "os": document.os is not None, "agent": document.agent is not None}
    lacking = [name for name, is_wanted in wanted.items() if is_wanted and name not in names]
    if lacking:
        raise ApplyError(f"this agent is not set up to change: {', '.join(lacking)}")
    changes = [change for part in site.parts for change in part.changes(document, site.blobs)]
    if not changes:
        return _end(work, "applied", work.detail, _good(work))
    state = work.state if work.prior is not None else "staging"
    return Step(settle(work, state=state, phase="staging", changes=tuple(changes)))


def _stage(site: Site, work: Work, document: Document) -> Step:
    trying = site.trying
    if trying.staged < len(work.changes):
        change = work.changes[trying.staged]
        _part(site, change).stage(document, change, site.blobs)
        trying.staged, trying.tries, trying.note = trying.staged + 1, 0, ""
    if trying.staged < len(work.changes):
        return Step()
    state = work.state if work.prior is not None else "staged"
    return Step(settle(work, state=state, phase="staged"))


def _start_switching(site: Site, work: Work, document: Document) -> Step:
    halt = _pause(site, work, document)
    if halt is not None:
        return halt
    if work.prior is None and document.expires_at <= site.machine.now():
        why = f"it expired at {format_time(document.expires_at)}, before it could be applied"
        return _go_back(work, "failed", why)
    return Step(_applying(work, phase="switching", index=0))


def _switch(site: Site, work: Work, document: Document) -> Step:
    halt = _pause(site, work, document)
    if halt is not None:
        return halt
    change = work.changes[work.index]
    _part(site, change).switch(document, change, site.blobs)
    return Step(_applying(work, phase="checking"), is_volatile=True)


def _check(site: Site, work: Work, document: Document) -> Step:
    change = work.changes[work.index]
    found = _part(site, change).check(document, change)
    if found.state == "waiting":
        return _wait(site, change, found)
    if found.state == "broken":
        return _go_back(work, "rolled_back", f"{change.name}: {found.detail or 'it is broken'}")
    reboots = work.reboots or found.state == "reboot"
    if work.index + 1 < len(work.changes):
        return Step(settle(work, phase="switching", index=work.index + 1, reboots=reboots))
    if reboots:
        return Step(settle(work, phase="rebooting", index=0, reboots=True, boot=site.machine.boot))
    return Step(settle(work, phase="keeping", index=0))


def _reboot(site: Site, work: Work, document: Document) -> Step:
    """`boot` was kept before, so that one boot more is told from none."""
    if site.machine.boot != work.boot:
        return Step(_applying(work, phase="proving", index=0))
    halt = _pause(site, work, document)
    if halt is not None:
        return halt
    if document.os is None or document.os.reboot == "never":
        return _held(work, "it holds after a reboot, which it does not ask for now", wait_s=RETRY_S[1])
    if not site.trying.is_asked:
        try:
            site.machine.reboot()
        except ApplyError as error:
            if not error.transient:
                raise
            return _held(work, str(error), wait_s=RETRY_S[1])  # its window opens later
        log.warning("the machine is to boot anew, as the document asks")
        site.trying.is_asked, site.trying.note = True, "the machine boots anew"
        return Step(_applying(work) if work.state == "held" else None, wait_s=LOOK_S)
    if time.monotonic() - site.trying.began_s > REBOOT_S:
        raise ApplyError("the machine did not boot anew when it was asked to")
    return Step(wait_s=LOOK_S)


def _prove(site: Site, work: Work, document: Document) -> Step:
    change = work.changes[work.index]
    found = _part(site, change).check(document, change)
    if found.state == "waiting":
        return _wait(site, change, found)
    if found.state != "well":
        why = found.detail or ("it is not in use after the reboot" if found.state == "reboot" else "it is broken")
        return _go_back(work, "rolled_back", f"{change.name}: {why}")
    if work.index + 1 < len(work.changes):
        return Step(settle(work, index=work.index + 1))
    return Step(settle(work, phase="keeping", index=0))


def _keep(site: Site, work: Work, document: Document) -> Step:
    if work.index >= len(work.changes):
        return _end(work, "applied", work.detail, _good(work))
    change = work.changes[work.index]
    _part(site, change).keep(document, change)
    return Step(settle(work, index=work.index + 1), is_volatile=True)


def _restore(site: Site, work: Work, document: Document) -> Step:
    if work.index < 0:
        return _end(work, work.outcome, work.why)
    change = work.changes[work.index]
    _part(site, change).restore(document, change)
    return Step(settle(work, index=work.index - 1), is_volatile=True)


_STEPS: Final[dict[str, Callable[[Site, Work, Document], Step]]] = {
    "planning": _plan,
    "staging": _stage,
    "staged": _start_switching,
    "switching": _switch,
    "checking": _check,
    "rebooting": _reboot,
    "proving": _prove,
    "keeping": _keep,
    "restoring": _restore,
}


# Safe points ------------------------------------------------------------------------------------------------
def _pause(site: Site, work: Work, document: Document) -> Step | None:
    """What to do at a safe point instead of going on; None to go on."""
    newest = site.newest
    if work.prior is not None:  # a repair changes nothing that was not so before; but what is newer comes first
        is_newer = newest is not None and newest.number > work.prior.number
        return _go_back(work, "superseded", "a newer version came meanwhile") if is_newer else None
    if newest is not None and newest.number > work.number:
        newer = read_document(newest.envelope)
        if _same_content(newer, document):  # frozen, thawed or sent once more: the same work goes on under its number
            new = {name: getattr(newest, name) for name in ("envelope", "sha256", "epoch", "version")}
            work = settle(work, **new)
            return Step(_applying(work) if work.state == "held" and not newer.hold else work)
        if not newer.hold:
            return _go_back(work, "superseded", f"version {newest.version} has taken its place")
        return _held(work, f"version {newest.version} has frozen this site")
    if document.hold:
        return _held(work, "this site is frozen")
    if work.state == "held" and work.phase != "rebooting":
        return Step(_applying(work))
    return None


def _held(work: Work, why: str, wait_s: float | None = None) -> Step:
    if work.state == "held" and work.detail == why:
        return Step(wait_s=wait_s)
    return Step(settle(work, state="held", detail=why))


def _same_content(one: Document, other: Document) -> bool:
    return (one.workloads, one.agent, one.os) == (other.workloads, other.agent, other.os)


def _applying(work: Work, **fields: object) -> Work:
    if work.prior is None:
        fields["state"] = "applying"
        if work.state == "held":
            fields["detail"] = ""
    return settle(work, **fields)


def _wait(site: Site, change: Change, found: Check) -> Step:
    age_s = time.monotonic() - site.trying.began_s
    if age_s > CHECK_S:
        raise ApplyError(f"{change.name}: nobody could say within {CHECK_S / 60:.0f} minutes how it is")
    site.trying.note = f"{change.name}: {found.detail or 'is not well yet'}"
    again_s = max(site.first_look_s, age_s / 4) if found.again_s is None else found.again_s
    return Step(wait_s=min(LOOK_S, again_s))


def _part(site: Site, change: Change) -> Part:
    for part in site.parts:
        if part.name == change.part:
            return part
    raise ApplyError(f"this agent can no longer change: {change.part}")


def _good(work: Work) -> Applied:
    return Applied(envelope=work.envelope, sha256=work.sha256, epoch=work.epoch, version=work.version)
