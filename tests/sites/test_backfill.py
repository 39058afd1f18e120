"""A site's journal becomes history: twelve hours without a link, an outage and a power loss inside."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from agent.protocol import Verdict
from agent.protocol.entries import Start
from agent.protocol.journal import AckRequest, Excerpt, open_page, seal_page
from fleet.kit.models import AuditEntry
from sites.models import (
    JournalCursor,
    JournalEntry,
    JournalEnvelope,
    SiteTenure,
    StateInterval,
)
from sites.puller import Puller
from sites.selectors.journal import Reading
from sites.services.backfill import note_acked, note_problem, record_page
from sites.services.reports import record_reports
from sites.services.storage import keep_partitions
from sites.wire import Peer
from tests.sites.builders import polled
from tests.sites.journaled import FIGURES, NOW, OWNER


def test_twelve_hours_without_a_link_with_an_outage_inside(told):
    told.verdict(800, "up")
    told.live(799, 401)
    told.verdict(400.5, "down")
    told.live(400, 371)
    told.verdict(370.5, "up")
    told.live(370, 1)
    assert told.read_all() == 1
    assert told.availability() == [
        ("up", 1500, 400.5, "journal"),
        ("down", 400.5, 370.5, "journal"),
        ("up", 370.5, None, "journal"),
    ]
    assert told.outages() == [(400.5, 370.5, "unknown", "journal")]


def test_power_loss_inside_the_cut_is_down_from_a_minute_after_the_last_word(told):
    told.boots["b"] = NOW - timedelta(minutes=300)
    told.verdict(800, "up")
    told.live(799, 500)
    told.write(299, Start(60_000, "1.0", False, told.boots["b"]), "b")
    told.verdict(298, "up", "b")
    told.live(297, 1, "b")
    told.read_all("b")
    # Across boots clocks are right to a second here, for both agree.
    assert told.availability() == [
        ("up", 1500, 500, "journal"),
        ("unknown", 500, 499, "poll"),
        ("down", 499, 298, "journal"),
        ("up", 298, None, "journal"),
    ]
    assert told.outages() == [(499, 298, "power", "journal")]


def test_an_agent_that_was_restarted_without_a_reboot_was_away_and_nothing_is_said_of_the_site(told):
    told.verdict(800, "up")
    told.live(799, 500)
    told.write(299, Start(1, "1.0", False, told.boots["a"]))
    told.verdict(299, "up")
    told.live(298, 1)
    told.read_all()
    assert told.availability() == [
        ("up", 1500, 500, "journal"),
        ("unknown", 500, 299, "poll"),
        ("up", 299, None, "journal"),
    ]
    assert told.outages() == []


def test_evidence_for_each_interval_leads_to_the_signed_page(told):
    told.verdict(800, "up")
    told.live(799, 401)
    told.verdict(400.5, "down")
    told.live(400, 1)
    told.read_all()
    down = StateInterval.objects.using(OWNER).get(site=told.site, state="down", superseded_at=None)
    proof = down.evidence["journal"]
    envelope = JournalEnvelope.objects.using(OWNER).get(
        site=told.site, from_seq__lte=proof["from_seq"], to_seq__gte=proof["to_seq"]
    )
    page = open_page(bytes(envelope.body), site=told.site.uuid, signing_key=told.public, after=0, prev=None)
    assert page.entries[proof["from_seq"] - 1].body == Verdict("down", NOW)
    assert JournalEntry.objects.using(OWNER).filter(site=told.site).count() == 2  # verdicts; alive stays in its page


def test_superseded_intervals_stay_as_they_were_with_the_time_at_which_they_fell(told):
    before = {
        row.pk: (row.state, row.valid_from, row.valid_to, row.evidence)
        for row in StateInterval.objects.using(OWNER).filter(site=told.site)
    }
    told.verdict(800, "up")
    told.live(799, 1)
    told.read_all()
    for row in StateInterval.objects.using(OWNER).filter(pk__in=before):
        assert (row.state, row.valid_from, row.valid_to, row.evidence) == before[row.pk]
        assert row.superseded_at is not None


def test_a_page_that_comes_twice_or_late_changes_nothing(told):
    told.verdict(800, "up")
    told.live(799, 1)
    page, body = told.page(0, None)
    assert told.record(page, body)
    stands = told.availability()
    assert not told.record(page, body)
    assert told.availability() == stands
    assert JournalEnvelope.objects.using(OWNER).filter(site=told.site).count() == 1


def test_many_pages_give_what_one_would(told):
    told.verdict(719, "up")
    for number in range(10):
        begin = 718 - 70 * number
        told.live(begin, begin - 60)
        told.verdict(begin - 60.5, "down" if number % 2 else "degraded")
        told.live(begin - 61, begin - 69)
    told.write_many((18 - second / 250, FIGURES) for second in range(2500))
    assert told.read_all() >= 3
    states = [state for state, *_ in told.availability()]
    assert states[:6] == ["up", "unknown", "up", "degraded", "down", "degraded"]
    assert len(told.outages()) == 5


def test_the_order_of_polls_and_journal_does_not_matter_for_what_polls_say_afterwards(told):
    record_reports([polled(told.site, "up")], poller="test")
    told.verdict(800, "up")
    told.live(799, 1)
    told.read_all()
    record_reports([polled(told.site, "down")], poller="test")
    standing = told.availability()
    assert [row[0] for row in standing] == ["up", "down"]
    assert standing[-1][2] is None


def test_figures_kept_while_nobody_polled_fill_the_charts(told):
    keep_partitions(NOW)
    told.write(5, FIGURES)
    told.write(4, FIGURES)
    told.read_all()
    with connections[OWNER].cursor() as cursor:
        cursor.execute("SELECT at, cpu_ratio, rtt_ms FROM sample WHERE site_id = %s ORDER BY at", [told.site.pk])
        assert cursor.fetchall() == [
            (NOW - timedelta(minutes=5), 0.5, None),
            (NOW - timedelta(minutes=4), 0.5, None),
        ]


def test_what_a_site_claims_of_the_future_is_not_later_than_now(told):
    told.verdict(800, "up")
    told.live(799, 700)
    page, body = told.page(0, None)
    early = replace(told.anchor(), seq=0)  # the report came before all of it
    told.boots["a"] -= timedelta(days=400)
    far = replace(early, mono_ms=early.mono_ms - round(timedelta(days=400).total_seconds() * 1000))
    assert record_page(page, body, site_id=told.site.pk, identity_id=told.identity.pk, anchor=far)
    assert JournalCursor.objects.using(OWNER).get(site=told.site).last_at <= datetime.now(UTC)
    assert all(begin >= -1 for _, begin, _, _ in told.availability())


def test_a_clock_beyond_all_years_changes_nothing(told):
    told.verdict(800, "up")
    told.live(799, 700)
    page, body = told.page(0, None)
    stands = told.availability()
    wrong = replace(told.anchor(), mono_ms=2**62)
    with pytest.raises(OverflowError):
        record_page(page, body, site_id=told.site.pk, identity_id=told.identity.pk, anchor=wrong)
    assert told.availability() == stands
    assert not JournalEnvelope.objects.using(OWNER).exists()


def test_one_sites_page_that_cannot_be_stored_is_its_own_trouble(told):
    told.verdict(800, "up")
    page, body = told.page(0, None)
    peer, wrong = Peer("", "", ""), replace(told.anchor(), mono_ms=2**62)
    reading = Reading(told.site.pk, told.site.uuid, peer, (), told.identity.pk, told.public, 0, "", 0, wrong)
    assert Puller._is_stored(reading, page, body) is False
    assert "cannot be stored" in JournalCursor.objects.using(OWNER).get(site=told.site).problem
    assert AuditEntry.objects.using(OWNER).filter(action="journal.alarm").count() == 1
    assert Puller._is_stored(replace(reading, anchor=told.anchor()), page, body) is True


def test_a_journal_rewrites_nothing_from_before_its_provider_took_over(told):
    SiteTenure.objects.using(OWNER).filter(site=told.site).update(valid_from=NOW - timedelta(minutes=300))
    told.verdict(800, "down")
    told.live(799, 1)
    told.read_all()
    assert told.availability()[:2] == [("up", 1500, 720, "poll"), ("unknown", 720, 300, "poll")]


def test_a_problem_is_said_with_the_site_and_audited_once(told):
    for _ in range(2):
        problem = "its journal is refused: entry 4 does not follow the one before"
        note_problem(told.site.pk, problem, identity_id=told.identity.pk, alarm=True)
    cursor = JournalCursor.objects.using(OWNER).get(site=told.site)
    assert cursor.problem.startswith("its journal is refused")
    assert cursor.next_at > datetime.now(UTC) + timedelta(minutes=14)
    assert AuditEntry.objects.using(OWNER).filter(action="journal.alarm").count() == 1
    told.verdict(800, "up")
    told.read_all()
    assert JournalCursor.objects.using(OWNER).get(site=told.site).problem == ""


def test_acknowledgements_only_go_forward(told):
    told.verdict(800, "up")
    told.read_all()
    note_acked(told.site.pk, 1, identity_id=told.identity.pk)
    note_acked(told.site.pk, 0, identity_id=told.identity.pk)
    assert JournalCursor.objects.using(OWNER).get(site=told.site).acked == 1


def test_a_centre_that_was_put_back_reads_again_what_it_had_read(told):
    """The short form of tests/flows/test_restored_centre.py: its rows are put back, the agent has gone on."""
    told.verdict(719, "up")
    told.live(718, 500)
    told.read_all()
    rows = {model: list(model.objects.using(OWNER).values()) for model in (JournalCursor, StateInterval)}
    last = told.journal.head(told.site.uuid)[0]
    told.verdict(499.5, "down")
    told.live(499, 400)
    told.verdict(399.5, "up")
    told.live(399, 1)
    told.read_all()
    seq, head = told.journal.head(told.site.uuid)
    assert told.journal.ack(told.site.uuid, AckRequest(seq, head)).state == "accepted"
    stood, outages = told.availability(), told.outages()
    with connections[OWNER].cursor() as cursor:
        cursor.execute("ALTER TABLE edge_sites_stateinterval DISABLE TRIGGER USER")
        cursor.execute("TRUNCATE edge_sites_outage, edge_sites_stateinterval")
        cursor.execute("ALTER TABLE edge_sites_stateinterval ENABLE TRIGGER USER")
        cursor.execute("DELETE FROM edge_sites_journalentry WHERE seq > %s", [last])
        cursor.execute("DELETE FROM edge_sites_journalenvelope WHERE to_seq > %s", [last])
        cursor.execute("DELETE FROM edge_sites_journalcursor")
    for model, values in rows.items():
        model.objects.using(OWNER).bulk_create([model(**row) for row in values])
    told.read_all()
    assert (told.availability(), told.outages()) == (stood, outages)
    assert told.journal.ack(told.site.uuid, AckRequest(seq, head)).state == "unchanged"
    assert not AuditEntry.objects.using(OWNER).filter(action__startswith="journal.").exists()


def test_entries_that_are_gone_are_named_with_the_site(told):
    told.verdict(719, "up")
    told.live(718, 1)
    body = seal_page(without(told.journal.page(told.site.uuid, 0), 3, 9), site=told.site.uuid, signing_key=told.key)
    page = open_page(body, site=told.site.uuid, signing_key=told.public, after=0, prev=None)
    assert told.record(page, body)
    entry = AuditEntry.objects.using(OWNER).get(action="journal.hole")
    assert (entry.object_id, entry.note) == (str(told.site.pk), "entries 4 to 9 are gone")


def without(excerpt: Excerpt, first: int, last: int) -> Excerpt:
    """Without the entries after `first`, up to `last`."""
    kept = excerpt.entries[:first] + excerpt.entries[last:]
    return Excerpt(excerpt.after, excerpt.to, excerpt.head, ((first + 1, last),), kept)
