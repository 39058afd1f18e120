#!/usr/bin/env python
"""Command line of the project: Django's commands and our own."""

import os
import sys


def main() -> None:
    """Run one management command. `up` makes what the settings are read from, so it goes before them."""
    if sys.argv[1:] == ["up"]:
        from fleet.stack.up import main as up

        raise SystemExit(up())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
