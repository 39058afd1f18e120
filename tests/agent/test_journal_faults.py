"""The journal and what happens to it: kill -9, a full disk, a file that is cut, edited, replaced or gone."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from agent.journal import Journal, JournalError
from agent.journal_file import RESERVE_STEP, Draft
from agent.protocol.entries import GENESIS, Alive, Entry, Gap, entry_digest
from agent.protocol.journal import AckAnswer, AckRequest
from tests.agent.factories import SITE
from tests.agent.journals import BOOT, BOUND, SAMPLE, UP, fill, minute, read_all, read_entries, write
from tests.agent.wire import ROOT

WRITER = """
import sys
from pathlib import Path
from agent.journal import Journal
from agent.protocol.entries import Alive
from tests.agent.factories import SITE
from tests.agent.journals import BOOT, BOUND, SAMPLE, minute
journal = Journal.open(Path(sys.argv[1]), bound_bytes=BOUND)
number = 0
while True:
    number += 1
    head = journal.append(SITE, SAMPLE if number % 3 else Alive(), boot=BOOT, mono_ms=number, at=minute(number))
    print(*head, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def open_at(path: Path) -> Journal:
    return Journal.open(path, bound_bytes=BOUND)


def filled(path: Path, count: int = 500) -> list[Entry]:
    with closing(open_at(path)) as journal:
        fill(journal, count)
        return read_entries(journal)


def edit(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(statement).rowcount > 0
        db.commit()


def assert_begins_anew(path: Path, reason: str, used: int) -> int:
    """A new file whose first entry is a gap above all numbers used; the agent goes on, the centre can read it.

    Returns the last number used now.
    """
    journal = open_at(path)
    assert journal.head(SITE) == (0, None)
    write(journal, [UP, Alive()])
    (page,) = read_all(journal, after=used, prev="sha256:" + "1" * 64)
    gap, *rest = page.entries
    assert gap.prev == GENESIS
    assert gap.body == Gap(1, gap.seq - 1, {}, reason)  # type: ignore[arg-type]
    assert page.holes == ((used + 1, gap.seq - 1),)
    assert [e.body for e in rest] == [UP, Alive()]
    journal.close()
    with closing(open_at(path)) as journal:
        assert journal.head(SITE) == (page.to, page.head)
    return page.to


def test_kill_at_any_point_leaves_entries_whole_and_numbers_unique(path: Path) -> None:
    random = Random(7)
    told: dict[int, str] = {}
    for _ in range(8):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told_now = [writer.stdout.readline()]
            time.sleep(random.uniform(0, 0.2))
            writer.send_signal(signal.SIGKILL)
            told_now += writer.stdout.read().splitlines()
        for line in told_now:
            if len(line.split()) == 2 and len(line.split()[1]) == len(GENESIS):
                seq, digest = line.split()
                assert int(seq) not in told, "a number was used twice"
                told[int(seq)] = digest
        with closing(open_at(path)) as journal:
            assert journal.ended_cleanly is False
            entries = read_entries(journal)  # checks the chain
            held = {e.seq: entry_digest(e) for e in entries}
            assert told.items() <= held.items()
            assert len(entries) == entries[-1].seq
            told |= held
    assert len(told) > 8  # however slow the machine is, each writer told of one


class TestDamage:
    def test_a_truncated_file(self, path: Path) -> None:
        filled(path)
        os.truncate(path, path.stat().st_size * 2 // 3)
        assert_begins_anew(path, "damaged", 500)
        assert len(list(path.parent.glob("*.aside-*"))) == 1

    def test_an_empty_file_and_a_file_of_rubbish(self, path: Path) -> None:
        filled(path)
        path.write_bytes(b"")
        used = assert_begins_anew(path, "damaged", 500)
        for _ in range(4):
            path.write_bytes(b"rubbish" * 5_000)
            used = assert_begins_anew(path, "damaged", used)
        assert len(list(path.parent.glob("*.aside-*"))) == 2

    def test_a_missing_file(self, path: Path) -> None:
        filled(path)
        path.unlink()
        assert_begins_anew(path, "missing", 500)

    def test_numbers_used_to_the_last_that_was_reserved(self, path: Path) -> None:
        filled(path)
        with closing(open_at(path)) as journal:
            write(journal, [Alive()] * RESERVE_STEP)
        path.unlink()
        assert_begins_anew(path, "missing", 500 + RESERVE_STEP)  # which asks for a hole

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entry SET bytes = CAST(replace(CAST(bytes AS TEXT), 'ratio', 'ratia') AS BLOB) WHERE seq = 100",
            "UPDATE entry SET bytes = CAST(replace(CAST(bytes AS TEXT), 'ratio', 'ratia') AS BLOB) WHERE seq = 500",
            "UPDATE entry SET bytes = x'00' WHERE seq = 17",
            "UPDATE entry SET bytes = 1 WHERE seq = 17",
            "UPDATE entry SET kind = 1 WHERE seq = 100",
            "UPDATE entry SET kind = 99 WHERE seq = 100",
            "UPDATE entry SET seq = 501 WHERE seq = 100",
            "UPDATE entry SET site = 5 WHERE seq = 1",
            "DELETE FROM entry WHERE seq = 100",
            "DELETE FROM entry WHERE seq < 100",
            "DELETE FROM entry WHERE seq > 400",
            "DELETE FROM entry",
            "DELETE FROM site",
            "DELETE FROM meta",
            "UPDATE meta SET commits = commits - 1",
            "UPDATE site SET seq = 499",
            "UPDATE site SET digest = 'x'",
            "UPDATE site SET acked = 'x'",
            "UPDATE site SET uuid = 'x'",
            "UPDATE meta SET base = 'x'",
            "UPDATE meta SET reason = 'x'",
        ],
    )
    def test_an_edited_file(self, path: Path, statement: str) -> None:
        filled(path)
        edit(path, statement)
        assert_begins_anew(path, "rolled_back" if "commits" in statement else "damaged", 500)

    def test_an_older_copy(self, path: Path) -> None:
        filled(path)
        shutil.copy(path, path.with_name("copy"))
        with closing(open_at(path)) as journal:
            write(journal, [UP])
        shutil.copy(path.with_name("copy"), path)
        assert_begins_anew(path, "rolled_back", 501)

    def test_an_older_copy_with_the_log_of_the_newer(self, path: Path) -> None:
        filled(path)
        shutil.copy(path, path.with_name("copy"))
        journal = open_at(path)
        write(journal, [UP] * 3)
        shutil.copy(f"{path}-wal", path.with_name("log"))
        journal.close()
        shutil.copy(path.with_name("copy"), path)
        shutil.copy(path.with_name("log"), f"{path}-wal")
        with closing(open_at(path)) as journal:
            assert journal.head(SITE)[0] == 503
            assert len(read_entries(journal)) == 503

    def test_the_mark_alone_is_not_missed(self, path: Path) -> None:
        for spoil in (Path.unlink, lambda mark: mark.write_bytes(b"rubbish")):
            entries = filled(path)
            spoil(path.with_name("journal.db.mark"))
            with closing(open_at(path)) as journal:
                assert read_entries(journal)[-len(entries) :] == entries
                write(journal, [UP])
                assert journal.head(SITE)[0] == entries[-1].seq + 1

    def test_journal_and_mark_both_damaged(self, path: Path) -> None:
        filled(path)
        path.write_bytes(b"rubbish" * 5_000)
        path.with_name("journal.db.mark").write_bytes(b"rubbish")
        assert_begins_anew(path, "damaged", 500)

    def test_an_old_acknowledgement_is_no_alarm(self, path: Path) -> None:
        entries = filled(path)
        path.unlink()
        with closing(open_at(path)) as journal:
            request = AckRequest(500, entry_digest(entries[-1]))
            assert journal.ack(SITE, request) == AckAnswer("refused", 0, "dropped")
            write(journal, [UP])
            assert journal.ack(SITE, request) == AckAnswer("refused", 0, "dropped")

    def test_a_head_that_is_another_than_it_was(self, path: Path) -> None:
        filled(path)
        journal = open_at(path)
        assert journal._file is not None
        assert journal._file.db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: no power can be cut here
        journal._file.db.execute(
            "UPDATE entry SET bytes = CAST(replace(CAST(bytes AS TEXT), 'boot', 'bo0t') AS BLOB) WHERE seq = 500"
        )
        with pytest.raises(JournalError, match="was damaged"):
            journal.page(SITE, 499)

    def test_damage_that_shows_only_while_it_runs(self, path: Path) -> None:
        filled(path)
        edit(path, "UPDATE entry SET bytes = CAST(replace(CAST(bytes AS TEXT), 'boot', 'bo0t') AS BLOB) WHERE seq = 3")
        journal = Journal.open(path, bound_bytes=BOUND, tail=10)
        assert journal.head(SITE)[0] == 500
        with pytest.raises(JournalError, match="was damaged"):
            journal.page(SITE, 0)
        assert (journal.head(SITE), journal.renewals) == ((0, None), 0)
        write(journal, [UP])
        assert journal.renewals == 1
        assert [e.kind for e in read_entries(journal)] == ["gap", "verdict"]
        assert journal.head(SITE)[0] > 500


class TestFullDisk:
    @pytest.fixture
    def allow(self) -> object:
        """Let no file of this process grow beyond so many bytes: a full disk, but for the error's name."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    def test_the_agent_goes_on_and_says_what_it_lost(self, path: Path, allow: Callable[[int | None], None]) -> None:
        journal = Journal.open(path, bound_bytes=BOUND, held_limit=10)
        write(journal, [UP])
        head = journal.head(SITE)
        allow(64)
        for number in range(1, 31):
            body = (UP, Alive(), SAMPLE)[number % 3]
            assert journal.append(SITE, body, boot=BOOT, mono_ms=number * 60_000, at=minute(number)) == head
        assert journal.held == 10
        assert [e.body for e in read_entries(journal)] == [UP]
        allow(None)
        write(journal, [Alive()], start=31)
        entries = read_entries(journal)
        assert entries[1].body == Gap(2, 1, {"alive": 10, "sample": 10}, "disk_full")
        assert [e.body for e in entries[2:]] == [UP] * 10 + [Alive()]
        assert [e.at for e in entries[2:]] == [minute(n) for n in range(3, 31, 3)] + [minute(31)]
        assert [e.seq for e in entries] == list(range(1, 14))
        assert journal.held == 0

    def test_when_it_is_full_from_the_start(self, path: Path, allow: Callable[[int | None], None]) -> None:
        allow(64)
        journal = open_at(path)
        write(journal, [UP, Alive()])
        assert (journal.head(SITE), journal.held) == ((0, None), 2)
        with pytest.raises(JournalError):
            journal.ack(SITE, AckRequest(1, GENESIS))
        allow(None)
        write(journal, [SAMPLE], start=2)
        assert [e.body for e in read_entries(journal)] == [UP, Alive(), SAMPLE]

    def test_the_bound_itself_reached_in_one_go(self, path: Path) -> None:
        journal = open_at(path)
        journal.append_many([Draft(SITE, SAMPLE, BOOT, i, minute(i)) for i in range(5_000)])
        journal.append_many([Draft(SITE, SAMPLE, BOOT, i, minute(i)) for i in range(12_000)])
        assert path.stat().st_size <= BOUND
        assert journal.held == 0
        assert read_entries(journal)[-1].seq > 17_000


def test_a_real_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        with closing(Journal.open(disk / "journal.db", bound_bytes=BOUND, held_limit=50)) as journal:
            for number in range(600):
                write(journal, [SAMPLE if number % 2 else Alive()], start=number)
            assert journal.held == 50
            full_at = read_entries(journal)[-1].seq
            assert full_at > 10
            subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
            write(journal, [UP], start=600)
            entries = read_entries(journal)
            assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
            gap = entries[full_at].body
            assert isinstance(gap, Gap)
            assert gap.reason == "disk_full"
            assert full_at + sum(gap.lost.values()) + 50 + 1 == 601
    finally:
        subprocess.run(["umount", str(disk)], check=True)
