"""`manage.py provision`: makes the database, its roles and their memberships."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet import env
from fleet.stack.errors import StackError
from fleet.stack.provision import Plan, provision


class Command(BaseCommand):
    """Idempotent; connects as DATABASE_ADMIN_URL where that is set, else as DATABASE_OWNER_URL."""

    help = __doc__
    requires_system_checks: list[str] = []  # they look at the roles that this command makes

    def handle(self, *args: Any, **options: Any) -> None:
        owner = env.text("DATABASE_OWNER_URL")
        plan = Plan(app=env.text("DATABASE_URL"), owner=owner, admin=env.text("DATABASE_ADMIN_URL", owner))
        try:
            done = provision(plan)
        except StackError as error:
            raise CommandError(str(error)) from error
        for line in done or ["Nothing to do: database and roles are as they should be."]:
            self.stdout.write(line)
