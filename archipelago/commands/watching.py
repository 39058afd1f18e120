"""`rollout watch`: a rollout live. On a terminal one picture that is drawn anew, elsewhere a line for each change."""

import argparse
import json
import shutil
import sys
import time
from typing import Any, Final

from archipelago.client import Client, Json, path_of
from archipelago.commands.common import client, now
from archipelago.commands.rollouts import add_number
from archipelago.errors import NoAnswerError, RefusedError
from archipelago.rollout_text import ENDED, SUCCEEDED, changes, heading, shown
from archipelago.text import words

# The screen is drawn from where the cursor was: that many lines up, and all below cleared.
_BACK: Final = "\x1b[{}F\x1b[J"


def add_to(verbs: Any) -> None:
    """Describe the command."""
    watch = verbs.add_parser(
        "watch",
        help="follow it until it ends",
        description="Exit status: 0 it succeeded, 1 it ended otherwise. A rollback that is done is no success.",
    )
    add_number(watch)
    watch.add_argument("--every", type=_seconds, default=2.0, metavar="SECONDS", help="how often to look; else 2")
    watch.add_argument("--json", action="store_true", help="the whole rollout as one line of JSON for each change")
    watch.set_defaults(command=_watch)


def _watch(options: argparse.Namespace) -> int:
    view: _Lines | _Screen | _Json = _Json() if options.json else _Screen() if sys.stdout.isatty() else _Lines()
    api, path = client(), path_of("rollouts", options.rollout)
    before: Json | None = None
    while True:
        row = _look(api, path, view)
        if row is not None:
            view.show(before, row)
            before = row
            if row["state"] in ENDED:
                view.end(row)
                return 0 if row["state"] in SUCCEEDED else 1
        time.sleep(options.every)


def _look(api: Client, path: str, view: Any) -> Json | None:
    """The rollout as it is; None where nobody answers for now."""
    try:
        return api.get(path)
    except NoAnswerError as error:
        view.note(f"{error} Trying again.")
    except RefusedError as error:
        if error.http < 500:
            raise
        view.note(f"{error} Trying again.")
    return None


class _Lines:
    """A line for each change, with the time."""

    def __init__(self) -> None:
        self._noted = ""

    def show(self, before: Json | None, row: Json) -> None:
        """Print what changed."""
        self._noted = ""
        for line in changes(before, row):
            print(f"{now():%Y-%m-%d %H:%M:%SZ} {line}", flush=True)

    def note(self, sentence: str) -> None:
        """Say that it is not known how it is, once."""
        if sentence != self._noted:
            print(f"{now():%Y-%m-%d %H:%M:%SZ} {sentence}", file=sys.stderr, flush=True)
        self._noted = sentence

    def end(self, row: Json) -> None:
        """The last line has said it."""


class _Json(_Lines):
    """The whole rollout for each change."""

    def show(self, before: Json | None, row: Json) -> None:
        """Print it if anything changed."""
        if before is None or any(True for _ in changes(before, row)):
            print(json.dumps(row), flush=True)


class _Screen:
    """One picture, as high as the terminal allows."""

    def __init__(self) -> None:
        self._drawn = 0

    def show(self, before: Json | None, row: Json) -> None:
        """Draw it anew."""
        lines = shown(row, now())
        cut = next((at for at, line in enumerate(lines) if line.startswith("You may ")), len(lines))
        self._draw([*lines[:cut], f"{now():%H:%M:%S} UTC. Ctrl-C ends the watching, not the rollout."])

    def note(self, sentence: str) -> None:
        """Say so below the picture."""
        print(sentence, flush=True)
        self._drawn += 1

    def end(self, row: Json) -> None:
        """Say how it ended."""
        print(f"{heading(row)}. It ended: {words(row['state'])}.")

    def _draw(self, lines: list[str]) -> None:
        width, height = shutil.get_terminal_size()
        fitting = [line[:width] for line in lines]
        if len(fitting) >= height:
            fitting = [*fitting[: max(1, height - 3)], "...", fitting[-1]]
        back = _BACK.format(self._drawn) if self._drawn else ""
        sys.stdout.write(back + "\n".join(fitting) + "\n")
        sys.stdout.flush()
        self._drawn = len(fitting)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.2 <= value <= 3_600:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.2 and 3600 seconds")
    return value
