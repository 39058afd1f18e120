"""`manage.py demo_seed`: puts the demo company into the database."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet import env
from fleet.stack.demo.fleet import FIRST_PORT
from fleet.stack.demo.seed import seed
from fleet.stack.errors import StackError
from fleet.stack.options import DEMO_SITES, MOST_SITES
from fleet.stack.state import open_state


class Command(BaseCommand):
    """Idempotent. `up` calls it at every start."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sites", type=int, metavar="N", help="simulated sites (default: SITES, or 60)")

    def handle(self, *args: Any, **options: Any) -> None:
        number = options["sites"] or env.integer("SITES", DEMO_SITES, least=1, most=MOST_SITES)
        port = env.integer("DEMO_PORT", FIRST_PORT, least=1, most=65_000)
        try:
            state = open_state()
        except StackError as error:
            raise CommandError(str(error)) from error
        password = env.text("ARCHIPELAGO_DEMO_PASSWORD", "") or state.secret("demo_password")
        counts = seed(state, number=number, port=port, password=password)
        changes = [f"{count:,} sites {what.replace('_', ' ')}" for what, count in counts.items() if count]
        self.stdout.write(f"Demo of {number + 1:,} sites: {', '.join(changes) or 'nothing to change'}.")
