"""Checks of what lies in the state folder."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

from agent.config import Config
from agent.doctor.check import Check, ok, problem, warning
from agent.identity import Identity, IdentityError
from agent.journal_check import DAMAGE, check_entries, read_meta
from agent.state import IDENTITIES, JOIN, JOURNAL, kept_join, why
from agent.status import Status, read_identity

LEAST_FREE_BYTES: Final = 64 << 20
_TRIAL: Final = "doctor.tmp"
_ENROL: Final = "Run `archipelago-agent enrol` with a new join string."


def check_folder(folder: Path) -> Check:
    """Is it there, ours, and closed to others?"""
    name = "state folder"
    try:
        mode = folder.stat()
    except OSError as error:
        return problem(name, f"{folder} cannot be used: {why(error)}.", f"{_ENROL} That makes it.")
    if not stat.S_ISDIR(mode.st_mode):
        return problem(name, f"{folder} is not a folder.", "Name another state folder in the configuration.")
    if mode.st_uid != os.geteuid():
        return problem(
            name,
            f"{folder} belongs to another user (uid {mode.st_uid}).",
            f"chown -R the folder to uid {os.geteuid()}.",
        )
    for path in (folder, folder / IDENTITIES, folder / JOIN):
        if path.exists() and path.stat().st_mode & 0o077:
            return problem(name, f"Other users may read {path}, where keys or secrets lie.", f"chmod go-rwx {path}")
    return ok(name, f"{folder} is this user's alone.")


def check_disk(folder: Path, bound_bytes: int) -> Check:
    """Can something really be written and synced there, and will the journal find room?"""
    name = "disk"
    trial = folder / _TRIAL
    try:
        try:
            with trial.open("wb") as file:
                file.write(os.urandom(65_536))
                file.flush()
                os.fsync(file.fileno())
        finally:
            trial.unlink(missing_ok=True)
        disk = os.statvfs(folder)
    except OSError as error:
        return problem(name, f"Nothing can be written in {folder}: {why(error)}.", "Make room, or mend the disk.")
    free_bytes = disk.f_bavail * disk.f_frsize
    shown = f"{free_bytes / 2**20:,.0f} MiB are free at {folder}"
    if free_bytes < LEAST_FREE_BYTES:
        return problem(name, f"Only {shown}.", "Make room: without it the journal loses entries.")
    if free_bytes < bound_bytes:
        return warning(
            name,
            f"{shown}, less than the journal may grow to ({bound_bytes / 2**20:,.0f} MiB).",
            "Make room, or lower journal_bytes in the configuration.",
        )
    return ok(name, f"Writing and syncing works; {shown}.")


def check_journal(folder: Path, status: Status | None) -> Iterator[Check]:
    """Is it whole? While the agent runs only it can read the file, so it is asked."""
    name, path = "journal", folder / JOURNAL
    aside = sorted(
        found.name for found in folder.glob(f"{JOURNAL}.aside-*") if not found.name.endswith(("-wal", "-shm"))
    )
    if aside:
        yield warning(
            "journal before", f"A damaged journal was set aside: {', '.join(aside)}.", "Find out why; then delete it."
        )
    if status is not None and status.journal is not None:
        yield _running_journal(name, status)
        return
    if not path.exists():
        yield ok(name, "There is none yet; the agent makes it when it first runs.")
        return
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, timeout=1)) as db:
            read_meta(db)
            check_entries(db, None)
    except sqlite3.OperationalError as error:
        yield warning(name, f"{path} cannot be read now: {error}.", "Try again, or see `disk` above.")
    except (*DAMAGE, sqlite3.Error) as error:
        yield problem(
            name, f"{path} is damaged: {error}.", "Start the agent: it sets the file aside and begins a new one."
        )
    else:
        yield ok(name, "Every entry and its place in the chain is as it was written.")


def _running_journal(name: str, status: Status) -> Check:
    journal = status.journal
    assert journal is not None
    if journal.waiting:
        return problem(
            name, f"{journal.waiting} entries wait in memory: they cannot be written.", "Make room on the disk."
        )
    if journal.used_bytes is not None and journal.bound_bytes and journal.used_bytes > journal.bound_bytes * 3 // 4:
        return warning(
            name,
            f"It is more than three quarters full, with {journal.unacknowledged} entries not acknowledged.",
            "See whether the centre reads it: `archipelago-agent status`, last poll.",
        )
    return ok(name, f"The agent writes it: entry {journal.seq}, {journal.unacknowledged} not acknowledged.")


def check_identity(config: Config, now: datetime) -> tuple[Check, Identity | None]:
    """Keys and certificate; the identity too, for further checks."""
    name = "certificate"
    try:
        identity = read_identity(config.folder)
        if identity is None:
            return problem(name, "This machine has not enrolled.", _ENROL), None
        identity.keys.public()
        if identity.certificates is None:
            if kept_join(config.folder) is None:
                return problem(name, "This machine was never accepted, and has no join string.", _ENROL), identity
            remedy = (
                f"Compare the fingerprint {identity.keys.fingerprint} in the dashboard's waiting room and accept it."
            )
            return warning(name, "This machine waits to be accepted.", remedy), identity
        return _check_validity(name, identity, now), identity
    except (IdentityError, ValueError) as error:
        return problem(name, f"The identity cannot be read: {error}.", _ENROL), None


def _check_validity(name: str, identity: Identity, now: datetime) -> Check:
    begin, end = identity.validity()
    if now < begin:
        return problem(name, f"It is valid only from {_day(begin)} on.", "Check the clock (below).")
    if now >= end:
        remedy = "Start the agent: it renews up to 90 days after the end. If that does not help, see `gateway` below."
        return problem(name, f"It has expired at {_day(end)}.", remedy)
    if now >= identity.renews_at():
        return warning(
            name,
            f"It is past its half-life ({_day(identity.renews_at())}) and was not renewed; it ends at {_day(end)}.",
            "See whether the agent runs and reaches the gateway (below).",
        )
    return ok(name, f"Valid until {_day(end)}, renewed from {_day(identity.renews_at())} on.")


def check_standing(status: Status | None) -> Iterator[Check]:
    """What the running agent was told by the centre: frozen, revoked, or whatever keeps it from its certificate."""
    if status is not None and status.problem:
        yield problem(
            "standing",
            f"The agent has trouble with its certificate: {status.problem}",
            "If the site is frozen or revoked, its operators must act; otherwise see `gateway` below.",
        )


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
