"""The journal on a disk that works: append, read, acknowledge, keep the bound."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agent.journal import AheadError, Journal
from agent.journal_file import Draft, InUseError
from agent.protocol import ProtocolError
from agent.protocol.entries import GENESIS, Access, Alive, Gap, decode_entry, entry_digest
from agent.protocol.journal import MAX_PAGE_BYTES, AckAnswer, AckRequest
from tests.agent.factories import AT, SITE
from tests.agent.journals import BOOT, BOUND, SAMPLE, UP, fill, minute, read_all, read_entries, reopen, write

OTHER = UUID("11111111-1111-4111-8111-111111111111")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Journal:
    return Journal.open(path, bound_bytes=BOUND)


def gaps(journal: Journal) -> list[Gap]:
    return [entry.body for entry in read_entries(journal) if isinstance(entry.body, Gap)]


class TestAppend:
    def test_numbers_and_chains(self, journal: Journal) -> None:
        assert journal.head(SITE) == (0, None)
        assert journal.page(SITE, 0).head == GENESIS
        write(journal, [UP, Alive(), SAMPLE])
        entries = read_entries(journal)
        assert [(e.seq, e.body, e.boot, e.mono_ms, e.at) for e in entries] == [
            (1, UP, BOOT, 0, minute(0)),
            (2, Alive(), BOOT, 60_000, minute(1)),
            (3, SAMPLE, BOOT, 120_000, minute(2)),
        ]
        assert [e.prev for e in entries] == [GENESIS, entry_digest(entries[0]), entry_digest(entries[1])]
        assert journal.head(SITE) == (3, entry_digest(entries[2]))
        assert journal.append(SITE, UP, boot=BOOT, mono_ms=0, at=AT) == journal.head(SITE)

    def test_survives_a_restart(self, journal: Journal, path: Path) -> None:
        write(journal, [UP, Alive()])
        entries, head = read_entries(journal), journal.head(SITE)
        assert journal.ended_cleanly is None
        journal = reopen(journal, path)
        assert (read_entries(journal), journal.head(SITE), journal.ended_cleanly) == (entries, head, True)
        write(journal, [SAMPLE])
        assert read_entries(journal)[:2] == entries
        assert journal.head(SITE)[0] == 3

    def test_keeps_sites_of_one_file_apart(self, journal: Journal) -> None:
        drafts = [Draft(site, Alive(), BOOT, i, minute(i)) for i in range(3) for site in (SITE, OTHER)]
        journal.append_many(drafts)
        assert journal.head(SITE)[0] == journal.head(OTHER)[0] == 3
        for site in (SITE, OTHER):
            assert [decode_entry(raw).mono_ms for raw in journal.page(site, 0).entries] == [0, 1, 2]

    def test_what_the_centre_would_refuse_is_not_written(self, journal: Journal) -> None:
        good = Draft(SITE, Alive(), BOOT, 1, AT)
        for body in (Access("a\nb", "c", "d"), Access("\ud800", "c", "d"), Access("a" * 513, "c", "d")):
            with pytest.raises(ProtocolError):
                journal.append_many([good, Draft(SITE, body, BOOT, 1, AT)])
        assert journal.head(SITE) == (0, None)

    def test_a_second_process_is_refused(self, journal: Journal, path: Path) -> None:
        write(journal, [UP])
        with pytest.raises(InUseError):
            Journal.open(path, bound_bytes=BOUND)
        write(journal, [UP])
        assert journal.head(SITE)[0] == 2


class TestPages:
    def test_are_bounded_in_entries_and_bytes(self, journal: Journal) -> None:
        journal.append_many([Draft(SITE, Alive(), BOOT, i, minute(i)) for i in range(1_500)])
        assert [len(page.entries) for page in read_all(journal)] == [1_000, 500]
        assert len(journal.page(SITE, 0, 7).entries) == 7
        assert len(journal.page(SITE, 1_499, 0).entries) == 1
        long = Access("x" * 512, "y" * 512, "z" * 512)
        journal.append_many([Draft(OTHER, long, BOOT, i, minute(i)) for i in range(400)])
        assert 590_000 < sum(map(len, journal.page(OTHER, 0).entries)) < MAX_PAGE_BYTES

    def test_begin_anywhere_but_ahead(self, journal: Journal) -> None:
        fill(journal, 10)
        whole = read_entries(journal)
        head = journal.head(SITE)[1]
        assert read_all(journal, after=10, prev=head) == []
        assert [e for page in read_all(journal, after=4, prev=entry_digest(whole[3])) for e in page.entries] == whole[
            4:
        ]
        with pytest.raises(AheadError, match="after 11, but the last entry is 10"):
            journal.page(SITE, 11)


class TestAcknowledgement:
    def test_needs_the_head_that_is_held(self, journal: Journal, path: Path) -> None:
        fill(journal, 5)
        digests = [digest for page in read_all(journal) for digest in page.digests]
        assert journal.ack(SITE, AckRequest(3, digests[3])) == AckAnswer("refused", 0, "other_head")
        assert journal.ack(SITE, AckRequest(6, digests[4])) == AckAnswer("refused", 0, "ahead")
        assert journal.ack(OTHER, AckRequest(1, digests[0])) == AckAnswer("refused", 0, "ahead")
        assert journal.ack(SITE, AckRequest(3, digests[2])) == AckAnswer("accepted", 3)
        assert journal.ack(SITE, AckRequest(3, digests[2])) == AckAnswer("unchanged", 3)
        assert journal.ack(SITE, AckRequest(2, digests[1])) == AckAnswer("unchanged", 3)
        assert journal.ack(SITE, AckRequest(2, digests[2])) == AckAnswer("refused", 3, "other_head")
        journal = reopen(journal, path)
        assert journal.ack(SITE, AckRequest(3, digests[2])) == AckAnswer("unchanged", 3)
        assert len(read_entries(journal)) == 5

    def test_lets_entries_go_after_30_days(self, journal: Journal, path: Path) -> None:
        fill(journal, 10)
        entries = read_entries(journal)
        journal.ack(SITE, AckRequest(6, entry_digest(entries[5])))
        journal.prune(minute(3) + timedelta(days=30))
        assert [e.seq for e in read_entries(journal)] == [4, 5, 6, 7, 8, 9, 10]
        journal.prune(minute(1_000) + timedelta(days=30))
        assert read_all(journal)[0].holes == ((1, 6),)
        assert [e.seq for e in read_entries(journal)] == [7, 8, 9, 10]
        assert journal.ack(SITE, AckRequest(6, entry_digest(entries[5]))) == AckAnswer("unchanged", 6)
        assert journal.ack(SITE, AckRequest(5, entry_digest(entries[4]))) == AckAnswer("refused", 6, "dropped")
        journal = reopen(journal, path)
        assert [e.seq for e in read_entries(journal)] == [7, 8, 9, 10]
        assert gaps(journal) == []

    def test_never_lets_the_head_go(self, journal: Journal, path: Path) -> None:
        fill(journal, 3)
        head = journal.head(SITE)
        journal.ack(SITE, AckRequest(3, str(head[1])))
        journal.prune(minute(0) + timedelta(days=400))
        assert [e.seq for e in read_entries(journal)] == [3]
        assert reopen(journal, path).head(SITE) == head


class TestBound:
    def test_acknowledged_entries_leave_half_of_it(self, journal: Journal, path: Path) -> None:
        while path.stat().st_size < BOUND * 5 // 8:
            write(journal, [Alive()] * 500)
            journal = reopen(journal, path)
        last, head = journal.head(SITE)
        journal.ack(SITE, AckRequest(last, str(head)))
        journal.prune(AT)
        entries = read_entries(journal)
        assert entries[-1].seq == last
        assert last // 2 < len(entries) < last
        assert len(entries) == last - entries[0].seq + 1
        assert gaps(journal) == []

    def test_samples_go_first_and_a_gap_says_so(self, journal: Journal, path: Path) -> None:
        write(journal, [UP])
        fill(journal, 10_000)
        entries = read_entries(journal)
        held = Counter(e.kind for e in entries)
        told: Counter[str] = Counter()
        for gap in gaps(journal):
            assert gap.reason == "bound"
            told.update(gap.lost)
        assert told["sample"] > 0
        assert {kind: held[kind] + told[kind] for kind in ("sample", "alive", "verdict")} == {
            "sample": 5_000,
            "alive": 5_000,
            "verdict": 1,
        }
        assert told["alive"] == 0
        seqs = {e.seq for e in entries}
        missing = set(range(1, entries[-1].seq + 1)) - seqs
        covered = {n for gap in gaps(journal) for n in range(gap.from_seq, gap.to_seq + 1)}
        assert len(missing) == told["sample"]
        assert missing <= covered
        assert sorted(e.seq for e in entries if e.kind == "sample")[0] > max(missing)
        assert read_entries(reopen(journal, path)) == entries

    def test_holds_whatever_comes(self, journal: Journal, path: Path) -> None:
        for start in range(0, 48_000, 1_200):
            bodies = [(SAMPLE, Alive(), Alive(), UP)[i % 4] for i in range(1_200)]
            journal.append_many([Draft(SITE, b, BOOT, start + i, minute(start + i)) for i, b in enumerate(bodies)])
            assert path.stat().st_size <= BOUND
        entries = read_entries(journal)
        told: Counter[str] = Counter()
        for gap in gaps(journal):
            told.update(gap.lost)
        held = Counter(e.kind for e in entries)
        assert held["sample"] + told["sample"] == 12_000
        assert held["alive"] + told["alive"] == 24_000
        assert held["verdict"] + told["verdict"] == 12_000
        assert told["verdict"] > 0
        assert journal.held == 0
        assert read_entries(reopen(journal, path)) == entries

    def test_a_dropped_entry_can_still_be_acknowledged_by_its_successor(self, journal: Journal) -> None:
        fill(journal, 10)
        digests = [digest for page in read_all(journal) for digest in page.digests]
        write(journal, [UP], start=10)
        fill(journal, 10_000)
        assert read_all(journal)[0].holes[0] == (2, 2)
        assert journal.ack(SITE, AckRequest(2, digests[1])) == AckAnswer("accepted", 2)
        assert journal.ack(SITE, AckRequest(4, digests[1])) == AckAnswer("refused", 2, "other_head")
