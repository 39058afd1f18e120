"""`status`: what the running agent says of itself, or what its files tell while none runs."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent import __version__
from agent.commands.arguments import add_config, config_of, plain
from agent.state import SOCKET, become_owner
from agent.status import IdentityStatus, JournalStatus, LinkStatus, ProbeStatus, Status, ask, read_status


def add(commands: Any) -> None:
    """Describe the command."""
    status = commands.add_parser(
        "status", help="how the agent is", description="Say how the agent is. Exit status: 0 it runs, 3 it does not."
    )
    status.add_argument("--json", action="store_true", help="print it as JSON")
    add_config(status)
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> int:
    folder = config_of(options).folder
    become_owner(folder)
    status = ask(folder / SOCKET) or read_status(folder, __version__)
    if options.json:
        print(msgspec.json.encode(status).decode())
    else:
        print("\n".join(f"{name:<12} {plain(value)}".rstrip() for name, value in describe(status, datetime.now(UTC))))
    return 0 if status.running else 3


def describe(status: Status, now: datetime) -> Iterator[tuple[str, str]]:
    """Lines of name and value for people."""
    if status.running:
        started = f", since {_time(status.started_at, now)}" if status.started_at else ""
        yield "agent", f"runs (version {status.version}, process {status.pid}{started})"
    else:
        yield "agent", "does not run; this is what its files tell"
    yield from _identity(status.identity, now)
    if status.problem:
        yield "problem", status.problem
    if status.link is not None:
        yield "link", _link(status.link, now)
    if status.running:
        yield "last poll", _time(status.last_poll_at, now) if status.last_poll_at else "not since the agent started"
    if status.verdict is not None:
        yield "verdict", f"{status.verdict.state}, since {_time(status.verdict.since, now)}"
        for reason in status.verdict.reasons:
            yield "", reason
    for probe in status.probes:
        yield "probe", _probe(probe, now)
    if status.journal is not None:
        yield "journal", _journal(status.journal)
    if status.rss_bytes is not None:
        yield "memory", f"{status.rss_bytes / 2**20:.1f} MiB resident"


def _identity(identity: IdentityStatus | None, now: datetime) -> Iterator[tuple[str, str]]:
    if identity is None:
        yield "site", "none: this machine has not enrolled; run `archipelago-agent enrol`"
        return
    yield "site", str(identity.site)
    yield "fingerprint", identity.fingerprint
    if identity.certificate is None:
        yield "certificate", "none: waits to be accepted" if identity.waiting else "none: has not been accepted"
        return
    certificate = identity.certificate
    ended = "EXPIRED since" if certificate.valid_until <= now else "valid until"
    yield "certificate", f"{ended} {_time(certificate.valid_until, now)}, renewed {_time(certificate.renews_at, now)}"
    yield "gateway", f"{certificate.gateway} of {certificate.fleet}"


def _link(link: LinkStatus, now: datetime) -> str:
    if link.mode == "direct":
        return f"direct: the centre dials {link.address}"
    return f"dial-out, connected since {_time(link.since, now)}" if link.since else "dial-out, NOT CONNECTED"


def _probe(probe: ProbeStatus, now: datetime) -> str:
    if probe.last_at is None:
        return f"{probe.name} ({probe.kind}): {probe.state}, has not looked yet"
    last = f"last look {_time(probe.last_at, now)}: {probe.last_detail or 'good'}"
    return f"{probe.name} ({probe.kind}): {probe.state}, {last}"


def _journal(journal: JournalStatus) -> str:
    parts = [f"entry {journal.seq}"]
    if journal.unacknowledged is not None:
        parts.append(f"{journal.unacknowledged} not acknowledged")
    if journal.used_bytes is not None:
        bound = f" of at most {journal.bound_bytes / 2**20:.0f} MiB" if journal.bound_bytes else ""
        parts.append(f"{journal.used_bytes / 2**20:.1f} MiB{bound}")
    if journal.waiting:
        parts.append(f"{journal.waiting} WAIT IN MEMORY for room on the disk")
    return ", ".join(parts)


def _time(at: datetime, now: datetime) -> str:
    """A moment, and how far it is from now."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({span(at, now)})"


def span(at: datetime, now: datetime) -> str:
    """Such as `5 min ago`, `in 3 days`."""
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    for unit, unit_s in (("years", 31_557_600), ("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if size >= 2 * unit_s or unit == "s":
            amount = f"{size / unit_s:.0f} {unit}"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    raise AssertionError("seconds come last")
