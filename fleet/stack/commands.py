"""Runs management commands one after the other in one process: `python -m fleet.stack.commands "migrate ..." ...`."""

import os
import shlex
import sys

import django
from django.core.management import CommandError, call_command


def main(commands: list[str]) -> int:
    """Run each command line; the first that fails ends it with its message in one line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    django.setup()
    for command in commands:
        try:
            call_command(*shlex.split(command))
        except CommandError as error:
            sys.stderr.write(f"{' '.join(str(error).split())}\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
