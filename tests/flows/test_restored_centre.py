"""The centre is restored from an older backup, and asks for journals again: a copy of the whole database, put back."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.test import Client
from psycopg import sql

from tests.flows.running import HOUR_S, Running, are_polled_on, read_on
from tests.flows.system import System, query

WRITERS = ("poller0", "tick", "beat", "gateway")
ENTRIES = "SELECT site_id, seq, kind, digest, body FROM edge_sites_journalentry ORDER BY site_id, seq"
STANDING = """
SELECT state, valid_from FROM edge_sites_stateinterval
WHERE site_id = %s AND axis = 'availability' AND superseded_at IS NULL ORDER BY valid_from
"""
DAY_S = 24 * HOUR_S


class Backup:
    """Copies of the database, made and put back while nobody works with it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._name = connections["default"].settings_dict["NAME"]

    def take(self) -> None:
        """Copy all there is."""
        with self._nobody_works() as admin:
            self._copy(admin, self._name, f"{self._name}_backup")

    def restore(self) -> None:
        """Put the copy in the place of the database."""
        with self._nobody_works() as admin:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(self._name)))
            self._copy(admin, f"{self._name}_backup", self._name)

    def forget(self) -> None:
        """Drop the copy."""
        with self._admin() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(f"{self._name}_backup")))

    @contextmanager
    def _nobody_works(self) -> Iterator[psycopg.Connection[Any]]:
        """Kill all that writes, and start it again afterwards."""
        for name in WRITERS:
            self._system.kill(name)
        self._system.close_connections()
        with self._admin() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [self._name],
            )
            yield admin
        for name in WRITERS:
            if name == "gateway":
                self._system.start_gateway()
            else:
                self._system.start_worker(name)

    @staticmethod
    def _admin() -> psycopg.Connection[Any]:
        return psycopg.connect(os.environ["DATABASE_ADMIN_URL"], autocommit=True)

    @staticmethod
    def _copy(admin: psycopg.Connection[Any], origin: str, name: str) -> None:
        ((owner,),) = admin.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [origin]
        ).fetchall()
        names = [sql.Identifier(part) for part in (name, origin, owner)]
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*names))


@pytest.mark.full
@pytest.mark.usefixtures("plain_static")
def test_a_centre_restored_from_a_backup_reads_again_what_it_had_read(
    system: System, start_running: Callable[..., Any], signed_in: Callable[..., Client]
) -> None:
    young, old = start_running(0, 40 * DAY_S)
    backup = Backup(system)
    backup.take()
    try:
        before = {one.pk: one.seq() for one in (young, old)}
        are_polled_on(young, old)
        young.agent.order("judge", state="down")
        time.sleep(5)
        young.agent.order("judge", state="up")
        # What is older than 30 days goes from the agent once it was acknowledged.
        old.live(1)
        read_on(young, old)
        acked = old.seq()
        old.live(32 * 24, step_s=6 * HOUR_S)
        read_on(old)
        old.live(2 / 60)
        read_on(old)
        are_polled_on(young, old)
        entries, history = query(ENTRIES), query(STANDING, young.pk)
        assert [state for state, _ in history] == ["unknown", "up", "down", "up"]

        backup.restore()
        assert {one.pk: one.seq() for one in (young, old)} == before
        young.agent.order("judge", state="degraded")
        young.agent.order("judge", state="up")
        old.live(2 / 60)
        read_on(young, old)
        are_polled_on(young, old)
    finally:
        backup.forget()

    # All that the young agent holds came again as it was, and no entry came twice (which the table refuses as well).
    again = query(ENTRIES)
    assert entries_of(again, young)[: len(entries_of(entries, young))] == entries_of(entries, young)
    now = query(STANDING, young.pk)[: len(history)]
    assert [state for state, _ in now] == ["unknown", "up", "down", "up"]
    # Moments are told by another report than before; the agent's clock shows whole seconds.
    assert all(abs(told - known) < timedelta(seconds=2) for (_, told), (_, known) in zip(now, history, strict=True))
    # The old one no longer has what it knew to be safe: a hole, which is said with the site, and no alarm.
    assert query("SELECT object_id, note FROM kit_auditentry WHERE action LIKE 'journal.%%'") == [
        (str(old.pk), f"entries {before[old.pk] + 1} to {acked} are gone")
    ]
    assert f"entries {before[old.pk] + 1} to {acked} are gone" in (
        signed_in("viewer").get(f"/sites/{old.site.slug}/").content.decode()
    )
    assert query("SELECT problem FROM edge_sites_journalcursor WHERE acked = seq") == [("",)] * 2
    assert "Traceback" not in system.log("poller0").read_text()


def entries_of(rows: list[tuple[Any, ...]], one: Running) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[0] == one.pk]
