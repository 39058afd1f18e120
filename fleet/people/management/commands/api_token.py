"""Print a new API token of a user, and nothing else."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fleet.kit.tenancy import job
from fleet.people.models import User
from fleet.people.services import TOKEN_DAYS, mint_token


class Command(BaseCommand):
    help = "Print a new API token of a user, and nothing else."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="user name")
        parser.add_argument("--days", type=int, default=TOKEN_DAYS, choices=range(1, TOKEN_DAYS + 1), metavar="DAYS")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is no user {options['user']}")
        self.stdout.write(mint_token(actor=job("api_token"), user=user, now=timezone.now(), days=options["days"]))
