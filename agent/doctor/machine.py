"""Checks of the running agent and of the machine it runs on."""

import resource
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent.doctor.check import Check, ok, problem, warning
from agent.status import Status

LEAST_FILES: Final = 256
UNIT: Final = "archipelago-agent.service"
QUIET: Final = timedelta(minutes=10)
_BOOTED: Final = Path("/run/systemd/system")


def check_agent(status: Status | None, trouble: str) -> Check:
    """Does it run? `trouble` says why it could not be asked, empty where none runs."""
    name = "agent"
    if trouble:
        return problem(name, f"It could not be asked: {trouble}.", "Restart it: systemctl restart archipelago-agent")
    if status is None:
        return problem(name, "It does not run.", "Start it: systemctl start archipelago-agent")
    return ok(name, f"It runs: version {status.version}, process {status.pid}.")


def check_polls(status: Status, now: datetime) -> Check:
    """Is it polled, and linked where it is the one who calls?"""
    name = "polls"
    if status.link is not None and status.link.mode == "dial-out" and status.link.since is None:
        return problem(name, "The link to the gateway is not there.", "See `certificate` and `gateway` above.")
    at = status.last_poll_at or status.started_at
    if at is None or now - at < QUIET:
        return ok(name, "The centre has polled." if status.last_poll_at else "Not polled yet; it has just started.")
    return warning(
        name,
        f"The centre has not polled for {(now - at).total_seconds() / 60:.0f} minutes.",
        "See whether the centre can reach this address: firewalls, and the address on the site's page.",
    )


def check_files(limit: int | None = None) -> Check:
    """The limit of open files, which sockets count against."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        return problem("open files", f"At most {soft} files may be open.", f"Raise it to {LEAST_FILES}: LimitNOFILE=.")
    return ok("open files", "The limit is high enough.")


def check_systemd() -> Check:
    """Will the agent start with the machine?"""
    name = "service"
    by_hand = "See that whatever starts programs here starts `archipelago-agent run`."
    if not _BOOTED.exists():
        return warning(name, "This machine does not run systemd.", by_hand)
    try:
        done = subprocess.run(  # noqa: S603  # a fixed command
            ["systemctl", "is-enabled", UNIT],  # noqa: S607  # wherever this system keeps it
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return warning(name, f"systemctl cannot be asked: {error}.", by_hand)
    said = done.stdout.strip() or "not installed"
    if said == "enabled":
        return ok(name, f"{UNIT} is enabled.")
    return warning(name, f"{UNIT} is {said}.", "systemctl enable --now archipelago-agent")
