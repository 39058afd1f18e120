"""What several commands need: types of arguments, the configuration they name, and the loop they run in."""

import argparse
import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvloop

from agent.config import CONFIG_FILE, Config, ConfigError, read_config, split_listen
from agent.process import die_with_parent, log_to_stdout

_DIE_VARIABLE: Final = "ARCHIPELAGO_DIE_WITH_PARENT"


def serve(options: argparse.Namespace, work: Coroutine[Any, Any, None], log_level: str = "info") -> int:
    """Run a long-lived command in a loop of its own until it ends."""
    if options.die_with_parent:
        die_with_parent()
    log_to_stdout(log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
    return 0


def config_of(options: argparse.Namespace) -> Config:
    """The configuration of --config, or /etc's; where --state is given instead, just that. Raises ConfigError."""
    if options.config is None and options.state is not None:
        return Config(state=str(options.state))
    config = read_config(options.config or CONFIG_FILE)
    if options.state is not None:
        raise ConfigError("give either --config or --state: the configuration names the state folder")
    return config


def add_config(parser: argparse.ArgumentParser) -> None:
    """--config, and --state for those who have no configuration."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"the configuration; default: {CONFIG_FILE}")
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER", help="in place of --config: keeps keys and journal; for this user only"
    )


def add_lifetime(parser: argparse.ArgumentParser) -> None:
    """--die-with-parent."""
    parser.add_argument(
        "--die-with-parent",
        action="store_true",
        default=os.environ.get(_DIE_VARIABLE, "") not in {"", "0"},
        help=f"end when the parent process ends (also: {_DIE_VARIABLE}=1)",
    )


def plain(text: str) -> str:
    """Text that others may have written, fit for one line of a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def uuid(text: str) -> UUID:
    """Type of an argument: a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID") from None


def port(text: str) -> int:
    """Type of an argument: a TCP port."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def endpoint(text: str) -> tuple[str, int]:
    """Type of an argument: ADDRESS:PORT."""
    try:
        return split_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
