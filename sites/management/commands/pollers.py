"""Spread the fleet over a number of pollers."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sites.services.claims import map_pollers


class Command(BaseCommand):
    help = "Spread the 64 shards of the fleet over N pollers (queues poll.0 to poll.N-1)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("count", type=int, metavar="N")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            map_pollers(options["count"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"shards are spread over {options['count']} poller(s)")
