"""A migration that is cut off before it is noted leaves nothing, and the next one who migrates applies it."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from fleet.stack.management.commands.migrate import Executor
from tests.database import OWNER, rows, value

pytestmark = pytest.mark.usefixtures("database")


class Killed(BaseException):
    """What a kill -9 is to the process."""


class Cut(migrations.Migration):
    """With an index: Django notes such a migration after its commit."""

    operations = [
        migrations.CreateModel(
            "Cut", [("id", models.BigAutoField(primary_key=True)), ("word", models.TextField(db_index=True))]
        )
    ]


def stands() -> tuple[bool, bool]:
    """Whether the table is there, and whether the migration is noted."""
    table = value("SELECT to_regclass('cut_cut') IS NOT NULL", using=OWNER)
    return table, value("SELECT count(*) > 0 FROM django_migrations WHERE app = 'cut'", using=OWNER)


def run(step: str, monkeypatch: pytest.MonkeyPatch, *, killed: bool) -> None:
    executor = Executor(connections[OWNER])
    with monkeypatch.context() as patch:
        if killed:
            patch.setattr(MigrationRecorder, "record_applied", _kill)
            patch.setattr(MigrationRecorder, "record_unapplied", _kill)
        getattr(executor, step)(executor.loader.project_state(), Cut("0001_cut", "cut"))


def _kill(*_: Any) -> None:
    raise Killed


def test_what_is_cut_off_before_its_note_is_not_there_and_comes_with_the_next_one(monkeypatch):
    try:
        with pytest.raises(Killed):
            run("apply_migration", monkeypatch, killed=True)
        assert stands() == (False, False)
        run("apply_migration", monkeypatch, killed=False)
        assert stands() == (True, True)
        with pytest.raises(Killed):
            run("unapply_migration", monkeypatch, killed=True)
        assert stands() == (True, True)
        run("unapply_migration", monkeypatch, killed=False)
        assert stands() == (False, False)
    finally:
        rows("DROP TABLE IF EXISTS cut_cut", using=OWNER)
        rows("DELETE FROM django_migrations WHERE app = 'cut'", using=OWNER)


def test_the_command_migrates_so(monkeypatch):
    asked = []

    def plan(self: MigrationExecutor, *args: Any, **options: Any) -> Any:
        asked.append(type(self))
        return MigrationExecutor.migration_plan(self, *args, **options)

    monkeypatch.setattr(Executor, "migration_plan", plan, raising=False)
    call_command("migrate", database=OWNER, interactive=False, verbosity=0)
    assert set(asked) == {Executor}
