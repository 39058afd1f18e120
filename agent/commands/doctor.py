"""`doctor`: say in plain words what is wrong with this machine's agent, and what to do."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from agent.commands.arguments import add_config, config_of, plain
from agent.config import CONFIG_FILE, Config, ConfigError
from agent.doctor.check import Check, ok, problem
from agent.doctor.files import check_disk, check_folder, check_identity, check_journal, check_standing
from agent.doctor.machine import check_agent, check_files, check_polls, check_systemd
from agent.doctor.network import Centre, check_door, check_gateway
from agent.state import SOCKET, become_owner, kept_join
from agent.status import Status, ask
from agent.unix_socket import UnixSocketError

_MARKS: Final = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def add(commands: Any) -> None:
    """Describe the command."""
    doctor = commands.add_parser(
        "doctor", help="what is wrong, and what to do", description="Exit status: 0 all is well or a warning, 1 not."
    )
    doctor.add_argument("--json", action="store_true", help="print it as JSON")
    add_config(doctor)
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    checks = list(_examine(options))
    if options.json:
        print(msgspec.json.encode(checks).decode())
    else:
        print("\n".join(line for check in checks for line in _lines(check)))
    return int(any(check.level == "problem" for check in checks))


def _examine(options: argparse.Namespace) -> Iterator[Check]:
    try:
        config = config_of(options)
    except ConfigError as error:
        yield problem("configuration", f"{error}.", "Correct it; examples are in deploy/agent and docs/agent.md.")
        return
    if options.state is None:
        yield ok("configuration", f"{options.config or CONFIG_FILE} is good: {len(config.probes)} probes.")
    become_owner(config.folder)
    yield from examine(config, datetime.now(UTC))


def examine(config: Config, now: datetime) -> Iterator[Check]:
    """All checks but that of the configuration's file."""
    folder = config.folder
    yield (own := check_folder(folder))
    if not folder.is_dir():
        return
    if own.level == "ok":
        yield check_disk(folder, config.journal_bytes)
    status, trouble = _ask(config)
    yield check_agent(status, trouble)
    yield from check_journal(folder, status)
    certificate, identity = check_identity(config, now)
    yield certificate
    yield from check_standing(status)
    yield from check_gateway(Centre(identity, kept_join(folder)), now)
    if config.endpoint is not None and status is not None:
        yield check_door(config.endpoint, identity)
    if status is not None:
        yield check_polls(status, now)
    yield check_files()
    yield check_systemd()


def _ask(config: Config) -> tuple[Status | None, str]:
    try:
        return ask(config.folder / SOCKET), ""
    except UnixSocketError as error:
        return None, str(error)


def _lines(check: Check) -> Iterator[str]:
    yield f"{_MARKS[check.level]:<8} {check.name:<14} {plain(check.sentence)}"
    if check.remedy:
        yield f"{'':<8} {'':<14} -> {plain(check.remedy)}"
