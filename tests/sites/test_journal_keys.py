"""Hardware that is replaced brings other keys and a journal of its own; the same keys go on where they were."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.journal import Journal
from agent.protocol.entries import Alive
from fleet.kit.models import AuditEntry
from sites.models import JournalCursor, JournalEntry, JournalEnvelope, SiteState
from sites.selectors.journal import Reading, readings
from sites.services.backfill import note_acked, note_problem, record_page
from sites.services.reports import record_reports
from tests.sites.builders import polled
from tests.sites.journaled import NOW, OWNER, SiteWithJournal


def cursor_of(told: SiteWithJournal) -> JournalCursor:
    return JournalCursor.objects.using(OWNER).get(site=told.site)


def report(told: SiteWithJournal, *, boot: str = "a") -> None:
    """What a poll of the site as it is now brings of its journal."""
    seq, head = told.journal.head(told.site.uuid)
    record_reports([polled(told.site, "up")], poller="test")
    SiteState.objects.using(OWNER).filter(site=told.site).update(journal_seq=seq, journal_head=head or "", boot=boot)


def due() -> list[Reading]:
    return readings(poller=0, limit=10)


@pytest.fixture
def replaced(told, tmp_path):
    """A site whose journal was read to its end, and whose hardware was then replaced: a new journal, new keys."""
    told.verdict(800, "up")
    told.live(799, 700)
    told.read_all()
    told.journal.close()
    told.journal = Journal.open(tmp_path / "new.sqlite", bound_bytes=32 << 20)
    told.boots["n"] = NOW - timedelta(minutes=60)
    told.join(Ed25519PrivateKey.generate())
    return told


def test_the_journal_of_new_hardware_is_read_from_its_first_entry(replaced):
    replaced.verdict(5, "up", "n")
    replaced.live(4, 1, "n")
    assert (cursor_of(replaced).seq, cursor_of(replaced).head) == (0, "")
    assert replaced.read_all("n") == 1
    assert cursor_of(replaced).seq == 5
    stored = JournalEntry.objects.using(OWNER).filter(site=replaced.site).order_by("pk")
    old, new = stored.values_list("seq", "identity_id")
    assert (old[0], new[0]) == (1, 1)  # both have a first entry
    assert old[1] != new[1] == replaced.identity.pk
    assert JournalEnvelope.objects.using(OWNER).filter(site=replaced.site).count() == 2


def test_nothing_is_read_of_new_hardware_by_what_was_known_of_the_old(told, tmp_path):
    told.verdict(800, "up")
    told.live(799, 700)
    report(told)
    (reading,) = due()
    assert (reading.identity_id, reading.seq, reading.anchor.seq) == (told.identity.pk, 0, 101)
    told.journal.close()
    told.journal = Journal.open(tmp_path / "new.sqlite", bound_bytes=32 << 20)
    told.join(Ed25519PrivateKey.generate())
    assert due() == []  # the next report ties the new clock to ours
    told.write(1, Alive())
    report(told)
    (reading,) = due()
    assert (reading.identity_id, reading.seq, reading.head, reading.anchor.seq) == (told.identity.pk, 0, "", 1)
    assert cursor_of(told).problem == ""
    assert not AuditEntry.objects.using(OWNER).filter(action="journal.alarm").exists()


def test_a_poll_of_the_old_hardware_that_was_under_way_says_nothing_of_the_new(told):
    report(told)
    late = polled(told.site, "up")
    told.join(Ed25519PrivateKey.generate())
    record_reports([late], poller="test")
    assert SiteState.objects.using(OWNER).get(site=told.site).mono_ms is None


def test_what_new_hardware_wrote_before_it_was_the_site_corrects_nothing(replaced):
    stands = replaced.availability()
    replaced.verdict(50, "down", "n")  # on the bench of the workshop
    replaced.live(49, 1, "n")
    replaced.read_all("n")
    assert replaced.availability() == stands
    assert replaced.outages() == []


def test_new_hardware_corrects_what_came_after_it(replaced):
    JournalCursor.objects.using(OWNER).filter(site=replaced.site).update(since=NOW - timedelta(minutes=55))
    replaced.verdict(50, "down", "n")
    replaced.live(49, 41, "n")
    replaced.verdict(40.5, "up", "n")
    replaced.live(40, 1, "n")
    replaced.read_all("n")
    assert replaced.outages() == [(50, 40.5, "unknown", "journal")]


def test_a_late_page_of_the_old_hardware_changes_nothing(told):
    told.verdict(800, "up")
    page, body = told.page(0)
    old, anchor = told.identity.pk, told.anchor()
    told.join(Ed25519PrivateKey.generate())
    assert not record_page(page, body, site_id=told.site.pk, identity_id=old, anchor=anchor)
    note_problem(told.site.pk, "its journal is refused", identity_id=old, alarm=True)
    note_acked(told.site.pk, 1, identity_id=old)
    cursor = cursor_of(told)
    assert (cursor.identity_id, cursor.seq, cursor.acked, cursor.problem) == (told.identity.pk, 0, 0, "")
    assert not JournalEnvelope.objects.using(OWNER).exists()
    assert not AuditEntry.objects.using(OWNER).filter(action="journal.alarm").exists()


def test_the_same_host_that_joins_again_goes_on_where_it_was(told):
    told.verdict(800, "up")
    told.live(799, 700)
    told.read_all()
    report(told)
    before, key = cursor_of(told), told.identity.pk
    told.join(told.key)
    after = cursor_of(told)
    assert (after.seq, after.head, after.last_at, after.since) == (before.seq, before.head, before.last_at, None)
    assert after.identity_id == told.identity.pk != key
    assert SiteState.objects.using(OWNER).get(site=told.site).mono_ms is not None
    told.live(2, 1)
    assert told.read_all() == 1
    assert cursor_of(told).seq == 103


def test_a_renewed_certificate_changes_nothing(told):
    told.verdict(800, "up")
    told.read_all()
    before = JournalCursor.objects.using(OWNER).filter(site=told.site).values().get()
    told.certify()
    assert JournalCursor.objects.using(OWNER).filter(site=told.site).values().get() == before


def test_old_hardware_that_comes_back_is_read_on_after_what_was_read_of_it(told, tmp_path):
    told.verdict(800, "up")
    told.live(799, 700)
    told.read_all()
    old, journal, head = told.key, told.journal, cursor_of(told).head
    told.join(Ed25519PrivateKey.generate())
    told.journal = Journal.open(tmp_path / "new.sqlite", bound_bytes=32 << 20)
    told.verdict(5, "up")
    told.read_all()
    told.journal.close()
    told.journal = journal
    told.join(old)
    cursor = cursor_of(told)
    assert (cursor.seq, cursor.head) == (101, head)
    assert cursor.since > datetime.now(UTC) - timedelta(minutes=1)
    told.live(2, 1)
    assert told.read_all() == 1
    assert cursor_of(told).seq == 103
