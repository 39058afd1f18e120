#!/usr/bin/env python
"""Command line of the project: Django's commands and our own."""

import os
import sys


def main() -> None:
    """Run one management command. `up`, `backup` and `restore` find what the settings are read from; they go first."""
    if sys.argv[1:] == ["up"]:
        from fleet.stack.up import main as up

        raise SystemExit(up())
    if sys.argv[1:2] in (["backup"], ["restore"]):
        from fleet.stack.safekeeping import main as safekeeping

        raise SystemExit(safekeeping(sys.argv[1:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
