"""`manage.py migrate`: Django's own, but a migration and the note of it are there together or not at all."""

from typing import Any

from django.core.management.commands import migrate
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState
from django.db.transaction import atomic


class Executor(MigrationExecutor):
    """Django notes most migrations after their commit: one killed in between is tried again, and fails for ever."""

    def apply_migration(self, state: ProjectState, migration: Migration, *args: Any, **options: Any) -> ProjectState:
        """As Django does, in one transaction; one with `atomic = False` stays without."""
        if not migration.atomic:
            return super().apply_migration(state, migration, *args, **options)
        with atomic(self.connection.alias):
            return super().apply_migration(state, migration, *args, **options)

    def unapply_migration(self, state: ProjectState, migration: Migration, *args: Any, **options: Any) -> ProjectState:
        """The same backwards."""
        if not migration.atomic:
            return super().unapply_migration(state, migration, *args, **options)
        with atomic(self.connection.alias):
            return super().unapply_migration(state, migration, *args, **options)


class Command(migrate.Command):
    """Takes what Django's takes."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, with our executor in the place of Django's: its command has no other way to name one."""
        theirs, migrate.MigrationExecutor = migrate.MigrationExecutor, Executor  # type: ignore[attr-defined]
        try:
            super().handle(*args, **options)
        finally:
            migrate.MigrationExecutor = theirs  # type: ignore[attr-defined]
