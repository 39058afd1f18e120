"""Archipelago from a terminal: the fleet as it is, and rollouts from the plan to the end.

It reads ARCHIPELAGO_URL and ARCHIPELAGO_TOKEN, or url and token in ~/.config/archipelago/config.toml.
Exit status: 0 done, 1 it could not be done (or what was watched failed), 2 the command line or configuration is wrong.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from archipelago import __version__
from archipelago.commands import fleet, planning, rollouts, saying, watching
from archipelago.errors import CommandError, RefusedError
from archipelago.text import plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.command(options))
        sys.stdout.flush()
        return status
    except CommandError as error:
        _complain(error)
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read it has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _complain(error: CommandError) -> None:
    lines = str(error).splitlines() or [""]
    if isinstance(error, RefusedError):
        lines += [f"  {place}: {reason}" for place, reason in error.details.items() if str(reason) not in str(error)]
    print("\n".join(["archipelago: " + plain(lines[0]), *map(plain, lines[1:])]), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="archipelago", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    fleet.add(commands)
    rollouts.add(commands)
    one = commands.add_parser("rollout", help="one rollout: plan, show, start, watch, pause, ...")
    verbs = one.add_subparsers(metavar="VERB", required=True)
    for module in (planning, rollouts, watching, saying):
        module.add_to(verbs)
    return parser
