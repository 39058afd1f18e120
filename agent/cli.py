"""The program at an Archipelago site: it enrols, runs, and says how it is; or plays many sites, to try things out."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from agent import __version__
from agent.apply.store import StoreError
from agent.commands import doctor, enrol, run, simctl, simulate, status
from agent.commands.run import NotEnrolledError
from agent.config import ConfigError
from agent.fleet_file import FleetFileError
from agent.identity import IdentityError
from agent.journal_file import InUseError
from agent.listening import ListenError
from agent.state import StateError
from agent.unix_socket import UnixSocketError

# sysexits.h's EX_CONFIG: a person must act, so the service manager need not try again.
NOT_CONFIGURED: Final = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 it could not, 2 the command line is wrong, 78 a person must
    configure or enrol first; `enrol` has some more.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ConfigError, NotEnrolledError) as error:
        print(f"archipelago-agent: {error}", file=sys.stderr)
        return NOT_CONFIGURED
    except (FleetFileError, IdentityError, InUseError, ListenError, StateError, StoreError, UnixSocketError) as error:
        print(f"archipelago-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="archipelago-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (enrol, run, status, doctor, simulate, simctl):
        command.add(commands)
    return parser
