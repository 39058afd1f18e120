"""`manage.py backup` and `restore`: the database in one file, and, on demand, the signer's keys in another."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import django
from psycopg import sql

from fleet import env
from fleet.stack import archive, dump
from fleet.stack.console import Console
from fleet.stack.errors import StackError
from fleet.stack.options import External
from fleet.stack.servers import start_servers
from fleet.stack.state import open_state
from fleet.stack.supervisor import Supervisor

PASSPHRASE = "BACKUP_PASSPHRASE"  # noqa: S105 - a variable's name


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code; what goes wrong is said in one line."""
    given = _parser().parse_args(arguments)
    console = Console()
    try:
        with _database(console) as owner:
            for line in (backup if given.command == "backup" else restore)(given, owner):
                console.say(line)
    except (StackError, env.EnvironmentError_) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def backup(given: argparse.Namespace, owner: str) -> Iterator[str]:
    """Write a backup of the database; with --keys the signer's keys beside it. Says what it did. Raises StackError."""
    from django.conf import settings

    now = datetime.now(UTC)
    path = _target(given.path, now)
    passphrase = _passphrase() if given.keys else ""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".backup-") as folder:
        file = Path(folder) / archive.DUMP
        rows, migrations = dump.write_dump(owner, file)
        manifest = archive.Manifest(
            made_at=now.isoformat(timespec="seconds"),
            fleet=settings.FLEET_NAME,
            migrations=migrations,
            rows=rows,
            sha256=archive.sha256_of(file),
            size=file.stat().st_size,
        )
        archive.pack(path, manifest, file)
    yield f"{path}: {sum(rows.values())} rows of {len(rows)} tables, {path.stat().st_size / 1e6:.1f} MB"
    if given.keys:
        keys = path.with_name(f"{path.name}.keys")
        names = archive.seal_keys(settings.SIGNER_KEYS, keys, passphrase)
        yield f"{keys}: {', '.join(names)}, encrypted; keep it apart from the other file"


def restore(given: argparse.Namespace, owner: str) -> Iterator[str]:
    """Put a backup in the place of the database, and have every site recover. Raises StackError, nothing changed.

    Keys are put in last, for without them nothing is signed.
    """
    from django.conf import settings

    from sites.services.recovery import BEGIN_RECOVERY, RECORD_RECOVERY

    keys = archive.open_keys(given.keys, _passphrase()) if given.keys else {}
    if keys:
        archive.require_no_keys(settings.SIGNER_KEYS)
    with tempfile.TemporaryDirectory(dir=given.path.parent, prefix=".restore-") as folder:
        manifest, file = archive.unpack(given.path, Path(folder))
        _check_fits(manifest)
        dump.require_quiet(owner, replace=given.replace)
        record = sql.SQL(RECORD_RECOVERY).format(made_at=sql.Literal(manifest.made_at)).as_string(None)
        dump.read_dump(owner, file, manifest.rows, (BEGIN_RECOVERY, record))
    yield f"restored: the database as of {manifest.made_at}, {sum(manifest.rows.values())} rows"
    if keys:
        archive.put_keys(keys, settings.SIGNER_KEYS)
        yield f"restored: {', '.join(keys)} in {settings.SIGNER_KEYS}"
    yield "every site recovers: nothing is given out or signed for one until it has told its counters"


# ------------------------------------------------------------------------------------------------------------
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manage.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("backup", help="write the database to a file")
    one.add_argument("path", type=Path, help="a file, or a folder in which it gets a name of its own")
    one.add_argument("--keys", action="store_true", help=f"the signer's keys too, encrypted with {PASSPHRASE}")
    one = commands.add_parser("restore", help="put a backup in the place of the database")
    one.add_argument("path", type=Path, help="the backup")
    one.add_argument("--replace", action="store_true", help="throw away what the database holds")
    one.add_argument("--keys", type=Path, help=f"the file of the signer's keys, opened with {PASSPHRASE}")
    return parser


@contextmanager
def _database(console: Console) -> Iterator[str]:
    """URL of the owner: of the environment, of `manage.py up` while it runs, or of our own server, for this while."""
    if _is_named("DATABASE_OWNER_URL"):
        _set_up()
        yield env.text("DATABASE_OWNER_URL")
        return
    state = open_state()
    supervisor = Supervisor(console, state.logs)
    try:
        with state.locked("up.lock", f"a backup or restore (process {os.getpid()})"):
            try:
                servers = start_servers(state, External(None, None, None, "redis://none"), supervisor, console)
                os.environ |= {"DATABASE_URL": servers.database.app, "DATABASE_OWNER_URL": servers.database.owner}
                os.environ |= {"REDIS_URL": "redis://127.0.0.1:1", "ARCHIPELAGO_STATE_DIR": str(state.base)}
                os.environ.setdefault("SECRET_KEY", state.secret("SECRET_KEY"))
                _set_up()
                yield servers.database.owner
            finally:
                supervisor.stop_all()
    except BlockingIOError as error:
        raise StackError(f"Archipelago is running at {error.strerror}, or just ending; stop that first.") from None


def _is_named(name: str) -> bool:
    try:
        return bool(env.text(name))
    except env.EnvironmentError_:
        return False


def _set_up() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    django.setup()


def _target(path: Path, now: datetime) -> Path:
    path = path.absolute()
    if path.is_dir():
        path = path / f"archipelago-{now:%Y%m%dT%H%M%SZ}.backup"
    if not path.parent.is_dir():
        raise StackError(f"There is no folder {path.parent}.")
    return path


def _passphrase() -> str:
    found = env.text("BACKUP_PASSPHRASE", "")
    if not found:
        raise StackError(f"{PASSPHRASE} (or {PASSPHRASE}_FILE) must hold the passphrase of the keys.")
    return found


def _check_fits(manifest: archive.Manifest) -> None:
    """Raise StackError for a backup of another version of the schema, or of another fleet."""
    from django.conf import settings
    from django.db.migrations.loader import MigrationLoader

    if manifest.fleet != settings.FLEET_NAME:
        raise StackError(f"This is a backup of {manifest.fleet}; this fleet is {settings.FLEET_NAME}.")
    here = set(MigrationLoader(None).graph.nodes)
    there = {(app, name) for app, name in manifest.migrations}
    if here != there:
        lacking, beyond = len(here - there), len(there - here)
        raise StackError(
            f"The backup is of another version of the schema ({lacking} migrations older, {beyond} newer): restore it"
            " with the release that made it, then migrate."
        )
