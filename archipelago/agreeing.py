"""Before something is done to many sites, a person types how many: at a terminal, or ahead with --yes-for."""

import argparse
import sys
from typing import Any

from archipelago.errors import StoppedError, UsageError
from archipelago.text import sites


def add_agreement(parser: argparse.ArgumentParser) -> None:
    """--yes-for."""
    parser.add_argument(
        "--yes-for", type=_count, metavar="N", help="agree ahead, to at most so many sites; else a terminal is asked"
    )


def agreed(effect: dict[str, Any], yes_for: int | None) -> int | None:
    """To how many sites the person agreed; None where nobody need. Raises StoppedError, UsageError."""
    touched = int(effect["sites"])
    if yes_for is not None:
        if touched > yes_for:
            raise StoppedError(f"It touches {sites(touched)}, and --yes-for says {yes_for:,}. Nothing was done.")
        return yes_for
    if not effect["needs_typing"]:
        return None
    typed = ask(f"Type the number of sites, {touched}, to do it: ", f"it touches {sites(touched)}: give --yes-for N")
    if typed.replace(",", "") != str(touched):
        raise StoppedError("That is not their number. Nothing was done.")
    return touched


def reason_for(effect: dict[str, Any], given: str | None) -> str | None:
    """Why, asked at a terminal where it is needed and was not given. Raises StoppedError, UsageError."""
    if given or not effect["needs_reason"]:
        return given
    reason = ask("Why? Others will read it: ", "a reason is needed: give --reason")
    if not reason:
        raise StoppedError("No reason was given. Nothing was done.")
    return reason


def ask(question: str, otherwise: str) -> str:
    """What the person at the terminal answers. Raises UsageError with `otherwise` where nobody sits at one."""
    if not sys.stdin.isatty():
        raise UsageError(f"Nobody can be asked here: {otherwise}.")
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise StoppedError("Nothing was answered. Nothing was done.")
    return line.strip()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of sites")
    return int(text)
