"""`manage.py up`: see fleet.stack.up, which manage.py calls before the settings are read."""

from typing import Any

from django.core.management.base import BaseCommand

from fleet.stack.up import main


class Command(BaseCommand):
    """Starts PostgreSQL, Redis, the web, the workers and the demo fleet, and keeps them running."""

    help = __doc__
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        raise SystemExit(main())
